"""Share of the true latents' variance that the estimated ones hold in any linear mixture."""

import numpy as np


def span_r2(Z: np.ndarray, Z_hat: np.ndarray) -> float:
    """R^2 of the least-squares prediction (with intercept) of ``Z`` from ``Z_hat``, mean over latents.

    1 where the estimated latents hold all of the true ones, however mixed; an MCC can only speak of
    disentanglement where this is high. Constant true latents are left out; all constant gives nan.

    Parameters
    ----------
    Z, Z_hat
        Arrays of shape (n_cells, n_latents) and (n_cells, n_estimated).
    """
    Z, Z_hat = np.asarray(Z, dtype=np.float64), np.asarray(Z_hat, dtype=np.float64)
    if Z.ndim != 2 or Z_hat.ndim != 2 or len(Z) != len(Z_hat):
        raise ValueError(f"two matrices with the same cells are needed, not {Z.shape} and {Z_hat.shape}")
    target, source = Z - Z.mean(axis=0), Z_hat - Z_hat.mean(axis=0)
    coefficients = np.linalg.lstsq(source, target, rcond=None)[0]
    left = ((target - source @ coefficients) ** 2).sum(axis=0)
    total = (target**2).sum(axis=0)
    varies = total > 0
    return float(np.mean(1 - left[varies] / total[varies])) if varies.any() else float("nan")
