"""The linear map of the latents under which changes between neighbouring environments are sparsest."""

import numpy as np
import torch

from latentree.adam import Adam
from latentree.tbr.directions import Contrasts, improved
from latentree.tbr.moments import Moments
from latentree.tbr.structure import Branches

# smooths |x| near 0, in units of the typical contrast, so that Adam does not chatter
_SMOOTHING = 0.02
# with more contrasts than this, a random part of them chooses among the restarts; this many starts go on
_MANY_CONTRASTS = 2048
_N_BEST = 4


def whitening(covariance: np.ndarray) -> np.ndarray:
    """The matrix that gives the latents unit covariance; directions without variance are kept small.

    Parameters
    ----------
    covariance
        (n_latents, n_latents).
    """
    values, vectors = np.linalg.eigh(covariance)
    floor = max(values[-1], 1e-12) * 1e-6
    return (vectors / np.sqrt(np.maximum(values, floor))).T


def rotated(
    weights: np.ndarray,
    moments: Moments,
    error: float,
    branches: Branches,
    *,
    n_restarts: int,
    seed: int,
) -> np.ndarray:
    """Map of white latents, rows of unit norm, under which weights change sparsely along the tree.

    The maps of least L1 norm (:func:`sparsest_maps`), whose directions are then exchanged by likelihood
    (:func:`latentree.tbr.directions.improved`).

    Parameters
    ----------
    weights
        (n_environments, n_latents) weights of the white latents.
    moments
        Of the white latents in every environment, which tell how well its weights are known.
    error
        Mean squared error of the weights.
    n_restarts
        Random starting rotations.

    Returns
    -------
    float64 (n_latents, n_latents).
    """
    pairs, steps = branches.contrasts()
    values = weights[pairs[:, 1]] - weights[pairs[:, 0]]
    if weights.shape[1] == 1 or not np.any(values):
        return np.eye(weights.shape[1])
    covariance = _sampling_covariance(moments, error, float(values.var()))
    covariance = covariance[pairs[:, 1]] + covariance[pairs[:, 0]]
    importance = _reliability(values, covariance) / steps**2
    maps = sparsest_maps(values, importance, n_restarts=n_restarts, seed=seed)
    part = np.arange(len(values))
    if len(part) > _MANY_CONTRASTS:
        part = np.sort(np.random.default_rng(seed).choice(part, _MANY_CONTRASTS, replace=False))
    return improved(Contrasts(values[part], covariance[part], steps[part]), maps, seed)


def _reliability(contrasts: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Share of each contrast's size that is not sampling error, (n_contrasts,)."""
    noise = np.trace(covariance, axis1=1, axis2=2) / contrasts.shape[1]
    total = float((contrasts**2).mean())
    signal = max(total - float(noise.mean()), 0.1 * total)
    share: np.ndarray = signal / (signal + noise)
    return share


def _sampling_covariance(moments: Moments, error: float, prior: float) -> np.ndarray:
    """Sampling covariance of each environment's weights, (n_environments, n_latents, n_latents).

    The prior variance bounds it where an environment has fewer cells than latents.
    """
    gram = moments.gram[:, :-1, :-1]
    n_latents = gram.shape[1]
    least = max(error, 1e-6 * prior)
    covariance: np.ndarray = np.linalg.inv(gram / least + np.eye(n_latents) / max(prior, 1e-12))
    return covariance


def sparsest_maps(
    contrasts: np.ndarray, importance: np.ndarray, *, n_restarts: int, n_steps: int = 400, seed: int = 0
) -> np.ndarray:
    """Maps V of whitened latents, rows of unit norm, that make the changes of their weights sparse.

    Latents ``V z`` have weights ``w V^-1``; the weighted L1 norm of ``contrasts V^-1`` is minimised
    from many random rotations at once. Rows of unit norm keep the latents at unit variance, and the
    inverse keeps them apart: two equal rows cost infinitely much.

    Parameters
    ----------
    contrasts
        (n_contrasts, n_latents): differences of the weights of neighbouring environments.
    importance
        (n_contrasts,): weight of each contrast.
    n_restarts
        Random starting rotations.
    n_steps
        Adam steps of each.

    Returns
    -------
    float64 (n_maps, n_latents, n_latents), the smallest L1 norm first.
    """
    n_latents = contrasts.shape[1]
    scaled = contrasts * (importance / importance.sum())[:, None]
    scaled = scaled / np.abs(scaled).mean()
    rng = np.random.default_rng(seed)
    starts = np.linalg.qr(rng.normal(size=(n_restarts, n_latents, n_latents)))[0]
    starts[0] = np.eye(n_latents)
    target = torch.from_numpy(np.ascontiguousarray(scaled))
    if len(target) > _MANY_CONTRASTS:
        # the search among many starts needs no more than a part; the best ones go on with all
        part = torch.from_numpy(np.sort(rng.choice(len(target), _MANY_CONTRASTS, replace=False)))
        maps, costs = _descend(target[part], torch.from_numpy(starts), n_steps, 0.05)
        maps, costs = _descend(target, maps[costs.argsort()[:_N_BEST]], n_steps // 4, 0.01)
    else:
        maps, costs = _descend(target, torch.from_numpy(starts), n_steps, 0.05)
    ordered: np.ndarray = maps[costs.argsort(stable=True)].numpy()
    return ordered


def _descend(
    target: torch.Tensor, starts: torch.Tensor, n_steps: int, rate: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Adam from every start (n_starts, n_latents, n_latents); the maps and their L1 norms (n_starts,)."""
    maps = starts.clone()
    optimiser = Adam([{"params": [maps]}])
    for step in range(n_steps):
        optimiser.param_groups[0]["lr"] = rate * 0.5 * (1 + np.cos(np.pi * step / n_steps)) + 1e-4
        maps.grad = _gradient(target, maps)
        optimiser.step()
    final = _unit_rows(maps)
    return final, (target @ torch.linalg.inv(final)).abs().sum(dim=(1, 2))


def _gradient(target: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Gradient of the smoothed L1 norm of ``target @ inverse``; by hand, because autograd is slower.

    All inverses stand side by side, so that each product is one of two matrices.
    """
    n_starts, n_latents, _ = maps.shape
    unit = _unit_rows(maps)
    inverse = torch.linalg.inv(unit)
    changed = target @ inverse.transpose(0, 1).reshape(n_latents, -1)
    slope = changed.div_((changed.square() + _SMOOTHING**2).sqrt_())
    by_inverse = (target.T @ slope).reshape(n_latents, n_starts, n_latents).transpose(0, 1)
    turned = inverse.transpose(1, 2)
    by_unit = -turned @ by_inverse @ turned
    along = (by_unit * unit).sum(dim=2, keepdim=True) * unit
    return (by_unit - along) / maps.norm(dim=2, keepdim=True)


def _unit_rows(maps: torch.Tensor) -> torch.Tensor:
    return maps / maps.norm(dim=2, keepdim=True)
