"""Tables of a fit on a measured phenotype: changes with their intervals, and weights."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from latentree.files import join_names
from latentree.tbr.bootstrap import Intervals
from latentree.tbr.estimators import TBRFit


def change_rows(
    fit: TBRFit, intervals: Intervals | None, observed: Collection[str], marks: Mapping[str, Any]
) -> pd.DataFrame:
    """Every latent's change on every branch: one row each, in the order of the tree.

    Columns: those of ``marks``, branch, cell_types_below (names joined by ``;``, see ``joined``),
    latent, change, lower, upper, share_nonzero, bootstrap_unit, n_units, carried_by, note.

    Parameters
    ----------
    observed
        Nodes that have cells.
    marks
        estimator and seed.
    """
    below = cell_types_below(fit, observed)
    names = list(fit.changes.columns)
    carried = fit.branches["carried_by"]
    rows = pd.DataFrame(
        {
            "branch": np.repeat(fit.changes.index.to_numpy(), len(names)),
            "cell_types_below": np.repeat(
                [join_names(below[branch]) for branch in fit.changes.index], len(names)
            ),
            "latent": names * len(fit.changes),
            "change": fit.changes.to_numpy().ravel(),
        }
    )
    known = intervals is not None
    for column in ("lower", "upper", "share_nonzero"):
        rows[column] = getattr(intervals, column).to_numpy().ravel() if known else np.nan
    rows["bootstrap_unit"] = intervals.unit if intervals is not None else ""
    rows["n_units"] = intervals.n_units if intervals is not None else 0
    rows["carried_by"] = np.repeat(carried.to_numpy(), len(names))
    rows["note"] = np.repeat([_note(branch, carried) for branch in fit.changes.index], len(names))
    return rows.assign(**marks)[[*marks, *rows.columns]]


def weight_rows(fit: TBRFit, marks: Mapping[str, Any]) -> pd.DataFrame:
    """Effect of each latent in each environment, and its intercept (latent ``intercept``)."""
    table = fit.weights.assign(intercept=fit.intercepts)
    rows = pd.DataFrame(
        {
            "environment": np.repeat(table.index.to_numpy(), table.shape[1]),
            "latent": np.tile(table.columns.to_numpy(), len(table)),
            "weight": table.to_numpy().ravel(),
        }
    )
    return rows.assign(**marks)


def cell_types_below(fit: TBRFit, observed: Collection[str]) -> dict[str, list[str]]:
    """For each branch the nodes with cells at or below its child, in the order of the tree."""
    tree, known = fit.tree, set(observed)
    below: dict[str, list[str]] = {name: [] for name in tree.names}
    for node in reversed(range(tree.n_nodes)):
        name = tree.names[node]
        mine = ([name] if name in known else []) + below[name]
        below[name] = mine
        if node > 0:
            parent = tree.names[int(tree.parents[node])]
            below[parent] = mine + below[parent]
    return below


def _note(branch: str, carried: pd.Series) -> str:
    """What a branch's row stands for where it is not its own change."""
    if carried[branch] != branch:
        if not carried[branch]:
            return "not identified: no cells below, or above all cells"
        return f"not told apart from the branch to {carried[branch]}, which holds both"
    others = [other for other in carried.index[carried == branch] if other != branch]
    return f"holds also what changes on the branch to {', '.join(others)}" if others else ""
