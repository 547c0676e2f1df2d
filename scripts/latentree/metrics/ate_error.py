"""Error of the latents' average treatment effects on a phenotype."""

import numpy as np
from numpy.typing import ArrayLike

from latentree.metrics.mcc import matching


def ate_error(
    Z: np.ndarray,
    Z_hat: np.ndarray,
    y: np.ndarray,
    environments: ArrayLike,
    n_environments: int = 10,
    seed: int = 0,
) -> float:
    """Mean squared error of the sizes of average treatment effects (Layne et al. 2024, appendix A.6).

    In each of some random environments the phenotype is regressed (ordinary least squares with an intercept)
    on all true latents and on all estimated ones, every latent standardised on the cells given of that
    environment. The effect of a latent is its coefficient; sizes are compared, because the sign of a latent
    is not identified. Each true latent is compared with the estimated one that the matching of
    :func:`~latentree.metrics.mcc.mcc` over all cells gives it; one without a partner has the estimated
    effect 0, and so has a latent that is constant in an environment. The mean is over latents, then over
    environments.

    Parameters
    ----------
    Z, Z_hat
        Arrays of shape (n_cells, n_latents) and (n_cells, n_estimated).
    y
        Phenotype, shape (n_cells,).
    environments
        Each cell's environment, shape (n_cells,).
    n_environments
        Environments to draw without replacement; all where there are fewer.
    seed
        Of that draw, which depends on nothing else but the environments' names.

    Returns
    -------
    Squared units of ``y`` for an increase of a latent by one standard deviation: 0 is best, and values of
    phenotypes in different units cannot be compared.

    Raises
    ------
    ValueError
        Where the arrays do not have the same cells.

    Notes
    -----
    The paper takes effects estimated from the true latents as the truth, and so does this. Environments with
    no more cells than latents leave least squares no single answer; the shortest is taken.
    """
    Z, Z_hat = np.asarray(Z, dtype=np.float64), np.asarray(Z_hat, dtype=np.float64)
    target, names = np.asarray(y, dtype=np.float64), np.asarray(environments).astype(str)
    shapes = [values.shape for values in (Z, Z_hat, target, names)]
    if [len(shape) for shape in shapes] != [2, 2, 1, 1] or len({shape[0] for shape in shapes}) > 1:
        raise ValueError(f"two matrices, y and environments with the same cells are needed, not {shapes}")
    partner = matching(Z, Z_hat)
    every = np.unique(names)
    chosen = np.random.default_rng(seed).permutation(every)[:n_environments]
    errors = []
    for name in chosen:
        rows = names == name
        true, found = (np.abs(_effects(latents[rows], target[rows])) for latents in (Z, Z_hat))
        matched = np.where(partner >= 0, found[partner], 0.0)
        errors.append(np.mean((matched - true) ** 2))
    return float(np.mean(errors))


def _effects(latents: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Least-squares coefficients (n_latents,) of standardised latents (n_cells, n_latents)."""
    centred = latents - latents.mean(axis=0)
    spread = centred.std(axis=0)
    constant = spread <= 1e-12 * np.abs(latents).max(axis=0, initial=1e-300)
    standardised = np.where(constant, 0.0, centred / np.where(constant, 1.0, spread))
    coefficients: np.ndarray = np.linalg.lstsq(standardised, y - y.mean(), rcond=None)[0]
    return coefficients
