"""From the tables of all parts to summary.tsv."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from latentree.files import read_table
from latentree.reproduction.records import MEASUREMENT_COLUMNS, NOT_RUN, SUMMARY_COLUMNS, Row
from latentree.reproduction.registry import EXPERIMENTS, experiment_module


def read_measurements(files: Sequence[str | Path]) -> pd.DataFrame:
    """All parts' measurements as one table, seeds as numbers."""
    tables = [table for file in files if len(table := read_table(file))]
    if not tables:
        return pd.DataFrame(columns=MEASUREMENT_COLUMNS)
    together = pd.concat(tables, ignore_index=True)
    return together.assign(seed=together["seed"].astype(int))


def summarise(measurements: pd.DataFrame) -> pd.DataFrame:
    """summary.tsv: every experiment's own rows in the registry's order, then the parts that were not run.

    Parameters
    ----------
    measurements
        Columns of :class:`~latentree.reproduction.records.Measurement`.
    """
    rows: list[Row] = []
    for name in EXPERIMENTS:
        its = measurements[measurements["experiment"] == name]
        missing = its["metric"] == NOT_RUN
        if not its[~missing].empty:
            rows += experiment_module(name).summarise(its[~missing].reset_index(drop=True))
        rows += [_not_run(name, reason) for reason in its.loc[missing, "setting"]]
    return pd.DataFrame([asdict(row) for row in rows], columns=SUMMARY_COLUMNS)


def _not_run(name: str, reason: str) -> Row:
    return Row(
        paper=EXPERIMENTS[name].paper,
        experiment=name,
        setting=reason.partition(":")[0],
        metric="all",
        published="",
        ours_mean=np.nan,
        ours_sd=np.nan,
        n_seeds=0,
        agrees="not comparable",
        explanation=reason.partition(": ")[2],
    )
