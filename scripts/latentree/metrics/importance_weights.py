"""Held-out log-likelihood by importance sampling."""

import numpy as np
from scipy.special import logsumexp


def importance_weighted_per_cell(log_weights: np.ndarray) -> np.ndarray:
    """Estimate of log p(x) of each cell: log of the mean importance weight (Burda et al. 2016, Eq. 8).

    Below log p(x) in expectation, and the nearer the more samples. A model with a deterministic map after its
    Gaussian code (InteL-VAE) has weights in the code's space: log p(x | g(y)) + log p(y) - log q(y | x).

    Parameters
    ----------
    log_weights
        ``log p(x | z_s) + log p(z_s) - log q(z_s | x)`` for samples z_s of q(z | x), in nats, shape
        (n_samples, n_cells).

    Returns
    -------
    Nats, float64 array of shape (n_cells,).

    Raises
    ------
    ValueError
        Without samples, or where a weight is not a number.
    """
    weights = np.asarray(log_weights, dtype=np.float64)
    if weights.ndim != 2 or len(weights) == 0:
        raise ValueError(f"log weights of shape (n_samples, n_cells) are needed, not {weights.shape}")
    if np.isnan(weights).any():
        raise ValueError(f"{np.isnan(weights).sum()} of {weights.size} log weights are not numbers")
    return logsumexp(weights, axis=0) - np.log(len(weights))


def importance_weighted_log_likelihood(log_weights: np.ndarray) -> float:
    """Mean over cells of :func:`importance_weighted_per_cell`, nats per cell.

    With one sample it is an estimate of the evidence lower bound. Parameters and errors as there; nan
    without cells.
    """
    per_cell = importance_weighted_per_cell(log_weights)
    return float(per_cell.mean()) if len(per_cell) else float("nan")
