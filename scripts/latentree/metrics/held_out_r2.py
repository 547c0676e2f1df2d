"""How much of the variance of cells that were not seen a model gives back."""

import numpy as np
import scipy.sparse as sp


def squared_errors(
    x: sp.csr_matrix | np.ndarray,
    reconstruction: np.ndarray,
    centre: np.ndarray,
    scale: np.ndarray | None = None,
) -> tuple[float, float]:
    """Squared errors of a reconstruction and of the training mean; both may be summed over chunks of cells.

    Parameters
    ----------
    x
        Values, shape (n_cells, n_genes).
    reconstruction
        The model's mean, shape (n_cells, n_genes), in the units of ``x``.
    centre
        Means of the training cells, shape (n_genes,).
    scale
        Standard deviations of the training cells, shape (n_genes,): errors are measured in these. A gene with
        standard deviation 0 does not count. None: errors in the units of ``x``.

    Returns
    -------
    Sum over cells and genes of the squared error, of the reconstruction and of ``centre``.
    """
    values = np.asarray(x if isinstance(x, np.ndarray) else x.toarray(), dtype=np.float64)
    weight = np.ones(values.shape[1])
    if scale is not None:
        variance = np.asarray(scale, dtype=np.float64) ** 2
        weight = np.divide(1.0, variance, out=np.zeros_like(variance), where=variance > 0)
    residual = ((values - reconstruction) ** 2).sum(axis=0) @ weight
    total = ((values - centre) ** 2).sum(axis=0) @ weight
    return float(residual), float(total)


def held_out_r2(
    x: sp.csr_matrix | np.ndarray,
    reconstruction: np.ndarray,
    centre: np.ndarray,
    scale: np.ndarray | None = None,
) -> float:
    """1 - squared error of the reconstruction / squared error of the training mean, over cells and genes.

    1 is perfect, 0 is no better than the mean of the training cells; below 0 is worse than that.
    Parameters as in :func:`squared_errors`; nan where ``x`` equals the mean.
    """
    residual, total = squared_errors(x, reconstruction, centre, scale)
    return 1.0 - residual / total if total > 0 else float("nan")
