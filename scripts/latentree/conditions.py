"""Factors between conditions, tested over samples: cells of one sample are no replicates of each other."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from latentree.atlas.cleaning import labels_of
from latentree.errors import InputError, listed, nearest
from latentree.scores import LoadedFit, sorted_fits
from latentree.usage import in_units_of_sd

CONDITIONS_COLUMNS = [
    "model", "n_factors", "seed", "factor", "cell_type", "condition", "reference", "effect", "lower", "upper",
    "test", "n_samples", "n_samples_reference", "n_cells", "n_cells_reference", "p_value", "q_value", "note",
]  # fmt: skip
ALL_TYPES = "all"
MIN_CELLS = 10
"""A sample with fewer cells of a type is no measurement of that type."""
FEW_SAMPLES = 4
"""Below this many samples on a side the test finds only effects that are far larger than their spread."""
_MOST_CONDITIONS = 20
_OVER_CELLS = "the effect is over cells, not samples: no p-value"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Design:
    """Which cells are of which condition and sample.

    Parameters
    ----------
    table
        A row per cell by its name that has a condition (and a sample, where a column names them): columns
        condition and sample, text; sample is empty everywhere where no column names samples.
    reference
        The condition that the others are compared with.
    others
        The other conditions, sorted.
    has_samples
        Whether a column names samples.
    """

    table: pd.DataFrame
    reference: str
    others: tuple[str, ...]
    has_samples: bool

    @classmethod
    def of(
        cls, obs: pd.DataFrame, condition: str, sample: str | None = None, reference: str | None = None
    ) -> "Design":
        """From the atlas's table of cells; those without a condition or sample are left out and counted.

        Raises
        ------
        InputError
            A column is not there, the conditions are fewer than two or more than 20, the reference is none
            of them, or the samples are single cells.
        """
        table = pd.DataFrame({"condition": _labels(obs, condition, "condition")}, index=obs.index)
        table["sample"] = "" if sample is None else _labels(obs, sample, "sample")
        kept = table.dropna()
        if len(kept) < len(table):
            _log.warning(
                "note: %d of %d cells without a condition or sample are left out",
                len(table) - len(kept),
                len(table),
            )
        found = sorted(kept["condition"].unique())
        if not 2 <= len(found) <= _MOST_CONDITIONS:
            raise InputError(
                "atlas key condition",
                f"obs column {condition!r} has {len(found)} values: {listed(found)}",
                f"Name a column with 2 to {_MOST_CONDITIONS} conditions, or leave the key out",
            )
        if reference is not None and reference not in found:
            raise InputError(
                "atlas key reference",
                f"{reference!r} is no value of {condition!r}{nearest(reference, found)}; there are"
                f" {listed(found)}",
                "Name one of these",
            )
        n_samples = kept["sample"].nunique()
        if sample is not None and n_samples > len(kept) / 2:
            raise InputError(
                "atlas key sample",
                f"obs column {sample!r} has {n_samples} values for {len(kept)} cells",
                "Name a column of samples, each of many cells",
            )
        first = found[0] if reference is None else reference
        return cls(kept, first, tuple(name for name in found if name != first), sample is not None)


def conditions_table(fits: Sequence[LoadedFit], obs: pd.DataFrame, design: Design) -> pd.DataFrame:
    """Every live factor in every cell type (and over all types): each condition against the reference.

    A sample's value is the mean latent of its cells of the type, in units of the factor's sd over all cells;
    a sample needs 10 of them. Where at least two samples have cells of both conditions (a donor before and
    after), the test is a paired t test over these; otherwise Welch's over all samples. Without two samples
    on each side there is no test, and the effect is the difference between cells.

    Parameters
    ----------
    fits
        Fits of one atlas.
    obs
        The atlas's table of cells.
    design
        Conditions and samples of these cells.

    Returns
    -------
    Columns ``CONDITIONS_COLUMNS``. effect: mean of the condition minus that of the reference, with the 95%
    interval lower to upper over samples; test: ``welch``, ``paired`` or ``none``; n_samples and
    n_samples_reference: those that count; q_value: Benjamini-Hochberg over all tests of the fit. Rows with
    cell_type ``all`` give every type that both conditions have the same weight in every sample, so that
    other shares of the types make no difference.
    """
    tables = []
    for fit in sorted_fits(fits):
        told = _told_away(fit, obs, design)
        latents = pd.DataFrame(
            in_units_of_sd(fit.latents[:, fit.alive]),
            index=fit.cells,
            columns=np.array(fit.factor_names, dtype=object)[fit.alive],
        )
        cells = design.table.reindex(fit.cells).assign(cell_type=fit.cell_types).dropna()
        rows = [
            row
            for other in design.others
            for row in _of_one_condition(latents, cells, other, design.reference, design.has_samples)
        ]
        if rows and latents.shape[1]:
            table = pd.concat(rows, ignore_index=True)
            if told:
                table["note"] = [f"{note}; {told}" if note else told for note in table["note"]]
            tables.append(
                _in_order(table, list(latents.columns)).assign(
                    model=fit.model, n_factors=fit.n_factors, seed=fit.seed, q_value=_q_values
                )[CONDITIONS_COLUMNS]
            )
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=CONDITIONS_COLUMNS)


def _of_one_condition(
    latents: pd.DataFrame, cells: pd.DataFrame, other: str, reference: str, has_samples: bool
) -> Iterator[pd.DataFrame]:
    """Rows of all factors for every type and for all types, of one condition."""
    cells = cells[cells["condition"].isin([reference, other])]
    values = latents.loc[cells.index]
    groups = values.groupby([cells["condition"], cells["cell_type"], cells["sample"]])
    means, sizes = groups.mean(), groups.size()
    by_type = values.groupby([cells["condition"], cells["cell_type"]])
    cell_means, n_cells = by_type.mean(), by_type.size()
    large = means[sizes >= MIN_CELLS] if has_samples else means.iloc[:0]
    small = sizes[sizes < MIN_CELLS].groupby(level="cell_type").size()
    types = sorted(cells["cell_type"].unique())

    def side(table: Any, condition: str, name: str) -> Any:
        """Rows of one condition and type."""
        level = table.index.get_level_values
        return table[(level("condition") == condition) & (level("cell_type") == name)]

    both = [name for name in types if all(len(side(cell_means, c, name)) for c in (reference, other))]
    for name in types:
        sides = [side(large, c, name).droplevel(["condition", "cell_type"]) for c in (other, reference)]
        counts = [int(side(n_cells, c, name).sum()) for c in (other, reference)]
        notes = []
        if has_samples and small.get(name, 0):
            notes.append(f"{small[name]} sample(s) with fewer than {MIN_CELLS} cells left out")
        over_cells = None
        if name in both:
            over_cells = side(cell_means, other, name).sum() - side(cell_means, reference, name).sum()
        yield _rows(sides, counts, over_cells, notes, has_samples).assign(
            cell_type=name, condition=other, reference=reference
        )
    # a cell type of that name would be mistaken for all of them
    if ALL_TYPES not in types:
        of_samples = _over_types(large, other, reference)
        sides = [of_samples[c] for c in (other, reference)]
        counts = [int(sum(side(n_cells, c, name).sum() for name in both)) for c in (other, reference)]
        over_cells = None
        if both:
            shift = [side(cell_means, other, n).sum() - side(cell_means, reference, n).sum() for n in both]
            over_cells = pd.concat(shift, axis=1).mean(axis=1)
        yield _rows(sides, counts, over_cells, [], has_samples).assign(
            cell_type=ALL_TYPES, condition=other, reference=reference
        )


def _over_types(means: pd.DataFrame, other: str, reference: str) -> dict[str, pd.DataFrame]:
    """Samples x factors of each condition: means over the types that samples of both conditions have.

    A type is centred between the two conditions first, so that a sample that lacks it is not set apart.

    Parameters
    ----------
    means
        Indexed by condition, cell_type and sample, a column per factor.
    """
    of_sides = means.groupby(level=["condition", "cell_type"]).mean()
    names = [set(of_sides.xs(c).index) if c in of_sides.index else set() for c in (other, reference)]
    common = sorted(names[0] & names[1])
    kept = means[means.index.get_level_values("cell_type").isin(common)]
    if kept.empty:
        empty = means.iloc[:0].droplevel(["condition", "cell_type"])
        return {other: empty, reference: empty}
    middle = of_sides.groupby(level="cell_type").mean()
    centred = kept - middle.loc[kept.index.get_level_values("cell_type")].to_numpy()
    of_condition = centred.index.get_level_values("condition")
    return {c: centred[of_condition == c].groupby(level="sample").mean() for c in (other, reference)}


def _rows(
    sides: Sequence[pd.DataFrame],
    n_cells: Sequence[int],
    over_cells: pd.Series | None,
    notes: list[str],
    has_samples: bool,
) -> pd.DataFrame:
    """One row per factor.

    Parameters
    ----------
    sides
        Samples x factors, of the condition and of the reference.
    n_cells
        Their numbers of cells.
    over_cells
        Difference between the cells' means by factor, where there is no test; None: a side has no cells.
    notes
        What is to be said already.
    """
    other, reference = sides
    paired = other.index.intersection(reference.index)
    notes = list(notes)
    if len(paired) >= 2:
        left_out = len(other) + len(reference) - 2 * len(paired)
        if left_out:
            notes.append(f"{left_out} sample(s) with cells of one condition only left out")
        sides, test = [other.loc[paired], reference.loc[paired]], "paired"
        found = _paired(sides[0].to_numpy() - sides[1].to_numpy())
    elif min(len(other), len(reference)) >= 2:
        if len(paired):
            notes.append("one sample has cells of both conditions: the two sides are not independent")
        test, found = "welch", _welch(other.to_numpy(), reference.to_numpy())
    else:
        test, found = "none", {}
        if not has_samples:
            notes.append(f"no column of samples is named (atlas key sample): {_OVER_CELLS}")
        else:
            notes.append(
                f"refused, fewer than two samples a side with {MIN_CELLS} cells ({len(other)} and"
                f" {len(reference)}): {_OVER_CELLS}"
            )
        if over_cells is None:
            notes.append("one of the conditions has no cells of the type")
    n_samples = [len(samples) for samples in sides]
    if test != "none" and min(n_samples) < FEW_SAMPLES:
        counted = f"{n_samples[0]} pairs" if test == "paired" else f"{n_samples[0]} and {n_samples[1]}"
        notes.append(f"few samples ({counted}): only effects far above the samples' spread can be found")
    factors = list(other.columns)
    columns = {
        "factor": factors,
        "effect": np.nan if over_cells is None else over_cells.to_numpy(),
        "lower": np.nan,
        "upper": np.nan,
        "p_value": np.nan,
    } | found
    return pd.DataFrame(columns, index=range(len(factors))).assign(
        test=test,
        n_samples=n_samples[0],
        n_samples_reference=n_samples[1],
        n_cells=n_cells[0],
        n_cells_reference=n_cells[1],
        note="; ".join(notes),
    )


def _paired(differences: np.ndarray) -> dict[str, np.ndarray]:
    """Paired t test of differences (n_pairs, n_factors)."""
    n = len(differences)
    error = differences.std(axis=0, ddof=1) / np.sqrt(n)
    return _t_test(differences.mean(axis=0), error, np.full(differences.shape[1], n - 1.0))


def _welch(other: np.ndarray, reference: np.ndarray) -> dict[str, np.ndarray]:
    """Welch's t test of two tables of samples x factors."""
    parts = [side.var(axis=0, ddof=1) / len(side) for side in (other, reference)]
    total = parts[0] + parts[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = total**2 / (parts[0] ** 2 / (len(other) - 1) + parts[1] ** 2 / (len(reference) - 1))
    return _t_test(other.mean(axis=0) - reference.mean(axis=0), np.sqrt(total), freedom)


def _t_test(effect: np.ndarray, error: np.ndarray, freedom: np.ndarray) -> dict[str, np.ndarray]:
    """Effect, its 95% interval and p-value; samples that do not vary at all give NaN."""
    with np.errstate(invalid="ignore", divide="ignore"):
        p_value = np.where(error > 0, 2 * stats.t.sf(np.abs(effect / error), freedom), np.nan)
        half = np.where(error > 0, stats.t.ppf(0.975, freedom) * error, np.nan)
    return {"effect": effect, "lower": effect - half, "upper": effect + half, "p_value": p_value}


def _q_values(table: pd.DataFrame) -> np.ndarray:
    """Benjamini-Hochberg over the rows that have a p-value."""
    p_values = table["p_value"].to_numpy(dtype=np.float64)
    tested = np.isfinite(p_values)
    q_values = np.full(len(table), np.nan)
    if tested.any():
        q_values[tested] = stats.false_discovery_control(p_values[tested])
    return q_values


def _in_order(table: pd.DataFrame, factors: list[str]) -> pd.DataFrame:
    """By factor, all types before the single ones, then by condition."""
    order = table.assign(
        _factor=table["factor"].map({name: i for i, name in enumerate(factors)}),
        _single=table["cell_type"] != ALL_TYPES,
    ).sort_values(["_factor", "_single", "cell_type", "condition"], kind="stable")
    return order.drop(columns=["_factor", "_single"])


def _told_away(fit: LoadedFit, obs: pd.DataFrame, design: Design) -> str:
    """What is to be said where a model was told batches that lie in one condition each."""
    column = (fit.summary.get("batch") or {}).get("column")
    if column is None or column not in obs:
        return ""
    batches = obs.loc[design.table.index, column].astype(str)
    if design.table["condition"].groupby(batches.to_numpy()).nunique().max() > 1:
        return ""
    return (
        f"the model was told {column}, whose values lie in one condition each: what differs between"
        " conditions was taken out of its factors"
    )


def _labels(obs: pd.DataFrame, column: str, key: str) -> np.ndarray:
    if column not in obs:
        raise InputError(
            f"atlas key {key}",
            f"the atlas has no obs column {column!r}{nearest(column, obs.columns)}; there are"
            f" {listed(obs.columns, limit=40)}",
            "Name one of these",
        )
    return labels_of(obs[column])
