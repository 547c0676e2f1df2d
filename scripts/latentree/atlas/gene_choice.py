"""The modelled genes, chosen on training cells only."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from latentree.atlas.filtering import cells_per_gene, row_blocks
from latentree.errors import InputError

SPANS = (0.3, 0.5, 0.8)
"""Shares of the genes that the trend's local regression sees: Seurat's, then wider where it fails."""

_POINTS = 3
"""A parabola through fewer points is none."""

_N_BINS = 20

Change = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""New values from values and their genes, both (n_values,)."""


@dataclass(frozen=True)
class GeneChoice:
    """``modelled`` (n_genes,) bool, the method that chose it, and sentences on what was unusual."""

    modelled: np.ndarray
    method: str
    notes: tuple[str, ...] = ()


def choose_genes(
    log_values: sparse.csr_matrix,
    counts: sparse.csr_matrix | None,
    training: np.ndarray,
    n_genes: int,
    selection: str,
    where: str,
) -> GeneChoice:
    """Choose the most variable genes of the training cells.

    Genes that no training cell expresses are never modelled.

    Parameters
    ----------
    log_values
        (n_cells, n_genes) float32 CSR, logarithms.
    counts
        (n_cells, n_genes) float32 CSR; None where the atlas has none.
    training
        (n_training,) rows.
    n_genes
        How many; all where there are no more.
    selection
        ``auto``, ``seurat_v3`` (on counts), ``seurat`` (on logarithms) or ``all``.
    where
        How messages call the setting.

    Raises
    ------
    InputError
        ``seurat_v3`` without counts.

    Notes
    -----
    The same choice as scanpy's ``highly_variable_genes`` (Stuart et al., Cell 177:1888, 2019; Satija et
    al., Nat Biotechnol 33:495, 2015), in blocks of cells: scanpy copies the matrix two or three times.
    """
    if selection == "seurat_v3" and counts is None:
        raise InputError(
            where, "is seurat_v3, which needs counts, and the atlas has none", "Use auto, seurat or all"
        )
    cells = np.zeros(log_values.shape[0], dtype=bool)
    cells[training] = True
    expressed = cells_per_gene(log_values, cells) > 0
    if selection == "all":
        return GeneChoice(expressed, "all")
    if n_genes >= expressed.sum():
        note = (
            f"All {int(expressed.sum())} expressed genes are modelled: no more than the {n_genes} asked for."
        )
        return GeneChoice(expressed, "all", (note,))
    if counts is None or selection == "seurat":
        return GeneChoice(_largest(normalised_dispersions(log_values, cells), expressed, n_genes), "seurat")
    for span in SPANS:
        try:
            score = normalised_variances(counts, cells, span)
        except ValueError:  # what scikit-misc raises for "svddc failed" and its like
            continue
        if np.isfinite(score[expressed]).all():
            notes = (f"seurat_v3 needed a span of {span} instead of {SPANS[0]}.",) if span != SPANS[0] else ()
            return GeneChoice(_largest(score, expressed, n_genes), "seurat_v3", notes)
    note = "seurat_v3 could not fit the trend of variance on mean; seurat on log values chose instead."
    score = normalised_dispersions(log_values, cells)
    return GeneChoice(_largest(score, expressed, n_genes), "seurat", (note,))


def normalised_variances(counts: sparse.csr_matrix, cells: np.ndarray, span: float) -> np.ndarray:
    """Seurat v3's score: each gene's variance after scaling by the trend and clipping, (n_genes,).

    ``counts`` (n_cells, n_genes), ``cells`` (n_cells,) bool. The trend is a local regression of
    log10 variance on log10 mean that sees the share ``span`` of the genes.

    Raises
    ------
    ValueError
        The local regression failed, as it does on few or much alike genes.
    """
    from skmisc.loess import loess  # the choice on logarithms works without it

    n = int(cells.sum())
    mean, variance = _mean_and_variance(counts, cells)
    varies = variance > 0
    if span * np.count_nonzero(varies) < _POINTS:
        # scikit-misc ends the process where its regression sees less than one point
        raise ValueError(f"{np.count_nonzero(varies)} genes that vary are too few for a trend")
    trend = np.zeros(len(mean))
    fit = loess(np.log10(mean[varies]), np.log10(variance[varies]), span=span, degree=2)
    fit.fit()
    trend[varies] = fit.outputs.fitted_values
    sd = np.sqrt(10**trend)
    largest = sd * np.sqrt(n) + mean
    total, squares = _sums(counts, cells, lambda values, genes: np.minimum(values, largest[genes]))
    return (n * mean**2 + squares - 2 * total * mean) / ((n - 1) * sd**2)


def normalised_dispersions(log_values: sparse.csr_matrix, cells: np.ndarray) -> np.ndarray:
    """Seurat's score: log dispersion, standardised among genes of like mean, (n_genes,).

    ``log_values`` (n_cells, n_genes) natural logarithms of 1 + x, ``cells`` (n_cells,) bool. NaN for a
    gene that does not vary.
    """
    mean, variance = _mean_and_variance(log_values, cells, lambda values, genes: np.expm1(values))
    mean[mean == 0] = 1e-12
    with np.errstate(divide="ignore"):
        dispersion = np.log(variance / mean)
    dispersion[~np.isfinite(dispersion)] = np.nan
    table = pd.DataFrame(
        {"dispersion": dispersion, "bin": pd.cut(np.log1p(mean), bins=_N_BINS, duplicates="drop")}
    )
    bins = table.groupby("bin", observed=True)["dispersion"]
    average, spread = bins.transform("mean"), bins.transform("std")
    # a gene alone in its bin has no spread to be measured by; its score is 1, as in Seurat
    score = (table["dispersion"] - average) / spread
    return score.where(spread.notna(), table["dispersion"] / average).to_numpy()


def _mean_and_variance(
    values: sparse.csr_matrix, cells: np.ndarray, change: Change | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (n - 1) of each gene over ``cells``, zeros included, (n_genes,) each."""
    n = int(cells.sum())
    total, squares = _sums(values, cells, change)
    mean = total / n
    return mean, np.maximum(squares - n * mean**2, 0) / max(1, n - 1)


def _sums(
    values: sparse.csr_matrix, cells: np.ndarray, change: Change | None
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of each gene's changed values and of their squares over ``cells``, (n_genes,) each."""
    n_genes = values.shape[1]
    total, squares = np.zeros(n_genes), np.zeros(n_genes)
    for _, stored, row_of in row_blocks(values):
        taken = cells[row_of]
        genes = values.indices[stored][taken]
        found = values.data[stored][taken].astype(np.float64)
        if change is not None:
            found = change(found, genes)
        total += np.bincount(genes, weights=found, minlength=n_genes)
        squares += np.bincount(genes, weights=found**2, minlength=n_genes)
    return total, squares


def _largest(score: np.ndarray, allowed: np.ndarray, n_genes: int) -> np.ndarray:
    """The allowed genes with the largest scores, (n_genes,) bool; the earlier of equal ones, NaN last."""
    ranked = np.where(np.isnan(score), -np.inf, score)
    order = np.lexsort((np.arange(len(score)), -ranked, ~allowed))
    chosen = np.zeros(len(score), dtype=bool)
    chosen[order[:n_genes]] = True
    return chosen
