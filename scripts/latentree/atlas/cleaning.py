"""Labels of cells, names of genes and tables, brought into a shape that can be written and relied on."""

import re
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata.utils import make_index_unique

from latentree.errors import InputError, listed, nearest
from latentree.obs_columns import plain_name

ENSEMBL_ID = re.compile(r"ENS[A-Z]*G\d{6,}(\.\d+)?")
SYMBOL_COLUMNS = (
    "feature_name",
    "gene_symbols",
    "gene_symbol",
    "gene_names",
    "gene_name",
    "symbols",
    "symbol",
    "gene_short_name",
    "hgnc_symbol",
    "mgi_symbol",
    "external_gene_name",
    "features",
    "gene",
    "genes",
)
"""Names under which var columns of gene symbols are known (compared without regard to case)."""

_TEXT_FOR_MISSING = {"", "nan", "NaN", "<NA>"}


def column_of(
    obs: pd.DataFrame, column: str, key: str, shown: str, remedy: str = "Name one of these"
) -> pd.Series:
    """A column of the table of cells; an :class:`InputError` that lists the columns there are otherwise."""
    if column not in obs.columns:
        known = [str(name) for name in obs.columns]
        there = f"columns there are: {listed(known, limit=40)}" if known else "it has no obs columns at all"
        raise InputError(
            key, f"{shown} has no obs column {column!r}{nearest(column, known)}; {there}", remedy
        )
    return obs[column]


def labels_of(column: pd.Series) -> np.ndarray:
    """A column as text, (n_cells,) objects: None where the label is missing, empty or only blanks.

    Integers lose the ".0" that a missing value beside them gives them; every other label stays verbatim.
    """
    categories = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else None
    values = np.asarray(column.astype(object) if categories is None else categories.astype(object))
    text = np.array([_label(value) for value in values], dtype=object)
    if categories is None:
        return text
    # the last entry stands for the code -1 of a missing value
    return np.array([*text, None], dtype=object)[column.cat.codes.to_numpy()]


def _label(value: object) -> str | None:
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float | np.floating):
        if np.isnan(value):
            return None
        if float(value).is_integer():
            return str(int(value))
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return None if text.strip() in _TEXT_FOR_MISSING else text


def clean_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """A table whose every column can be written to h5ad, index and order kept.

    Numbers and booleans stay; everything else becomes a categorical of text, with only the categories
    in use. Of columns with the same name the first stays.
    """
    columns: dict[str, pd.Series] = {}
    for position, name in enumerate(frame.columns):
        text = plain_name(name)
        if text not in columns:
            columns[text] = _clean_column(frame.iloc[:, position])
    return pd.DataFrame(columns, index=frame.index)


def _clean_column(column: pd.Series) -> pd.Series:
    if column.dtype.kind in "biuf" and not isinstance(column.dtype, pd.SparseDtype):
        return column
    labels = labels_of(column)
    categories = sorted({label for label in labels if label is not None})
    return pd.Series(pd.Categorical(labels, categories=categories), index=column.index)


def cell_names(obs: pd.DataFrame, shown: str) -> pd.Index:
    """The cells' names as text.

    Raises
    ------
    InputError
        Names that occur more than once.
    """
    names = pd.Index(obs.index.astype(str)).rename(None)
    repeated = names[names.duplicated(keep="first")]
    if len(repeated):
        raise InputError(
            shown,
            f"{repeated.nunique()} cell names occur more than once ({len(repeated)} cells too many): "
            f"{listed(repeated.unique())}",
            "Make them unique (adata.obs_names_make_unique(), or put the sample before each barcode)",
        )
    return names


@dataclass(frozen=True)
class GeneNames:
    """Names of the genes: unique ``names`` (n_genes,), the ids they had where symbols replaced them."""

    names: pd.Index
    ids: pd.Index | None
    kind: str
    symbol_column: str | None
    n_without_symbol: int
    n_repeated: int


def gene_names(genes: pd.DataFrame, symbol_column: str | None, shown: str, key: str) -> GeneNames:
    """Gene symbols, unique, from a table of genes.

    Where the index holds Ensembl ids (or mere numbers), the symbols come from ``symbol_column`` or from
    the first column with a known name; a gene without symbol keeps its id.

    Raises
    ------
    InputError
        No such column.
    """
    index = pd.Index(genes.index.astype(str)).rename(None)
    share_of_ids = np.mean([bool(ENSEMBL_ID.fullmatch(name)) for name in index])
    are_ids = share_of_ids > 0.5 or all(name.isdigit() for name in index)
    if symbol_column is None and are_ids:
        symbol_column = _find_symbol_column(genes)
    elif symbol_column is not None and symbol_column not in genes.columns:
        known = [str(name) for name in genes.columns]
        raise InputError(
            key,
            f"{shown} has no var column {symbol_column!r}{nearest(symbol_column, known)}; "
            f"columns there are: {listed(known, limit=40) or 'none'}",
            "Name one of these, or leave it empty",
        )
    if symbol_column is None:
        kind = "Ensembl ids" if share_of_ids > 0.5 else "numbers" if are_ids else "symbols"
        unique, n_repeated = _unique(index)
        return GeneNames(unique, None, kind, None, 0, n_repeated)
    symbols = labels_of(genes[symbol_column])
    missing = np.array([symbol is None for symbol in symbols], dtype=bool)
    unique, n_repeated = _unique(pd.Index(np.where(missing, index, symbols).astype(str)))
    return GeneNames(unique, index, "symbols", symbol_column, int(missing.sum()), n_repeated)


def _find_symbol_column(genes: pd.DataFrame) -> str | None:
    by_name = {str(column).lower(): column for column in reversed(list(genes.columns))}
    for name in SYMBOL_COLUMNS:
        column = by_name.get(name)
        if column is not None and any(_is_symbol(label) for label in labels_of(genes[column])):
            return column
    return None


def _is_symbol(label: str | None) -> bool:
    return label is not None and not label.isdigit() and ENSEMBL_ID.fullmatch(label) is None


def _unique(names: pd.Index) -> tuple[pd.Index, int]:
    """Names made unique by -1, -2, ... behind the later ones, and how many were."""
    n_repeated = int(names.duplicated().sum())
    if not n_repeated:
        return names, 0
    with warnings.catch_warnings():
        # it warns of names such as A-1 that were there before, and avoids them
        warnings.simplefilter("ignore")
        return make_index_unique(names), n_repeated


def checked_library_size(obs: pd.DataFrame, column: str, key: str, shown: str) -> np.ndarray:
    """Total counts per cell from an obs column, (n_cells,) float64; NaN where a cell has none that can be.

    Raises
    ------
    InputError
        No such column, or one that does not hold numbers above zero.
    """
    values = column_of(obs, column, key, shown, "Name one of these, or leave it empty")
    try:
        sizes = values.astype("float64").to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        sizes = np.full(len(values), np.nan)
    sizes = np.where(np.isfinite(sizes) & (sizes > 0), sizes, np.nan)
    if np.isnan(sizes).all():
        raise InputError(
            key,
            f"obs column {column!r} of {shown} holds no number above 0 ({values.dtype})",
            "Name a column of total counts, or leave it empty: the sum of the counts is taken then",
        )
    return sizes
