"""Mean correlation coefficient between true and estimated latents, and what chance reaches."""

import functools

import numpy as np
from scipy.optimize import linear_sum_assignment

_DRAWS = 4000
_BATCH = 500


def correlations(Z: np.ndarray, Z_hat: np.ndarray) -> np.ndarray:
    """Pearson correlations of every column of ``Z`` with every column of ``Z_hat``.

    A constant column correlates 0 with everything.

    Parameters
    ----------
    Z, Z_hat
        Arrays of shape (n_cells, n_latents) and (n_cells, n_estimated).

    Returns
    -------
    Array of shape (n_latents, n_estimated).
    """
    Z, Z_hat = np.asarray(Z, dtype=np.float64), np.asarray(Z_hat, dtype=np.float64)
    if Z.ndim != 2 or Z_hat.ndim != 2 or len(Z) != len(Z_hat):
        raise ValueError(f"two matrices with the same cells are needed, not {Z.shape} and {Z_hat.shape}")
    return _unit_columns(Z).T @ _unit_columns(Z_hat)


def _unit_columns(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(axis=0)
    norms = np.linalg.norm(centred, axis=0)
    # rounding leaves a constant column with a norm of this order, not with 0
    constant = norms <= 1e-12 * np.sqrt(len(values)) * np.maximum(np.abs(values).max(axis=0), 1e-300)
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, norms))


def matching(Z: np.ndarray, Z_hat: np.ndarray) -> np.ndarray:
    """For each true latent the column of ``Z_hat`` that the best one-to-one matching gives it.

    Returns
    -------
    Integer array of shape (n_latents,); -1 where ``Z_hat`` has too few columns.
    """
    strength = np.abs(correlations(Z, Z_hat))
    rows, columns = linear_sum_assignment(-strength)
    found = np.full(strength.shape[0], -1)
    found[rows] = columns
    return found


def mcc(Z: np.ndarray, Z_hat: np.ndarray) -> float:
    """Mean correlation coefficient (Hyvärinen & Morioka 2016): 1 is full disentanglement.

    The mean over the true latents of |correlation| with the matched column, under the one-to-one
    matching that makes it largest. Where ``Z_hat`` has more columns than ``Z``, the best
    ``n_latents`` of them count; where it has fewer, a true latent without a partner counts 0.

    Parameters
    ----------
    Z, Z_hat
        Arrays of shape (n_cells, n_latents) and (n_cells, n_estimated).

    Notes
    -----
    The number means little without :func:`mcc_chance` for the same number of latents.
    """
    strength = np.abs(correlations(Z, Z_hat))
    rows, columns = linear_sum_assignment(-strength)
    return float(strength[rows, columns].sum() / strength.shape[0])


@functools.cache
def mcc_chance(n_latents: int, n_estimated: int | None = None) -> tuple[float, float]:
    """MCC of latents that span the true ones but are mixed by a random rotation.

    An estimator that finds the span and nothing else scores this much, so only an MCC above the
    95th percentile speaks for disentanglement. Monte Carlo with a fixed seed, the true latents
    taken as uncorrelated.

    Parameters
    ----------
    n_latents
        Number of true latents.
    n_estimated
        Number of estimated columns; as many as true ones where it is None.

    Returns
    -------
    The mean and the 95th percentile over 4,000 rotations.
    """
    size = max(n_latents, n_estimated or n_latents)
    rng = np.random.default_rng(20405)
    scores = []
    for _ in range(_DRAWS // _BATCH):
        rotations, triangles = np.linalg.qr(rng.normal(size=(_BATCH, size, size)))
        # the signs make the rotations uniform (Mezzadri 2007)
        rotations = rotations * np.sign(np.einsum("bii->bi", triangles))[:, None, :]
        for strength in np.abs(rotations[:, :n_latents, : n_estimated or n_latents]):
            rows, columns = linear_sum_assignment(-strength)
            scores.append(strength[rows, columns].sum() / n_latents)
    return float(np.mean(scores)), float(np.quantile(scores, 0.95))
