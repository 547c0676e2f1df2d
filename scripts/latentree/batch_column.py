"""Batches of cells (donors, runs, chemistries): an obs column as what a model is told about a cell."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from latentree.errors import InputError, listed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KnownBatches:
    """The batches that a fit has seen.

    Parameters
    ----------
    column
        The obs column.
    levels
        Its values among the training cells, sorted, as text.
    shares
        (n_batches,) share of the training cells that each has.
    """

    column: str
    levels: tuple[str, ...]
    shares: tuple[float, ...]

    @classmethod
    def of(cls, obs: pd.DataFrame, column: str, train: np.ndarray) -> Self | None:
        """From the cells that a fit is trained on, the rows ``train`` of ``obs``.

        None, and a warning, where these are all of one batch: half of an atlas may be, and then there is
        nothing to tell.

        Raises
        ------
        InputError
            The column is not there, has gaps, or names cells instead of batches.
        """
        labels = _labels(obs, column)
        levels, counts = np.unique(labels[train], return_counts=True)
        if len(levels) < 2:
            logger.warning(
                "batch: %s is %r for all %d training cells, so the model is told none",
                column,
                str(levels[0]),
                len(train),
            )
            return None
        if len(levels) > len(train) / 2:
            raise InputError(
                f"batch: {column}",
                f"{len(train)} training cells have {len(levels)} different values",
                "Name a column of batches, each of many cells",
            )
        return cls(column, tuple(str(level) for level in levels), tuple(counts / counts.sum()))

    def covariates(self, obs: pd.DataFrame) -> np.ndarray:
        """(n_cells, n_batches) float32: 1 at each cell's batch; the average batch where it is a new one."""
        places = pd.Index(self.levels).get_indexer(pd.Index(_labels(obs, self.column)))
        rows = np.eye(len(self.levels), dtype=np.float32)[places]
        rows[places < 0] = self.shares
        return rows

    def unknown(self, obs: pd.DataFrame) -> list[str]:
        """Values of the column that the fit has not seen."""
        return sorted(set(_labels(obs, self.column)) - set(self.levels))

    def facts(self) -> dict[str, Any]:
        """Ready for JSON; :meth:`from_facts` reads it."""
        return {"column": self.column, "levels": list(self.levels), "shares": list(self.shares)}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        return cls(facts["column"], tuple(facts["levels"]), tuple(facts["shares"]))


def _labels(obs: pd.DataFrame, column: str) -> np.ndarray:
    """The column as text, (n_cells,)."""
    if column not in obs:
        raise InputError(
            f"batch: {column}", f"is no obs column; there are {listed(obs.columns)}", "Name one of these"
        )
    values = obs[column]
    n_missing = int(values.isna().sum())
    if n_missing:
        raise InputError(
            f"batch: {column}",
            f"{n_missing} of {len(values)} cells have no value",
            "Drop these cells, or name their batch",
        )
    return values.astype(str).to_numpy(dtype=str)
