"""How sparse the loadings are, without a threshold."""

import numpy as np


def hoyer(loadings: np.ndarray) -> float:
    """Hoyer's sparsity of the factors' loadings (J. Mach. Learn. Res. 5:1457, 2004), averaged over factors.

    For one factor ``(sqrt(n_genes) - l1 / l2) / (sqrt(n_genes) - 1)``: 1 where one gene is loaded, 0
    where all genes are loaded equally. It does not depend on the loadings' scale.

    Parameters
    ----------
    loadings
        Shape (n_genes, n_factors); a factor without any loading has no sparsity and does
        not count. One factor may be given as (n_genes,).

    Returns
    -------
    A number from 0 to 1; nan where no factor has a loading or there is one gene only.
    """
    w = np.abs(np.asarray(loadings, dtype=np.float64))
    w = w.reshape(len(w), -1)
    w = w[:, w.max(axis=0) > 0]
    if w.shape[1] == 0 or len(w) == 1:
        return float("nan")
    # the largest loading becomes 1, so that squares of tiny loadings do not vanish
    w /= w.max(axis=0)
    root = np.sqrt(len(w))
    ratio = w.sum(axis=0) / np.sqrt((w**2).sum(axis=0))
    return float(np.clip((root - ratio) / (root - 1), 0.0, 1.0).mean())
