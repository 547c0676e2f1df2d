"""Pictures of experiments: each draws its own samples."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from latentree.files import read_table
from latentree.plots.style import save_sentence
from latentree.reproduction.registry import experiment_module


def draw_experiment(name: str, files: Sequence[str | Path], path: str | Path) -> None:
    """Draw an experiment's samples of all parts that ran.

    Parameters
    ----------
    files
        The parts' tables of samples; those of parts that were not run are empty.
    path
        SVG to write.
    """
    tables = [table for file in files if Path(file).stat().st_size > 1 and len(table := read_table(file))]
    if tables:
        experiment_module(name).draw(pd.concat(tables, ignore_index=True), Path(path))
    else:
        save_sentence("Nothing to draw: no part of this experiment was run.", path)
