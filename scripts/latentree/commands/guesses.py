"""What the columns of an atlas's cells seem to be: by their names, and by what they hold."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from latentree.atlas.cleaning import labels_of
from latentree.atlas.splitting import split_donors
from latentree.errors import InputError, listed

_MOST_VALUES = 1000
"""A column of more different values names no groups of cells that latentree could use."""

_LEAST_CELLS = 5
_MOST_OTHERS = 8
_FEWEST_DONORS = 6
"""With fewer donors, one or two decide every held-out figure."""

# in the order in which they are preferred
_CELL_TYPE = (
    r"cell_?types?",
    r"(author_?)?cell_?type(_?(annotation|name|label|main|final|major|original))?|.*_cell_?type",
    r"cell_?type.*|annot.*|.*annotation.*|cell_?ontology_?class|cell_?class|cell_?(label|identity|name)s?"
    r"|(bulk_?)?labels?|.*_labels?|class|types?|ident(ity)?",
    r".*sub_?(type|class|cluster)s?.*|.*celltype.*",
    r".*leiden.*|.*louvain.*|.*clusters?(_?\d+)?|seurat_?clusters.*|.*_snn_res_.*",
)
_CLUSTERS = len(_CELL_TYPE) - 1
_CONDITION = (
    r"condition|treatment|stim(ulation|ulus)?|perturbation|disease(_?(status|state))?|diagnosis",
    r".*(condition|treat|stim|disease|perturb|infect|genotype|exposure).*|status|group|time_?point|.*_status",
)
_DONOR = (
    r"donors?(_?id)?|patients?(_?id)?|individual(_?id)?|subject(_?id)?|participant(_?id)?|mouse(_?id)?",
    r".*(donor|patient|individual|subject).*|animal(_?id)?|samples?(_?(id|name))?|specimen.*|orig_?ident"
    r"|bio_?sample.*|replicate.*|sample.*",
)
_SAMPLE = (
    r"samples?(_?(id|name))?|specimen.*|orig_?ident|bio_?sample.*",
    *_DONOR,
)
_BATCH = (
    r"batch(_?(id|name))?",
    r".*batch.*|library(_?(id|name|prep.*))?|.*_?run|lane|chemistry|assay|platform|channel|plate(_?id)?|data_?set|study"
    r"|sequencing_?.*|suspension_?type|protocol|tech(nology)?|method",
)
_TOTAL = (
    r"library_?size|total_?counts|n_?counts?(_?rna)?|n_?umis?|total_?umis?",
    r".*total.*(count|umi|mol|rna|mrna).*|.*library_?size.*|.*n_?(umi|count)s?.*|sum|depth|.*umi_?count.*",
)
_MEANS_NO_TYPE = re.compile(
    r"\W*(un(known|assigned|defined|determined|classified|labell?ed|identified)|none|n/?a|doublets?|multiplets?|ambiguous"
    r"|low[ _-]?quality|debris|other|undef)\W*",
    re.IGNORECASE,
)
_NAMES_CELLS = re.compile(
    r"cell|neuron|mono|lympho|phage|astro|glia|fibro|endothel|epithel|cyte|blast|dendritic|myel"
    r"|(?<![a-z])(nk|p?dc|cd\d+|tregs?)(?![a-z])",
    re.IGNORECASE,
)
_REFERENCE = re.compile(
    r"(ctrl|ctl|control|normal|healthy|wild[ _-]?type|wt|untreated|unstim|unperturbed|vehicle|mock|sham"
    r"|placebo|naive|baseline|non[ _-]?(treated|targeting|infected|disease)|uninfected"
    r"|no[ _-](treatment|stim|disease)).*|.*[ _-](ctrl|controls?|normal|healthy|untreated|vehicle|mock)"
    r"|pbs|dmso|none|neg(ative)?|false|pre|before|reference",
    re.IGNORECASE,
)
_ONTOLOGY_ID = re.compile(r"[A-Za-z]+:\d+")


@dataclass(frozen=True)
class Column:
    """A column of obs whose values name groups of cells.

    Attributes
    ----------
    name
        Of the column.
    values
        Its different values, as text.
    codes
        (n_cells,) position of each cell's value, -1 where it has none.
    """

    name: str
    values: tuple[str, ...]
    codes: np.ndarray

    @cached_property
    def sizes(self) -> np.ndarray:
        """Cells of each value, (n_values,)."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.values))

    @property
    def groups(self) -> int:
        """Values that enough cells have."""
        return int((self.sizes >= _LEAST_CELLS).sum())

    @property
    def words(self) -> str:
        median = int(np.median(self.sizes)) if len(self.sizes) else 0
        return f"{len(self.values)} values, about {median:,} cells each"

    @property
    def gaps(self) -> str:
        """What becomes of cells without a value, where there are any."""
        n_without = int((self.codes < 0).sum())
        return f"; {n_without:,} cells without a value are dropped" if n_without else ""

    @property
    def are_numbers(self) -> bool:
        return all(re.fullmatch(r"-?[\d.]+", value) for value in self.values)

    def lies_in(self, other: "Column") -> bool:
        """Whether all cells of a value have the same value of the other column."""
        both = (self.codes >= 0) & (other.codes >= 0)
        pairs = np.unique(np.stack([self.codes[both], other.codes[both]]), axis=1)
        return pairs.shape[1] == len(np.unique(pairs[0])) and pairs.shape[1] > 0

    def crossing(self, other: "Column") -> int:
        """How many values have enough cells of two values of the other column at least."""
        both = (self.codes >= 0) & (other.codes >= 0)
        sizes = np.zeros((len(self.values), len(other.values)), dtype=np.int64)
        np.add.at(sizes, (self.codes[both], other.codes[both]), 1)
        return int(((sizes >= 2 * _LEAST_CELLS).sum(axis=1) > 1).sum())


@dataclass(frozen=True)
class Guess:
    """What a key of the config could be: a value or None, why, and what else there is."""

    value: str | None
    why: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Columns:
    """The columns of an atlas's cells.

    Attributes
    ----------
    groups
        Those whose values name groups of cells.
    numbers
        Names of those that hold numbers.
    only
        Columns with a single value, and that value.
    """

    groups: tuple[Column, ...]
    numbers: tuple[str, ...]
    only: dict[str, str] = field(default_factory=dict)


def columns_of(obs: pd.DataFrame) -> Columns:
    """Look at all columns of a table of cells."""
    groups, numbers, only = [], [], {}
    for name in dict.fromkeys(obs.columns):
        # of columns of the same name the first
        series = obs.loc[:, obs.columns == name].iloc[:, 0]
        is_number = series.dtype.kind in "iuf"
        if is_number:
            numbers.append(str(name))
        column = _grouping(str(name), series, is_number)
        if column is None:
            continue
        if len(column.values) > 1:
            groups.append(column)
        elif column.values:
            only[column.name] = column.values[0]
    return Columns(tuple(groups), tuple(numbers), only)


def _grouping(name: str, series: pd.Series, is_number: bool) -> Column | None:
    codes, found = pd.factorize(series, use_na_sentinel=True)
    if len(found) > min(_MOST_VALUES, max(2, len(series) // 2)):
        return None
    if is_number and not np.all(np.mod(np.asarray(found, dtype=np.float64), 1) == 0):
        return None
    labels = labels_of(pd.Series(np.asarray(found, dtype=object)))
    values = tuple(sorted({label for label in labels if label is not None}))
    place = {value: position for position, value in enumerate(values)}
    # the last entry stands for the code -1 of a missing value
    lookup = np.array([*(-1 if label is None else place[label] for label in labels), -1])
    return Column(name, values, lookup[codes])


def guess_cell_type(columns: Columns) -> Guess:
    """The column of cell types; clusters only where there is none."""
    ranked = []
    for column in columns.groups:
        tier = _tier(column.name, _CELL_TYPE)
        if _tier(column.name, _CONDITION + _DONOR + _BATCH) is not None and tier is None:
            continue
        if tier in (None, _CLUSTERS) and not column.are_numbers and _speaks_of_cells(column):
            tier = _CLUSTERS - 0.5
        if tier is None or column.groups < 2:
            continue
        if all(_ONTOLOGY_ID.fullmatch(value) for value in column.values):
            tier += len(_CELL_TYPE)
        ranked.append((tier + (len(_CELL_TYPE) if column.are_numbers else 0), -len(column.values), column))
    ranked.sort(key=lambda entry: entry[:2])
    if not ranked:
        single = [f"{name} ({value!r})" for name, value in columns.only.items() if _tier(name, _CELL_TYPE[:3])
                  is not None]  # fmt: skip
        why = "no obs column looks like cell types"
        if single:
            why = f"one value only: {', '.join(single)}; latentree compares cell types and needs at least two"
        return Guess(None, why, _others(columns.groups))
    tier, _, best = ranked[0]
    why = f"{best.words}: {listed(best.values, limit=6)}"
    if tier >= _CLUSTERS:
        why += "; these are clusters or numbers, names of cell types would be easier to read"
    return Guess(best.name, why, _others(column for _, _, column in ranked[1:]))


def _speaks_of_cells(column: Column) -> bool:
    named = sum(_NAMES_CELLS.search(value) is not None for value in column.values)
    return named > 0.3 * len(column.values) and column.groups >= 2


def labels_without_type(column: Column) -> list[str]:
    """Labels that mean no cell type, such as 'unknown'."""
    return [value for value in column.values if _MEANS_NO_TYPE.fullmatch(value)]


def guess_condition(columns: Columns, taken: Sequence[str | None]) -> Guess:
    """A column whose two or few values are what an experiment compares."""
    found = _by_name(columns, _CONDITION, taken, lambda column: 2 <= len(column.values) <= 10)
    if not found:
        return Guess(None, "no obs column looks like a condition (treatment, disease)")
    return Guess(found[0].name, f"{found[0].words}: {listed(found[0].values, limit=6)}", _others(found[1:]))


def guess_reference(condition: Column) -> Guess:
    """The condition that others are compared with: by its name, else the first in order."""
    named = [value for value in condition.values if _REFERENCE.fullmatch(value)]
    first = condition.values[0]
    if not named:
        return Guess(None, f"no value is named like a control, so the first in order is taken: {first!r}")
    return Guess(named[0], "named like a control; the other values are compared with it", tuple(named[1:]))


def guess_sample(columns: Columns, taken: Sequence[str | None], condition: Column) -> Guess:
    """The column of samples: donors seen in several conditions, else samples of one condition each."""
    found = _by_name(columns, _SAMPLE, taken, _repeats)
    if not found:
        return Guess(None, "no obs column looks like samples")
    crossing = {column.name: column.crossing(condition) for column in found}
    # pairs within donors tell more than samples of donors do
    paired = [
        column
        for column in _by_name(columns, _DONOR[:1], taken, _repeats)
        if crossing[column.name] >= max(2, len(column.values) / 2)
    ]
    nested = [column for column in found if column.lies_in(condition)]
    best = (paired or nested or found)[0]
    of = f"each of one {condition.name}"
    if best not in nested:
        several = f"cells of several values of {condition.name}"
        n_paired = crossing[best.name]
        of = f"{n_paired} of them with {several}, to pair" if n_paired else f"few of them with {several}"
    return Guess(best.name, f"{best.words}, {of}", _others(column for column in found if column is not best))


def guess_split(
    columns: Columns, taken: Sequence[str | None], types: Column | None, fractions: tuple[float, float]
) -> Guess:
    """The column of donors to split by, where there are enough of them."""
    found = _by_name(columns, _DONOR, taken, _repeats)
    for column in found:
        if len(column.values) < _FEWEST_DONORS or types is None:
            continue
        known = (column.codes >= 0) & (types.codes >= 0)
        known &= types.sizes[types.codes] >= _LEAST_CELLS
        kept, codes = np.unique(types.codes[known], return_inverse=True)
        donors = np.array(column.values, dtype=object)[column.codes[known]]
        try:
            split_donors(donors, codes, [types.values[code] for code in kept], fractions, 0, column.name)
        except InputError:
            continue
        why = (
            f"{column.words}{column.gaps}; with cells of one donor on both sides of the split, every held-out"
            " figure would be too good"
        )
        return Guess(column.name, why, _others(other for other in found if other is not column))
    if not found:
        return Guess(None, "no obs column looks like donors or samples, so cells are split at random")
    why = (
        f"cells are split at random: fewer than {_FEWEST_DONORS} donors, or cell types that one donor has"
        " alone; held-out figures then speak of new cells of these donors, not of new donors"
    )
    return Guess(None, why, _others(found))


def guess_batch(
    columns: Columns, taken: Sequence[str | None], types: Column | None, condition: Column | None
) -> Guess:
    """The column of technical batches, unless it is one with cell types or with the condition."""
    found = _by_name(columns, _BATCH, taken, _repeats)
    said = []
    for column in found:
        whole = [other for other in (types, condition) if other is not None and column.lies_in(other)]
        if not whole:
            return Guess(
                column.name,
                f"{column.words}{column.gaps}; the VAEs are told them, the report shows how far they mix",
                _others(other for other in found if other is not column),
            )
        said.append(f"{column.name} is within {whole[0].name}: told of it, models would lose that difference")
    return Guess(None, "; ".join(said) or "no obs column looks like technical batches")


def guess_library_size(
    columns: Columns, obs: pd.DataFrame, sums: tuple[np.ndarray, np.ndarray] | None, n_genes: int
) -> Guess:
    """The column of total counts, where the counts in the file do not add up to them.

    Parameters
    ----------
    sums
        Some rows and the sums of their counts, (n_sampled,) each; None where they are not known.
    n_genes
        Genes of the file.
    """
    named = sorted((tier, name) for name in columns.numbers if (tier := _tier(name, _TOTAL)) is not None)
    for _, name in named:
        if sums is None:
            if n_genes < 5000:
                return Guess(
                    name, f"the file has {n_genes:,} genes only, and this looks like totals over all"
                )
            continue
        rows, found = sums
        totals = obs[name].iloc[rows].to_numpy(dtype=np.float64)
        known = np.isfinite(totals) & (totals > 0) & (found > 0)
        if not known.any() or np.mean(totals[known] >= found[known] * (1 - 1e-6)) < 0.99:
            continue
        share = float(np.median(found[known] / totals[known]))
        if share < 0.98:
            return Guess(
                name, f"the file's genes hold {share:.0%} of these totals (median of the cells looked at)"
            )
        return Guess(None, f"the counts add up to {name}")
    if n_genes < 3000:
        why = (
            f"the file has {n_genes:,} genes only, and no obs column looks like totals over all genes: counts"
            " are per 10,000 of these genes"
        )
        return Guess(None, why)
    return Guess(None, "the sum of the counts is taken")


def _tier(name: str, patterns: Sequence[str]) -> float | None:
    """The first pattern that a column's name fits, whatever its case and separators."""
    plain = re.sub(r"[\s.\-]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)).lower().strip("_")
    if plain.endswith("ontology_term_id"):
        return None
    return next((float(n) for n, pattern in enumerate(patterns) if re.fullmatch(pattern, plain)), None)


def _by_name(
    columns: Columns, patterns: Sequence[str], taken: Sequence[str | None], fits: Callable[[Column], bool]
) -> list[Column]:
    named = [
        (tier, column)
        for column in columns.groups
        if column.name not in taken and (tier := _tier(column.name, patterns)) is not None and fits(column)
    ]
    return [column for _, column in sorted(named, key=lambda entry: entry[0])]


def _repeats(column: Column) -> bool:
    """Whether a value is that of many cells."""
    return bool(np.median(column.sizes) >= 2 * _LEAST_CELLS) and column.groups >= 2


def _others(columns: Iterable[Column]) -> tuple[str, ...]:
    """The other columns for a comment, of many the first."""
    shown = [f"{column.name} ({column.words})" for column in columns]
    more = (f"{len(shown) - _MOST_OTHERS} more",) if len(shown) > _MOST_OTHERS else ()
    return (*shown[:_MOST_OTHERS], *more)
