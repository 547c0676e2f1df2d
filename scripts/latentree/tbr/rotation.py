"""The linear map of the latents under which changes between neighbouring environments are sparsest."""

import numpy as np
import torch

# smooths |x| near 0, in units of the typical contrast, so that Adam does not chatter
_SMOOTHING = 0.02


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


def sparsest_map(
    contrasts: np.ndarray, importance: np.ndarray, *, n_restarts: int, n_steps: int = 400, seed: int = 0
) -> np.ndarray:
    """Map V of whitened latents, rows of unit norm, that makes the changes of their weights sparsest.

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
    float64 (n_latents, n_latents).
    """
    n_latents = contrasts.shape[1]
    if n_latents == 1 or len(contrasts) == 0 or not np.any(contrasts):
        return np.eye(n_latents)
    scaled = contrasts * (importance / importance.sum())[:, None]
    scaled = scaled / np.abs(scaled).mean()
    rng = np.random.default_rng(seed)
    starts = np.linalg.qr(rng.normal(size=(n_restarts, n_latents, n_latents)))[0]
    starts[0] = np.eye(n_latents)
    maps = torch.tensor(starts, requires_grad=True)
    target = torch.from_numpy(np.ascontiguousarray(scaled))
    optimiser = torch.optim.Adam([maps])
    for step in range(n_steps):
        for group in optimiser.param_groups:
            group["lr"] = 0.05 * 0.5 * (1 + np.cos(np.pi * step / n_steps)) + 1e-4
        changed = target @ torch.linalg.inv(_unit_rows(maps))
        loss = (changed.square() + _SMOOTHING**2).sqrt().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        final = _unit_rows(maps)
        costs = (target @ torch.linalg.inv(final)).abs().sum(dim=(1, 2))
        best: np.ndarray = final[int(costs.argmin())].numpy()
    return best


def _unit_rows(maps: torch.Tensor) -> torch.Tensor:
    return maps / maps.norm(dim=2, keepdim=True)
