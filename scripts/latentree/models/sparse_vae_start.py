"""From a start made for scaled values to one in the units of a likelihood's predictor."""

from dataclasses import replace

import numpy as np
import torch

from latentree.models.likelihoods import BernoulliLikelihood, GaussianLikelihood, Likelihood
from latentree.models.nb_likelihood import NegativeBinomialLikelihood
from latentree.models.nb_start import REGRESSION_CELLS, negative_binomial_start
from latentree.models.scaling import InputScaling, TrainingData, row_chunks, scaled_cells, stored_values
from latentree.models.starts import CONSTANT, Start
from latentree.models.vae_likelihood import log_odds_slopes, start_likelihood
from latentree.sparse_vae_settings import SparseVAESettings


def in_units_of_likelihood(
    start: Start,
    likelihood: Likelihood,
    fit: int,
    scaling: InputScaling,
    data: TrainingData,
    settings: SparseVAESettings,
) -> Start:
    """The start with its loadings and offset in the units of the predictor; sets one fit's likelihood."""
    if isinstance(likelihood, GaussianLikelihood):
        return _normal(start, likelihood, fit, scaling, len(data.train), standardise=settings.standardise)
    if isinstance(likelihood, NegativeBinomialLikelihood):
        return _counts(start, likelihood, fit, scaling, data)
    level = start_likelihood(likelihood, scaling, data, fit)
    if not isinstance(likelihood, BernoulliLikelihood):
        return start
    assert level is not None
    scaled = scaled_cells(scaling, data, data.spread(REGRESSION_CELLS))
    slopes = log_odds_slopes(likelihood, fit, level, scaled @ start.scores, scaled)
    return replace(start, offset=level, loadings=slopes)


def _normal(
    start: Start,
    likelihood: GaussianLikelihood,
    fit: int,
    scaling: InputScaling,
    n_train: int,
    *,
    standardise: bool,
) -> Start:
    sd = scaling.scaled_sd.astype(np.float64)
    unit = np.where(sd**2 > CONSTANT, sd, 1.0) if standardise else np.ones_like(sd)
    likelihood.start(fit, torch.from_numpy(sd / unit).float(), torch.from_numpy(unit), n_train)
    with torch.no_grad():
        log_sigma = 0.5 * np.log(start.noise_variance) - np.log(unit)
        likelihood.parameter[fit] = torch.from_numpy(log_sigma)
    return replace(start, loadings=start.loadings / unit[:, None])


def _counts(
    start: Start,
    likelihood: NegativeBinomialLikelihood,
    fit: int,
    scaling: InputScaling,
    data: TrainingData,
) -> Start:
    rows = data.spread(REGRESSION_CELLS)
    scores = np.empty((len(rows), start.scores.shape[1]))
    for chunk in row_chunks(len(rows), data.x.shape[1]):
        scores[chunk] = scaled_cells(scaling, data, rows[chunk]) @ start.scores
    start, theta = negative_binomial_start(start, data, scores, rows)
    assert data.counts is not None
    largest = stored_values(data.counts.values).max(initial=0)
    likelihood.start(fit, torch.from_numpy(theta), float(largest))
    return start
