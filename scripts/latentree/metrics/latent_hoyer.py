"""How sparse the cells' latents are, and what codes without any sparsity score."""

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from latentree.metrics.hoyer import hoyer

_DEAD_SD = 1e-8


@dataclass(frozen=True)
class LatentHoyer:
    """Hoyer sparsity of cells' latents.

    Attributes
    ----------
    value
        Mean over the cells that count, from 0 (all factors on alike) to 1 (one factor on); nan where no cell
        or fewer than two factors count. The floor is not 0 but :func:`gaussian_hoyer`.
    n_factors
        Factors that count. The value depends on their number, so it belongs beside it.
    n_dropped
        Cells left out because all their latents are 0.
    """

    value: float
    n_factors: int
    n_dropped: int


def latent_hoyer(latents: np.ndarray) -> LatentHoyer:
    """Hoyer's sparsity of each cell's latents in units of their standard deviations, averaged over cells.

    Mathieu et al. (2019) and Miao et al. (2022): ``(sqrt(K) - l1 / l2) / (sqrt(K) - 1)`` of z_k / sd_k, the
    standard deviations over the cells given, the latents not centred. Factors with a standard deviation
    below 1e-8 are dead and left out, and then cells whose latents are all 0, which have no l1 / l2.

    Parameters
    ----------
    latents
        Posterior means of held-out cells (Mathieu et al.), shape (n_cells, n_factors). Miao et al.'s code
        takes samples.
    """
    z = np.asarray(latents, dtype=np.float64)
    if z.ndim != 2:
        raise ValueError(f"latents of shape (n_cells, n_factors) are needed, not {z.shape}")
    sd = z.std(axis=0) if len(z) else np.zeros(z.shape[1])
    alive = sd >= _DEAD_SD
    scaled = z[:, alive] / sd[alive]
    n_factors = int(alive.sum())
    off = ~scaled.any(axis=1)
    value = hoyer(scaled[~off].T) if n_factors > 1 and not off.all() else float("nan")
    return LatentHoyer(value, n_factors, int(off.sum()))


def gaussian_hoyer(n_factors: int) -> float:
    """Expected Hoyer sparsity of independent standard Gaussian latents, which are not sparse at all.

    l1 / l2 does not depend on a Gaussian vector's length, only on its direction, uniform on the sphere:
    E[l1 / l2] = K Gamma(K/2) / (sqrt(pi) Gamma((K+1)/2)). 0.254 for 15 factors, 0.202 for ever more.

    Parameters
    ----------
    n_factors
        Number of factors K; nan below 2.
    """
    if n_factors < 2:
        return float("nan")
    root = np.sqrt(n_factors)
    ratio = n_factors / np.sqrt(np.pi) * np.exp(gammaln(n_factors / 2) - gammaln((n_factors + 1) / 2))
    return float((root - ratio) / (root - 1))
