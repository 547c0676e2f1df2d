"""Exact zeros of the loadings."""

import numpy as np


def zero_share(loadings: np.ndarray) -> float:
    """The share of loadings that are exactly zero, over all factors, dead ones too.

    Parameters
    ----------
    loadings
        Shape (n_genes, n_factors).
    """
    return float(np.mean(np.asarray(loadings) == 0))


def active_gene_counts(loadings: np.ndarray) -> np.ndarray:
    """The number of genes with a loading other than zero, of each factor.

    Parameters
    ----------
    loadings
        Shape (n_genes, n_factors).

    Returns
    -------
    int64 array of shape (n_factors,).
    """
    return np.count_nonzero(loadings, axis=0).astype(np.int64)
