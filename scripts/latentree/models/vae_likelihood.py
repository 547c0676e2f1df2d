"""Which likelihood a VAE has, and where it starts."""

from typing import TypeVar

import numpy as np
import torch

from latentree.batches import Batch
from latentree.errors import InputError
from latentree.model_settings import VAESettings
from latentree.models.likelihoods import (
    BernoulliLikelihood,
    GaussianLikelihood,
    LaplaceLikelihood,
    Likelihood,
)
from latentree.models.nb_likelihood import NegativeBinomialLikelihood
from latentree.models.scaling import InputScaling, Matrix, TrainingData, column_moments, stored_values
from latentree.sparse_vae_settings import SparseVAESettings

# change of log odds per unit of a score at most, from which a fit comes back
_STEEPEST = 4.0

_KINDS: dict[str, type[Likelihood]] = {
    "gaussian": GaussianLikelihood,
    "laplace": LaplaceLikelihood,
    "bernoulli": BernoulliLikelihood,
    "nb": NegativeBinomialLikelihood,
}
S = TypeVar("S", VAESettings, SparseVAESettings)


def make_likelihood(name: str, n_genes: int, n_fits: int = 1) -> Likelihood:
    """The likelihood of this name."""
    return _KINDS[name](n_fits, n_genes)


def resolve_likelihood(settings: S, data: TrainingData) -> S:
    """Settings whose likelihood is not "auto".

    Raises
    ------
    InputError
        The values do not suit the likelihood.
    """
    if settings.likelihood == "auto":
        return settings.model_copy(update={"likelihood": "gaussian" if data.counts is None else "nb"})
    if settings.likelihood == "nb" and data.counts is None:
        raise InputError(
            "likelihood: nb",
            "there are no counts behind these values",
            "Read the atlas with read_atlas from a file that holds counts, or use likelihood: gaussian",
        )
    least = stored_values(data.x).min(initial=0)
    if settings.likelihood == "bernoulli" and least < 0:
        raise InputError(
            "likelihood: bernoulli",
            f"values are negative (lowest {least:g}), so they say neither yes or no nor how much",
            "Give values in [0, 1] or expression values, or use likelihood: gaussian",
        )
    if settings.likelihood == "bernoulli" and settings.input == "sqrt" and not _are_expression(data):
        raise InputError(
            "input: sqrt",
            "the values are shares in [0, 1], whose roots as of counts are none",
            "Use input: log, or likelihood: gaussian",
        )
    return settings


def _are_expression(data: TrainingData) -> bool:
    """Whether values that are not negative are no shares, by the training cells."""
    return bool(stored_values(data.x[data.train]).max(initial=0) > 1)


def start_likelihood(
    likelihood: Likelihood, scaling: InputScaling, data: TrainingData, fit: int = 0
) -> np.ndarray | None:
    """Set one fit's parameters of a likelihood from the training cells.

    Returns
    -------
    (n_genes,) float32 predictors of an average cell, where 0 is far from one; else None.
    """
    sd = torch.from_numpy(scaling.scaled_sd)
    if isinstance(likelihood, GaussianLikelihood):
        likelihood.start(fit, sd, torch.ones_like(sd), len(data.train))
    elif isinstance(likelihood, LaplaceLikelihood):
        likelihood.start(fit, sd)
    elif isinstance(likelihood, BernoulliLikelihood):
        sees = _are_expression(data)
        centre, scale = torch.from_numpy(scaling.centre), torch.from_numpy(scaling.scale)
        likelihood.start(fit, centre, scale, sees)
        share = _share_seen(data) if sees else column_moments(data.x, data.train)[0]
        share = np.clip(share, 1e-3, 1 - 1e-3)
        return np.log(share / (1 - share)).astype(np.float32)
    elif isinstance(likelihood, NegativeBinomialLikelihood):
        return _start_counts(likelihood, data, fit)
    return None


def _share_seen(data: TrainingData) -> np.ndarray:
    """(n_genes,) share of the training cells in which each gene is above 0."""
    seen = data.x[data.train] > 0
    return np.asarray(seen.mean(axis=0), dtype=np.float64).ravel()


def _start_counts(likelihood: NegativeBinomialLikelihood, data: TrainingData, fit: int) -> np.ndarray:
    """Dispersions by the moments of all training cells together, and the genes' mean rates."""
    assert data.counts is not None
    library = data.counts.library[data.train]
    mean, variance = column_moments(data.counts.values, data.train)
    rate = (mean * len(library) + 0.5) / library.sum()
    # a gene's variance from libraries alone is no dispersion
    expected_squares = rate**2 * float(np.mean(library**2))
    excess = variance - mean - rate**2 * float(np.var(library))
    theta = np.where(excess > 0, expected_squares / np.maximum(excess, 1e-12), np.inf)
    largest = float(stored_values(data.counts.values).max(initial=0))
    likelihood.start(fit, torch.from_numpy(np.minimum(theta, 1e3)).float(), largest)
    return np.log(rate).astype(np.float32)


def log_odds_slopes(
    likelihood: BernoulliLikelihood, fit: int, level: np.ndarray, scores: np.ndarray, scaled: np.ndarray
) -> np.ndarray:
    """(n_genes, n_factors) slopes of the log odds on scores, from least squares of the values themselves.

    Parameters
    ----------
    level
        (n_genes,) log odds of an average cell.
    scores, scaled
        (n_cells, n_factors) and (n_cells, n_genes) of some training cells.
    """
    target = likelihood.target(Batch(torch.from_numpy(scaled)))[fit].numpy().astype(np.float64)
    design = np.hstack([np.ones((len(scores), 1)), scores])
    slopes = np.linalg.lstsq(design, target, rcond=None)[0][1:].T
    share = 1 / (1 + np.exp(-level.astype(np.float64)))
    # the logistic curve's slope there; a gene that is nearly always on or off has steep log odds
    return np.clip(slopes / (share * (1 - share))[:, None], -_STEEPEST, _STEEPEST)


def line_through(fitted: np.ndarray, cells: Matrix) -> np.ndarray:
    """Least squares of each gene's x on what was fitted: level and slope, (2, n_genes) float32.

    Parameters
    ----------
    fitted
        (n_cells, n_genes) means of a likelihood that is not of x.
    cells
        x of the same cells.
    """
    x = cells if isinstance(cells, np.ndarray) else cells.toarray()
    centred = fitted.astype(np.float64) - fitted.mean(0, dtype=np.float64)
    squares = (centred**2).sum(0)
    slope = np.where(squares > 1e-9, (centred * x).sum(0) / np.maximum(squares, 1e-9), 0)
    return np.stack([x.mean(0) - slope * fitted.mean(0), slope]).astype(np.float32)
