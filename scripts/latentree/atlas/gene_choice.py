"""The modelled genes, chosen on training cells only."""

import warnings
from dataclasses import dataclass
from typing import Literal

import anndata
import numpy as np
from scipy import sparse

from latentree.errors import InputError

Flavour = Literal["seurat_v3", "seurat"]

_SPANS = (0.3, 0.5, 0.8)
"""Shares of the genes that the trend's local fit sees: scanpy's, then wider where it fails."""


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
    scanpy's ``highly_variable_genes``: Stuart et al., Cell 177:1888 (2019) and Satija et al.,
    Nat Biotechnol 33:495 (2015).
    """
    if selection == "seurat_v3" and counts is None:
        raise InputError(
            where, "is seurat_v3, which needs counts, and the atlas has none", "Use auto, seurat or all"
        )
    expressed = _expressed(log_values, training)
    if selection == "all":
        return GeneChoice(expressed, "all")
    if n_genes >= expressed.sum():
        note = (
            f"All {int(expressed.sum())} expressed genes are modelled: no more than the {n_genes} asked for."
        )
        return GeneChoice(expressed, "all", (note,))
    if counts is not None and selection in ("auto", "seurat_v3"):
        found = _seurat_v3(counts[training], expressed, n_genes)
        if found is not None:
            return found
        note = "seurat_v3 could not fit the trend of variance on mean; seurat on log values chose instead."
        return GeneChoice(_seurat(log_values[training], expressed, n_genes), "seurat", (note,))
    return GeneChoice(_seurat(log_values[training], expressed, n_genes), "seurat")


def _expressed(values: sparse.csr_matrix, training: np.ndarray) -> np.ndarray:
    seen = np.zeros(values.shape[1], dtype=bool)
    for row in training:
        seen[values.indices[values.indptr[row] : values.indptr[row + 1]]] = True
    return seen


def _seurat_v3(counts: sparse.csr_matrix, expressed: np.ndarray, n_genes: int) -> GeneChoice | None:
    """None where the local regression fails with every span, as it does on few or much alike genes."""
    for span in _SPANS:
        try:
            score = _score(counts, "seurat_v3", n_genes, span)
        except ValueError:  # what scikit-misc raises for "svddc failed" and its like
            continue
        if np.isfinite(score[expressed]).all():
            notes = (
                (f"seurat_v3 needed a span of {span} instead of {_SPANS[0]}.",) if span != _SPANS[0] else ()
            )
            return GeneChoice(_largest(score, expressed, n_genes), "seurat_v3", notes)
    return None


def _seurat(log_values: sparse.csr_matrix, expressed: np.ndarray, n_genes: int) -> np.ndarray:
    return _largest(_score(log_values, "seurat", n_genes), expressed, n_genes)


def _score(values: sparse.csr_matrix, flavour: Flavour, n_genes: int, span: float = _SPANS[0]) -> np.ndarray:
    """scanpy's normalised variance or dispersion of each gene, (n_genes,)."""
    import scanpy as sc  # slow to import

    column = {"seurat_v3": "variances_norm", "seurat": "dispersions_norm"}[flavour]
    with warnings.catch_warnings():
        # it warns of what is handled here: constant genes and empty bins
        warnings.simplefilter("ignore")
        table = sc.pp.highly_variable_genes(
            anndata.AnnData(values),
            flavor=flavour,
            n_top_genes=n_genes,
            span=span,
            check_values=False,
            inplace=False,
        )
    return table[column].to_numpy(dtype=np.float64)


def _largest(score: np.ndarray, allowed: np.ndarray, n_genes: int) -> np.ndarray:
    """The allowed genes with the largest scores, (n_genes,) bool; the earlier of equal ones."""
    ranked = np.where(allowed, np.nan_to_num(score, nan=-np.inf, posinf=np.inf, neginf=-np.inf), -np.inf)
    order = np.lexsort((np.arange(len(score)), -ranked, ~allowed))
    chosen = np.zeros(len(score), dtype=bool)
    chosen[order[:n_genes]] = True
    return chosen
