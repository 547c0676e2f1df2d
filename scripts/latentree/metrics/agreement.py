"""How well the factors of two fits agree."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from latentree.metrics.mcc import correlations


@dataclass(frozen=True)
class MatchedCorrelation:
    """Agreement of two fits on the same cells.

    Attributes
    ----------
    per_factor
        |Pearson correlation| of each factor of the first fit with its partner, shape (n_factors_a,): 0
        for a live factor without a partner, nan for a dead one.
    partner
        The partner's index in the second fit, shape (n_factors_a,); -1 where there is none.
    mean
        Sum of the matched correlations over the larger of the two numbers of live factors, so that a factor
        only one of the fits has counts as 0; nan where neither fit has a live factor.
    """

    per_factor: np.ndarray
    partner: np.ndarray
    mean: float


def matched_correlation(
    latents_a: np.ndarray,
    latents_b: np.ndarray,
    alive_a: np.ndarray | None = None,
    alive_b: np.ndarray | None = None,
) -> MatchedCorrelation:
    """Match factors of two fits one to one by the largest sum of |Pearson correlations| of cell scores.

    Dead factors are left out. A factor that is dead in both fits says nothing about agreement and does
    not count; a live factor that finds no partner, because the other fit has fewer live ones, counts as
    0.

    Parameters
    ----------
    latents_a, latents_b
        Scores of the same cells, shape (n_cells, n_factors_a) and (n_cells, n_factors_b).
    alive_a, alive_b
        Which factors are alive, bool arrays of shape (n_factors_a,) and (n_factors_b,); None: all. A
        factor that does not vary over the cells correlates 0 with everything.
    """
    n_a, n_b = latents_a.shape[1], latents_b.shape[1]
    live_a = np.arange(n_a) if alive_a is None else np.flatnonzero(alive_a)
    live_b = np.arange(n_b) if alive_b is None else np.flatnonzero(alive_b)
    per_factor = np.full(n_a, np.nan)
    per_factor[live_a] = 0.0
    partner = np.full(n_a, -1, dtype=np.int64)
    correlation = np.abs(correlations(latents_a[:, live_a], latents_b[:, live_b]))
    rows, columns = linear_sum_assignment(correlation, maximize=True)
    per_factor[live_a[rows]] = np.minimum(correlation[rows, columns], 1.0)
    partner[live_a[rows]] = live_b[columns]
    n_live = max(len(live_a), len(live_b))
    mean = float(np.nansum(per_factor) / n_live) if n_live else float("nan")
    return MatchedCorrelation(per_factor, partner, mean)


def chance_agreement(latents_a: np.ndarray, latents_b: np.ndarray, n_draws: int = 5) -> float:
    """What :func:`matched_correlation` gives when the factors of both fits are turned at random.

    Each fit's scores are standardised and rotated by a random orthogonal matrix, the same ones in every
    call: what is left is that both span similar directions, and that their factors correlate, not that
    their factors are the same.

    Parameters
    ----------
    latents_a, latents_b
        Scores of the same cells, shape (n_cells, n_factors_a) and (n_cells, n_factors_b), living factors
        only.
    n_draws
        Rotations averaged over.
    """
    rng = np.random.default_rng(0)
    means = []
    for _ in range(n_draws):
        turned = [
            standardised @ _random_rotation(standardised.shape[1], rng)
            for standardised in map(_standardised, (latents_a, latents_b))
        ]
        means.append(matched_correlation(*turned).mean)
    return float(np.mean(means))


def _standardised(latents: np.ndarray) -> np.ndarray:
    centred = latents - latents.mean(axis=0)
    sd = centred.std(axis=0)
    return centred / np.where(sd > 0, sd, 1)


def _random_rotation(size: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform over orthogonal matrices (size, size)."""
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    return q * np.sign(np.diag(r))
