"""Cells and genes dropped and counted, and the normalisation, on CSR matrices in blocks of rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import sparse

from latentree.atlas.stored import BLOCK
from latentree.settings import PreprocessSettings

COUNTS_PER_CELL = 10_000
"""What every cell's counts are scaled to before the logarithm."""


@dataclass
class Ledger:
    """Which cells are kept, (n_cells,) bool, and how many went for which reason."""

    keep: np.ndarray
    dropped: dict[str, int] = field(default_factory=dict)

    def drop(self, cells: np.ndarray, reason: str) -> None:
        """Drop those of ``cells`` (n_cells,) bool that are still kept."""
        n_cells = int(np.count_nonzero(self.keep & cells))
        if n_cells:
            self.dropped[reason] = self.dropped.get(reason, 0) + n_cells
            self.keep = self.keep & ~cells


@dataclass(frozen=True)
class Filtered:
    """Genes kept, (n_genes,) bool, and the cell types that went (rows of qc.json)."""

    genes: np.ndarray
    dropped_types: list[dict[str, str | int]]


def filter_atlas(
    values: sparse.csr_matrix,
    labels: np.ndarray,
    ledger: Ledger,
    ignored: Sequence[str],
    preprocess: PreprocessSettings,
    min_cells_per_type: int,
) -> Filtered:
    """Drop cells without type, small types, rare genes and poor cells, until all limits hold together.

    Parameters
    ----------
    values
        (n_cells, n_genes) CSR without stored zeros.
    labels
        (n_cells,) cell types, None where there is none.
    ledger
        The cells kept so far; what goes is taken off and counted there.
    ignored
        Labels that mean no type.
    preprocess
        ``min_cells_per_gene`` and ``min_genes_per_cell``.
    min_cells_per_type
        Types with fewer cells go.
    """
    ledger.drop(np.array([label is None for label in labels], dtype=bool), "no cell type")
    rows = _ignored_types(labels, ignored)
    ledger.drop(np.isin(labels, [str(row["cell_type"]) for row in rows]), "ignored cell type")
    genes = np.ones(values.shape[1], dtype=bool)
    while True:
        before = int(ledger.keep.sum())
        poor = genes_per_cell(values, genes) < preprocess.min_genes_per_cell
        ledger.drop(poor, f"fewer than {preprocess.min_genes_per_cell} genes (min_genes_per_cell)")
        small = _small_types(labels, ledger.keep, min_cells_per_type, known=rows)
        ledger.drop(
            np.isin(labels, [str(row["cell_type"]) for row in small]),
            f"cell type with fewer than {min_cells_per_type} cells (min_cells_per_type)",
        )
        rows += small
        rare = cells_per_gene(values, ledger.keep) < preprocess.min_cells_per_gene
        # a dropped gene can make a cell poor, and a dropped cell a gene rare or a type small
        if not (genes & rare).any() and int(ledger.keep.sum()) == before:
            return Filtered(genes, sorted(rows, key=lambda row: str(row["cell_type"])))
        genes &= ~rare


def _ignored_types(labels: np.ndarray, ignored: Sequence[str]) -> list[dict[str, str | int]]:
    counts = pd.Series(labels, dtype=object).value_counts()
    return [
        {"cell_type": name, "n_cells": int(counts[name]), "reason": "in ignore_cell_types"}
        for name in sorted(set(ignored))
        if name in counts.index
    ]


def _small_types(
    labels: np.ndarray, keep: np.ndarray, smallest: int, known: Sequence[dict[str, str | int]]
) -> list[dict[str, str | int]]:
    counts = pd.Series(labels[keep], dtype=object).value_counts()
    found = set(pd.Series(labels, dtype=object).dropna()) - {row["cell_type"] for row in known}
    return [
        {"cell_type": name, "n_cells": int(counts.get(name, 0)), "reason": f"fewer than {smallest} cells"}
        for name in sorted(found)
        if counts.get(name, 0) < smallest
    ]


def row_blocks(matrix: sparse.csr_matrix) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Blocks of whole rows of about ``BLOCK`` values: slice of rows, slice of values, row of each value.

    The row of each value, (n_values,), is its place in the whole matrix.
    """
    n_cells, start = matrix.shape[0], 0
    while start < n_cells:
        limit = int(np.searchsorted(matrix.indptr, matrix.indptr[start] + BLOCK, side="right")) - 1
        stop = min(max(start + 1, limit), n_cells)
        lengths = np.diff(matrix.indptr[start : stop + 1])
        stored = slice(int(matrix.indptr[start]), int(matrix.indptr[stop]))
        yield slice(start, stop), stored, np.repeat(np.arange(start, stop), lengths)
        start = stop


def genes_per_cell(values: sparse.csr_matrix, genes: np.ndarray) -> np.ndarray:
    """How many of the ``genes`` (n_genes,) bool each cell expresses, (n_cells,) int64."""
    found = np.zeros(values.shape[0], dtype=np.int64)
    for rows, stored, row_of in row_blocks(values):
        counted = row_of[genes[values.indices[stored]]] - rows.start
        found[rows] = np.bincount(counted, minlength=rows.stop - rows.start)
    return found


def cells_per_gene(values: sparse.csr_matrix, cells: np.ndarray) -> np.ndarray:
    """How many of the ``cells`` (n_cells,) bool express each gene, (n_genes,) int64."""
    found = np.zeros(values.shape[1], dtype=np.int64)
    for _, stored, row_of in row_blocks(values):
        found += np.bincount(values.indices[stored][cells[row_of]], minlength=values.shape[1])
    return found


def sums_per_cell(values: sparse.csr_matrix) -> np.ndarray:
    """The sum of each cell's values in double precision, (n_cells,) float64."""
    found = np.zeros(values.shape[0])
    for rows, stored, row_of in row_blocks(values):
        n_rows = rows.stop - rows.start
        found[rows] = np.bincount(row_of - rows.start, weights=values.data[stored], minlength=n_rows)
    return found


def keep_in_place(values: sparse.csr_matrix, cells: np.ndarray, genes: np.ndarray) -> sparse.csr_matrix:
    """``values[cells][:, genes]`` in the memory of ``values``, which must not be used afterwards.

    Slicing would hold two or three matrices at once.
    """
    if cells.all() and genes.all():
        return values
    column = np.cumsum(genes, dtype=values.indices.dtype) - 1
    per_cell = np.zeros(values.shape[0], dtype=np.int64)
    end = 0
    for rows, stored, row_of in row_blocks(values):
        indices, data = values.indices[stored], values.data[stored]
        kept = genes[indices] & cells[row_of]
        per_cell[rows] = np.bincount(row_of[kept] - rows.start, minlength=rows.stop - rows.start)
        start, end = end, end + int(kept.sum())
        # what is kept never reaches beyond what was read
        values.indices[start:end] = column[indices[kept]]
        values.data[start:end] = data[kept]
    indptr = np.concatenate([[0], np.cumsum(per_cell[cells])]).astype(values.indptr.dtype)
    parts = (values.data[:end], values.indices[:end], indptr)
    kept_values = sparse.csr_matrix(parts, shape=(int(cells.sum()), int(genes.sum())), copy=False)
    # a small remainder should not hold on to the memory of the whole
    return kept_values.copy() if end < values.data.size // 2 else kept_values


def log1p_cp10k(values: sparse.csr_matrix, library_size: np.ndarray, *, in_place: bool) -> sparse.csr_matrix:
    """log(1 + values per 10,000 of the cell's library), (n_cells, n_genes) float32 CSR.

    ``library_size`` (n_cells,) totals above 0. The result shares the indices of ``values``; its data too
    where ``in_place`` says so.
    """
    scale = COUNTS_PER_CELL / library_size
    data = values.data if in_place else np.empty_like(values.data)
    for _, stored, row_of in row_blocks(values):
        data[stored] = np.log1p(values.data[stored] * scale[row_of])
    return sparse.csr_matrix((data, values.indices, values.indptr), shape=values.shape, copy=False)
