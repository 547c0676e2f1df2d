"""Directions of weight space along which many contrasts do not change, and the set of them that fits best.

The L1 norm finds the latents where few effects change on a branch. Where most of them do, or where cells
sit at the leaves only, single latents come out wrong; here they are replaced one at a time by candidates,
judged by the likelihood of changes that are exactly zero or normal, with the contrasts' sampling
covariance known. Environments with few cells count for little, because theirs is large.
"""

from dataclasses import dataclass

import numpy as np

_N_DRAWS = 16_000
_BATCH = 2000
_KEPT = 400
# a contrast counts as unchanged within about this many standard errors while candidates are drawn
_WIDTH = 2.5
_EM_STEPS = 60
_POLISHING_STEPS = 4
# log likelihood that an exchange must gain: among so many candidates chance finds a few units
_LEAST_GAIN = 5.0


@dataclass(frozen=True)
class Contrasts:
    """Differences of the weights of neighbouring environments, for white latents.

    Parameters
    ----------
    values
        (n_contrasts, n_latents).
    covariance
        (n_contrasts, n_latents, n_latents): sampling covariance of each.
    steps
        (n_contrasts,) branches between the two environments.
    """

    values: np.ndarray
    covariance: np.ndarray
    steps: np.ndarray

    def along(self, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Contrasts and their variances along unit vectors; both (n_directions, n_contrasts)."""
        n_latents = self.values.shape[1]
        pairs = (directions[:, :, None] * directions[:, None, :]).reshape(len(directions), -1)
        return directions @ self.values.T, pairs @ self.covariance.reshape(-1, n_latents**2).T


def improved(contrasts: Contrasts, maps: np.ndarray, seed: int) -> np.ndarray:
    """The best map that takes its latents' directions from maps and from random draws.

    Parameters
    ----------
    maps
        (n_maps, n_latents, n_latents): maps of white latents with rows of unit norm, best first. The
        search starts from the first.
    seed
        Of the draws.

    Returns
    -------
    float64 (n_latents, n_latents), rows of unit norm.
    """
    n_latents = maps.shape[1]
    columns = _unit(np.linalg.inv(maps).transpose(0, 2, 1).reshape(-1, n_latents))
    candidates = np.concatenate([columns, drawn_directions(contrasts, seed)])
    chosen = best_set(candidates, log_likelihoods(contrasts, candidates), len(contrasts.values), n_latents)
    return _unit(np.linalg.inv(candidates[chosen].T))


def drawn_directions(contrasts: Contrasts, seed: int) -> np.ndarray:
    """Unit vectors along which many contrasts vanish, (n_directions, n_latents), best first.

    Each starts as the normal of a hyperplane through n_latents - 1 random contrasts, of short ways
    rather, and is moved to the hyperplane that the contrasts near it lie in.
    """
    n_contrasts, n_latents = contrasts.values.shape
    if n_contrasts < n_latents or n_latents < 2:
        return np.empty((0, n_latents))
    rng = np.random.default_rng(seed)
    chance = -2 * np.log(contrasts.steps)
    lengths = np.linalg.norm(contrasts.values, axis=1, keepdims=True)
    points = contrasts.values / np.maximum(lengths, 1e-12)
    found, counts = [], []
    for _ in range(_N_DRAWS // _BATCH):
        # Gumbel's trick: so many contrasts without repetition, with these log chances
        keys = chance + rng.gumbel(size=(_BATCH, n_contrasts))
        rows = np.argpartition(-keys, n_latents - 1, axis=1)[:, : n_latents - 1]
        planes = points[rows]
        normals = np.linalg.eigh(planes.transpose(0, 2, 1) @ planes)[1][:, :, 0]
        found.append(normals)
        counts.append(_near(contrasts, normals).sum(axis=1))
    directions = np.concatenate(found)
    directions = directions[np.argsort(-np.concatenate(counts), kind="stable")[:_KEPT]]
    for _ in range(_POLISHING_STEPS):
        weights = _near(contrasts, directions) / contrasts.along(directions)[1] / contrasts.steps**2
        scatter = np.einsum("rn,ni,nj->rij", weights, contrasts.values, contrasts.values, optimize=True)
        directions = np.linalg.eigh(scatter)[1][:, :, 0]
    return directions


def _near(contrasts: Contrasts, directions: np.ndarray) -> np.ndarray:
    """How much each contrast looks unchanged along each direction, 0 to 1."""
    changes, variances = contrasts.along(directions)
    near: np.ndarray = np.exp(-(changes**2) / (2 * _WIDTH**2 * variances))
    return near


def log_likelihoods(contrasts: Contrasts, directions: np.ndarray) -> np.ndarray:
    """Log likelihood of the contrasts along each direction, (n_directions,).

    Zero with a probability, otherwise normal, both plus the sampling error; probability and variance
    are those of largest likelihood (EM), separately for ways of different length.
    """
    changes, variances = contrasts.along(directions)
    total = np.zeros(len(directions))
    for length in np.unique(contrasts.steps):
        of_length = contrasts.steps == length
        x, v = changes[:, of_length] ** 2, variances[:, of_length]
        share = np.full((len(x), 1), 0.3)
        slab = np.maximum(x.mean(axis=1, keepdims=True), 1e-12)
        for _ in range(_EM_STEPS):
            zero = np.log(share) - 0.5 * (x / v + np.log(v))
            other = np.log1p(-share) - 0.5 * (x / (v + slab) + np.log(v + slab))
            both = np.logaddexp(zero, other)
            member = np.exp(zero - both)
            # half a contrast of either kind, so that no share is 0 or 1
            share = (member.sum(axis=1, keepdims=True) + 0.5) / (x.shape[1] + 1)
            rest = 1 - member
            spread = (rest * np.maximum(x - v, 0)).sum(axis=1, keepdims=True)
            slab = spread / np.maximum(rest.sum(axis=1, keepdims=True), 1e-9) + 1e-12
        total += both.sum(axis=1)
    return total


def best_set(candidates: np.ndarray, likelihoods: np.ndarray, n_contrasts: int, n_latents: int) -> list[int]:
    """Rows of the candidates that are likeliest together, from the first ``n_latents`` by single exchanges.

    The likelihood of contrasts whose coordinates are independent is the sum of the directions' own plus
    ``n_contrasts`` times the log volume that the unit vectors span.
    """
    chosen = list(range(n_latents))
    exchanged = True
    while exchanged:
        exchanged = False
        for place in range(n_latents):
            others = candidates[[row for i, row in enumerate(chosen) if i != place]]
            normal = np.linalg.svd(others)[2][-1]
            volumes = np.log(np.maximum(np.abs(candidates @ normal), 1e-12))
            gains = likelihoods + n_contrasts * volumes
            best = int(gains.argmax())
            if gains[best] > gains[chosen[place]] + _LEAST_GAIN:
                chosen[place] = best
                exchanged = True
    return chosen


def _unit(vectors: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit
