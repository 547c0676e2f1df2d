"""How far the changes of a fit would move with other donors or other cells."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from latentree.errors import InputError
from latentree.seeds import derive_seed
from latentree.tbr.estimators import TBRFit
from latentree.tbr.resolving import solve_again
from latentree.tbr_phenotype import donors_by_value

LEVEL = 0.95


@dataclass(frozen=True)
class Intervals:
    """Percentile intervals of the changes; what phi was trained on stays as it is.

    Parameters
    ----------
    lower, upper
        Branches x latents, like ``TBRFit.changes``: 2.5th and 97.5th percentile over replicates.
    share_nonzero
        Share of replicates in which the change is not zero.
    unit
        What was drawn: ``donors`` or ``cells``.
    n_units
        How many of them there are.
    n_replicates
        How many draws were made.
    """

    lower: pd.DataFrame
    upper: pd.DataFrame
    share_nonzero: pd.DataFrame
    unit: Literal["donors", "cells"]
    n_units: int
    n_replicates: int


def bootstrap_changes(
    fit: TBRFit,
    Z: np.ndarray,
    y: np.ndarray,
    environments: np.ndarray,
    *,
    donors: np.ndarray | None = None,
    binary: bool = False,
    n_replicates: int = 200,
    seed: int = 0,
) -> Intervals:
    """Draw donors (or cells) again and solve the weights again each time; the latents stay.

    Whole donors are drawn where they are known, because cells of one donor are alike: within the groups
    of donors that have the same value of a binary phenotype, so that no replicate loses a value. Else
    cells are drawn within their environments. The intervals hold neither what another phi would find
    nor, for cells, what other donors would show.

    Parameters
    ----------
    fit
        The fit whose changes are asked about.
    Z
        Its latents of the cells that it was trained on, (n_cells, n_latents).
    y, environments, donors
        (n_cells,) each, of the same cells.
    binary
        Whether y holds two values.
    n_replicates
        Draws.

    Raises
    ------
    InputError
        Fewer than two replicates are asked for, or no other donor can be drawn in the place of one.
    """
    if n_replicates < 2:
        raise InputError(
            "n_bootstrap", f"{n_replicates} draws give no interval", "Draw at least 2, or 0 for none"
        )
    draw, n_units = _drawing(y, environments, donors, binary)
    rng = np.random.default_rng(derive_seed(seed, "tbr", "bootstrap"))
    replicates = []
    for _ in range(n_replicates):
        solved = solve_again(fit, Z, y, environments, draw(rng))
        replicates.append(solved.changes.to_numpy())
    drawn = np.stack(replicates)
    tail = 50 * (1 - LEVEL)
    lower, upper = np.percentile(drawn, [tail, 100 - tail], axis=0)

    def table(values: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(values, index=fit.changes.index, columns=fit.changes.columns)

    return Intervals(
        lower=table(lower),
        upper=table(upper),
        share_nonzero=table((drawn != 0).mean(axis=0)),
        unit="cells" if donors is None else "donors",
        n_units=n_units,
        n_replicates=len(drawn),
    )


def _drawing(
    y: np.ndarray, environments: np.ndarray, donors: np.ndarray | None, binary: bool
) -> tuple[Callable[[np.random.Generator], np.ndarray], int]:
    """A function that draws float64 (n_cells,) how often each cell counts, and the number of units."""
    if donors is None:
        return _drawn_within(pd.factorize(environments)[0], np.arange(len(y))), len(y)
    names, number = np.unique(donors.astype(str), return_inverse=True)
    groups = donors_by_value(y, donors.astype(str), "binary" if binary else "continuous")
    lonely = next((group[0] for group in groups if len(group) == 1), None)
    if lonely is not None:
        of_value = " with one of the values" if len(groups) > 1 else ""
        raise InputError(
            "tbr.phenotype.donor",
            f"all training cells{of_value} are of one donor, {lonely!r}, so every draw holds it",
            "Leave donor out: cells are drawn then, and the intervals say nothing about other donors",
        )
    group = {name: i for i, members in enumerate(groups) for name in members}
    return _drawn_within(np.array([group[name] for name in names]), number), len(names)


def _drawn_within(
    strata: np.ndarray, unit_of_cell: np.ndarray
) -> Callable[[np.random.Generator], np.ndarray]:
    """Draw units with replacement, as many of each stratum as it has.

    ``strata`` (n_units,) is each unit's stratum, ``unit_of_cell`` (n_cells,) each cell's unit.
    """
    members = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]

    def draw(rng: np.random.Generator) -> np.ndarray:
        counts = np.zeros(len(strata))
        for units in members:
            np.add.at(counts, rng.choice(units, len(units)), 1.0)
        drawn: np.ndarray = counts[unit_of_cell]
        return drawn

    return draw
