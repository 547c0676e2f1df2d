"""A phenotype that a lab measured: an obs column as numbers, its donors, and what can be learnt from it.

Outside the package tbr, so that it can be read and checked early without torch.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from latentree.atlas.cleaning import labels_of
from latentree.errors import InputError, listed, nearest
from latentree.tbr_config import PhenotypeConfig

FEW_DONORS = 4
"""Below this many donors (or donors of one phenotype) an interval over donors means little."""
_COLUMN = "tbr.phenotype.column"


@dataclass(frozen=True)
class MeasuredPhenotype:
    """A phenotype as numbers, for the cells that have one.

    Parameters
    ----------
    column
        The obs column.
    kind
        ``continuous``, or ``binary``: y is 0 or 1.
    values
        Binary: what 0 and 1 stand for, as text; empty otherwise.
    y
        float64 (n_cells,), of the cells in ``rows``.
    donors
        (n_cells,) names as text; None where no column of donors was named.
    rows
        int64 (n_cells,): the rows of obs that have a phenotype, and a donor where donors count.
    notes
        What was decided and dropped, in sentences without a full stop.
    """

    column: str
    kind: Literal["continuous", "binary"]
    values: tuple[str, ...]
    y: np.ndarray
    donors: np.ndarray | None
    rows: np.ndarray
    notes: tuple[str, ...]

    @property
    def description(self) -> str:
        """``condition (1: 'stim', 0: 'ctrl')``, for tables."""
        if self.kind == "continuous":
            return self.column
        return f"{self.column} (1: {self.values[1]!r}, 0: {self.values[0]!r})"


def measured_phenotype(obs: pd.DataFrame, settings: PhenotypeConfig) -> MeasuredPhenotype:
    """The column that the config names, as numbers.

    Two different values of any kind make a binary phenotype, more than two numbers a continuous one.
    Cells without a value, or without a donor where donors are named, are left out and counted.

    Parameters
    ----------
    obs
        The atlas's table of cells, (n_cells_of_the_atlas, ...).
    settings
        column, positive and donor are used.

    Raises
    ------
    InputError
        The column is absent, empty or constant, holds more than two labels, or ``positive`` is none
        of its values.
    """
    name = str(settings.column)
    column = _column(obs, name, _COLUMN)
    is_number = column.dtype.kind in "iuf"
    labels = labels_of(column)
    missing = np.array([label is None for label in labels])
    if is_number:
        missing |= ~np.isfinite(column.to_numpy(dtype=np.float64))
    notes = []
    if missing.any():
        notes.append(f"{int(missing.sum())} of {len(obs)} cells have no value of {name} and are left out")
    donors = None
    if settings.donor is not None:
        donors = labels_of(_column(obs, settings.donor, "tbr.phenotype.donor"))
        lacking = np.array([donor is None for donor in donors]) & ~missing
        if lacking.any():
            notes.append(f"{int(lacking.sum())} cells have no {settings.donor} and are left out")
        missing |= lacking
    rows = np.flatnonzero(~missing)
    found = sorted(set(labels[rows].tolist()))
    if len(found) < 2:
        held = f"holds {found[0]!r} only" if found else "holds no value at all"
        raise InputError(
            _COLUMN, f"{name!r} {held} ({len(rows)} cells)", "Name a column that varies between cells"
        )
    if len(found) > 2 and not is_number:
        raise InputError(
            _COLUMN,
            f"{name!r} has {len(found)} values that are no numbers: {listed(found)}",
            "Name a column of two values or of numbers; numbers kept as text must be stored as numbers",
        )
    kept = None if donors is None else donors[rows]
    if len(found) > 2:
        if settings.positive is not None:
            raise InputError(
                "tbr.phenotype.positive",
                f"{settings.positive!r} is given, but {name!r} holds {len(found)} different numbers",
                "Leave positive out, or name a column of two values",
            )
        y = column.to_numpy(dtype=np.float64)[rows]
        return MeasuredPhenotype(name, "continuous", (), y, kept, rows, tuple(notes))
    if is_number:
        found.sort(key=float)
    positive = _positive(found, settings.positive, name)
    negative = next(value for value in found if value != positive)
    said = "" if settings.positive is not None else ", the last in order"
    notes.insert(0, f"{name}: {positive!r} counts as 1{said}, {negative!r} as 0")
    y = (labels[rows] == positive).astype(np.float64)
    return MeasuredPhenotype(name, "binary", (negative, positive), y, kept, rows, tuple(notes))


def by_cell_type(phenotype: MeasuredPhenotype, obs: pd.DataFrame) -> pd.DataFrame:
    """What each cell type can tell about the phenotype, one row per type.

    Columns cell_type, n_cells, n_train (with a phenotype), n_donors (0: no column), mean and sd over
    the training cells (binary: mean is the share of 1), n_smallest (binary: training cells of the
    rarer value), note.

    Parameters
    ----------
    obs
        The same table as :func:`measured_phenotype` had, with cell_type and split.
    """
    mine = obs.iloc[phenotype.rows]
    types = mine["cell_type"].astype(str).to_numpy()
    train = _is_training(mine)
    rows = []
    for name in sorted(set(obs["cell_type"].dropna().astype(str))):
        here = types == name
        y = phenotype.y[here & train]
        donors = 0 if phenotype.donors is None else len(set(phenotype.donors[here].tolist()))
        smallest = int(min((y == 0).sum(), (y == 1).sum())) if phenotype.kind == "binary" else len(y)
        constant = len(y) > 0 and y.std() == 0
        note = "no training cell has a phenotype" if len(y) == 0 else ""
        if constant:
            note = "the phenotype is constant: no effect is identified in this type"
        rows.append(
            {
                "cell_type": name,
                "n_cells": int(here.sum()),
                "n_train": len(y),
                "n_donors": donors,
                "mean": float(y.mean()) if len(y) else np.nan,
                "sd": float(y.std()) if len(y) else np.nan,
                "n_smallest": smallest,
                "note": note,
            }
        )
    return pd.DataFrame(rows)


def cautions(phenotype: MeasuredPhenotype, types: pd.DataFrame, obs: pd.DataFrame) -> list[str]:
    """What limits every result on this phenotype, in sentences without a full stop.

    Parameters
    ----------
    types
        Result of :func:`by_cell_type`.
    obs
        The atlas's table of cells, with split.
    """
    said = []
    with_cells = types[types["n_train"] > 0]
    constant = with_cells.loc[with_cells["sd"] == 0, "cell_type"].tolist()
    if len(constant) == len(with_cells):
        said.append(
            f"{phenotype.column} never varies within a cell type: it cannot be told from the types, and no"
            " effect"
            " within a type is identified"
        )
    elif constant:
        said.append(
            f"{phenotype.column} is constant in {len(constant)} cell type(s) ({listed(constant)}): no"
            " effect is"
            " identified there, and changes on their branches mean nothing"
        )
    return said + _donor_cautions(phenotype, obs)


def _donor_cautions(phenotype: MeasuredPhenotype, obs: pd.DataFrame) -> list[str]:
    if phenotype.donors is None:
        return [
            "No column of donors is named (tbr.phenotype.donor): intervals draw single cells, and since"
            " cells of"
            " one donor are alike they are too narrow"
        ]
    said = []
    train = _is_training(obs.iloc[phenotype.rows])
    # the bootstrap draws training cells' donors only
    donors = phenotype.donors[train]
    groups = donors_by_value(phenotype.y[train], donors, phenotype.kind)
    fewest = min((len(group) for group in groups), default=0)
    if fewest < FEW_DONORS:
        of_value = f", {fewest} with one of the values" if len(groups) > 1 else ""
        said.append(
            f"{len(set(donors.tolist()))} donors with training cells{of_value}: below {FEW_DONORS} an"
            " interval over donors means little, and a difference between donors cannot be told from an"
            " effect"
        )
    if fewest < 2:
        said.append(
            "Where one donor has all training cells, or all with one of the values, donors cannot be drawn:"
            " intervals draw single cells, and since cells of one donor are alike they are too narrow"
        )
    if "split" in obs:
        tested = obs["split"].astype(str).to_numpy()[phenotype.rows] == "test"
        if set(phenotype.donors[tested].tolist()) & set(donors.tolist()):
            said.append(
                "Test cells come from donors that were trained on: the scores hold for new cells of these"
                " donors, not"
                " for new donors (atlas key split_by)"
            )
    return said


def donors_by_value(y: np.ndarray, donors: np.ndarray, kind: str) -> list[list[str]]:
    """Donors in groups that are drawn from separately.

    One group per value where every donor has a single value of a binary phenotype, so that no draw
    loses a value; else all donors are one group. Names sorted.
    """
    values = pd.Series(y).groupby(pd.Series(donors).to_numpy())
    if kind == "binary" and (values.nunique() == 1).all():
        first = values.first()
        return [sorted(first.index[first == value].tolist()) for value in sorted(first.unique())]
    return [sorted(set(donors.tolist()))]


def _is_training(obs: pd.DataFrame) -> np.ndarray:
    if "split" not in obs:
        return np.ones(len(obs), dtype=bool)
    return np.asarray(obs["split"].astype(str) == "train")


def _column(obs: pd.DataFrame, name: str, key: str) -> pd.Series:
    if name not in obs:
        known = [str(column) for column in obs.columns]
        raise InputError(
            key,
            f"the atlas has no obs column {name!r}{nearest(name, known)}; there are"
            f" {listed(known, limit=40)}",
            "Name one of these",
        )
    return obs[name]


def _positive(found: list[str], asked: str | None, name: str) -> str:
    if asked is None:
        return found[-1]
    if asked not in found:
        raise InputError(
            "tbr.phenotype.positive",
            f"{asked!r} is no value of {name!r}{nearest(asked, found)}; there are {listed(found)}",
            "Name one of these, or leave it out for the last in order",
        )
    return asked
