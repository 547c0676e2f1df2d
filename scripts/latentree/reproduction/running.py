"""One job: a part of an experiment, or the sentence that says why it could not run."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from latentree.reproduction.records import MEASUREMENT_COLUMNS, NOT_RUN, Measurement, Outcome, Scale
from latentree.reproduction.registry import EXPERIMENTS, experiment_module
from latentree.reproduction.sources import MOVIELENS


def run_part(experiment: str, part: str, scale: Scale) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run a part: its measurements, and its samples to draw (empty where it draws nothing).

    Where a file that it needs is absent, the only measurement has the metric ``not_run`` and its setting is
    the part's name and the reason.
    """
    absent = [name for name in EXPERIMENTS[experiment].part(part).needs if not _there(name, scale)]
    if absent:
        reason = f"{part}: not run: no data ({', '.join(absent)})"
        outcome = Outcome([Measurement(experiment, reason, "", NOT_RUN, 0, np.nan)])
    else:
        given = experiment_module(experiment).run(part, scale)
        outcome = given if isinstance(given, Outcome) else Outcome(given)
    measurements = pd.DataFrame([asdict(one) for one in outcome.measurements], columns=MEASUREMENT_COLUMNS)
    return measurements, pd.DataFrame() if outcome.samples is None else outcome.samples


def _there(name: str, scale: Scale) -> bool:
    file = scale.movielens if name == MOVIELENS else scale.data and Path(scale.data, name)
    return file is not None and Path(file).is_file()
