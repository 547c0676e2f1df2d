"""Parameters, objective and schedules of the Sparse VAE, of one fit or of several at once.

Every tensor carries a leading axis of fits (n_fits, 1 for a lone fit): many small fits in one batched model
cost little more than one, because a small step is mostly overhead.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from latentree.adam import Adam
from latentree.batches import Batch
from latentree.models.decoders import AdditiveDecoder, Decoder, LinearDecoder, SharedMLPDecoder
from latentree.models.encoders import ScoreEncoder
from latentree.models.layers import noise, normal_log_density
from latentree.models.likelihoods import GaussianLikelihood, with_fits
from latentree.models.prior import FactorPrior
from latentree.models.spike_slab import (
    PenaltySchedule,
    Rates,
    expected_rates,
    group_sizes,
    inclusion_probability,
    proximal_step,
    update_eta,
)
from latentree.models.starts import Start
from latentree.models.vae_likelihood import make_likelihood
from latentree.sparse_vae_settings import SparseVAESettings
from latentree.training import TorchModule

# without proximal steps, smaller weights that the spike claims count as zero
_NEGLIGIBLE_WEIGHT = 1e-2
# a factor of fewer genes explains nothing jointly; it is emptied once the penalty has had its say
_FEWEST_GENES, _EMPTY_FROM = 2, 0.3


@dataclass(frozen=True)
class Sizes:
    """Numbers of fits, genes, factors and batches (0: the fits know none)."""

    n_fits: int
    n_genes: int
    n_factors: int
    n_batches: int = 0


class SparseVAEModule(TorchModule):
    """A Sparse VAE whose settings are resolved: nothing in them is "auto" or None."""

    eta: Tensor
    inclusion: Tensor
    support: Tensor
    alive: Tensor
    effects: Tensor
    mean_covariates: Tensor
    line: Tensor

    def __init__(self, settings: SparseVAESettings, sizes: Sizes, generator: torch.Generator) -> None:
        super().__init__()
        self.settings, self.sizes = settings, sizes
        matrix = (sizes.n_fits, sizes.n_genes, sizes.n_factors)
        assert settings.encoder_mean != "auto"
        self.encoder = ScoreEncoder(
            *matrix,
            n_hidden=settings.hidden_encoder,
            has_scores=settings.start != "random",
            mean=settings.encoder_mean,
            generator=generator,
        )
        self.decoder = _decoder(settings, sizes, generator)
        self.likelihood = make_likelihood(settings.likelihood, sizes.n_genes, sizes.n_fits)
        self.prior = FactorPrior(sizes.n_fits, sizes.n_factors, settings.prior == "learned")
        self.weights = nn.Parameter(torch.zeros(*matrix, self.decoder.n_terms))
        self.batch_effects: nn.Parameter | None = None
        if sizes.n_batches:
            self.batch_effects = nn.Parameter(torch.zeros(*matrix[:2], sizes.n_batches))
        # shares of the training cells: the average batch, which stands for an unknown one
        self.register_buffer("mean_covariates", torch.zeros(sizes.n_fits, sizes.n_batches))
        self.n_train = 1
        self.register_buffer("eta", torch.full((sizes.n_fits, sizes.n_factors), 0.5))
        self.register_buffer("inclusion", torch.full(matrix, 0.5))
        self.register_buffer("support", torch.ones(matrix, dtype=torch.bool))
        self.register_buffer("alive", torch.ones(sizes.n_fits, sizes.n_factors, dtype=torch.bool))
        self.register_buffer("effects", torch.zeros(matrix))
        # with nb: level and slope of each gene's x over its log mean count, set after the fit
        self.register_buffer("line", torch.zeros(sizes.n_fits, 2, sizes.n_genes))
        self.reads_counts = settings.likelihood == "nb"
        self.reads_values = not self.reads_counts or self.encoder.sees_genes
        self._progress = 0.0
        self._posterior: tuple[Tensor, Tensor] | None = None
        # an epoch whose weights are yet to be pruned, or its factors to be emptied, is no best one
        self.settles_at = max(self._schedule().settles_at, _EMPTY_FROM if settings.proximal else 0.0)

    @torch.no_grad()
    def start_at(self, fit: int, start: Start, n_train: int) -> None:
        """Let one fit take over a start, whose values are in the units of the likelihood's predictor."""
        self.n_train = n_train
        self.decoder.offset[fit] = torch.from_numpy(start.offset)
        self.weights[fit, :, :, 0] = torch.from_numpy(start.loadings)
        self.encoder.start_at(fit, torch.from_numpy(start.scores), torch.from_numpy(start.posterior_variance))
        if self.batch_effects is not None and start.batch_effects is not None:
            self.batch_effects[fit] = torch.from_numpy(start.batch_effects)
        if start.correlation is not None:
            self.prior.start_at(fit, torch.from_numpy(start.correlation))
        if start.support is not None:
            self.support[fit] = torch.from_numpy(start.support)
            self.alive[fit] = self.support[fit].any(0)
            self._keep_support()

    @torch.no_grad()
    def start_curves_at(self, fit: int, scores: Tensor, x: Tensor) -> None:
        """Start one fit's curves at least squares, given the factors' scores (n_cells, n_factors) of cells x.

        Only the mlp on a normal likelihood has curves that can be started so; others keep their lines.
        """
        if isinstance(self.decoder, SharedMLPDecoder) and isinstance(self.likelihood, GaussianLikelihood):
            variance = (2 * self.likelihood.parameter[fit]).exp()
            target = x / self.likelihood.unit[fit]
            weights = self.weights[fit, :, :, 0]
            ridge = self.settings.decoder_ridge
            assert ridge is not None
            self.decoder.start_heads(fit, scores, weights, target, variance, ridge)

    # -- objective

    def cell_features(self, x: Tensor) -> Tensor | None:
        scores = self.encoder.scores_of(with_fits(x))
        return None if scores is None else scores[0]

    def loss_parts(self, batch: Batch, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        self._progress = progress
        mean, log_variance = self._posterior_of(batch)
        self._posterior = mean.detach(), log_variance.detach()
        z = mean + noise(tuple(mean.shape), generator, mean.device) * (0.5 * log_variance).exp()
        return {
            "reconstruction": self._misfit(batch, z),
            "kl": self.prior.divergence(mean, log_variance),
            "prior_sigma": self.likelihood.prior_loss(),
            "prior_w": self._weight_penalty(),
            "mixing_encoder": self.settings.mixing_penalty * self.encoder.mixing_distance(),
            **self._batch_penalty(),
            "ridge_decoder": (self.settings.decoder_ridge or 0.0) * self.decoder.ridge(),
        }

    def validation_parts(self, batch: Batch) -> dict[str, Tensor]:
        mean, log_variance = self._posterior_of(batch)
        return {
            "reconstruction": self._misfit(batch, mean),
            "kl": self.prior.divergence(mean, log_variance),
        }

    def log_weights(self, batch: Batch, generator: torch.Generator) -> Tensor | None:
        """Of one fit's cells."""
        mean, log_variance = self._posterior_of(batch)
        z = mean + noise(tuple(mean.shape), generator, mean.device) * (0.5 * log_variance).exp()
        predictor = self.decoder.predictor(z, self.weights)
        cell_offset = self._cell_offset(batch)
        if cell_offset is not None:
            predictor = predictor + cell_offset
        density = self.likelihood.log_prob(predictor, self.likelihood.target(batch))[0].sum(1)
        return density + self.prior.log_density(z)[0] - normal_log_density(z[0], mean[0], log_variance[0])

    def encode_mean(self, x: Tensor, covariates: Tensor | None = None) -> Tensor:
        """Of one fit's cells (n_cells, n_genes)."""
        return self._posterior_of(Batch(x, features=self.cell_features(x)))[0][0]

    def decode_mean(self, z: Tensor, covariates: Tensor | None = None) -> Tensor:
        """The predictor of one fit's cells, (n_cells, n_genes); with nb for a library of 1."""
        predictor = self.decoder.predictor(with_fits(z), self.weights)
        effect = self._batch_effect(covariates)
        return (predictor if effect is None else predictor + effect)[0]

    def _batch_effect(self, covariates: Tensor | None) -> Tensor | None:
        """What the cells' batches add to their predictors, (n_fits, n_cells or 1, n_genes)."""
        if self.batch_effects is None:
            return None
        known = self.mean_covariates[:, None] if covariates is None else with_fits(covariates)
        return known @ self.batch_effects.transpose(1, 2)

    def _batch_penalty(self) -> dict[str, Tensor]:
        """Minus the log prior N(0, 1) of each batch effect, per training cell, (n_fits,)."""
        if self.batch_effects is None:
            return {}
        return {"prior_batch": 0.5 * self.batch_effects.square().sum((1, 2)) / self.n_train}

    def _posterior_of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (n_fits, n_cells, n_factors); factors without genes follow the prior."""
        features = None if batch.features is None else with_fits(batch.features)
        mean, log_variance = self.encoder(with_fits(batch.x), features)
        alive = self.alive[:, None]
        return mean * alive, log_variance * alive

    def _misfit(self, batch: Batch, z: Tensor) -> Tensor:
        target = self.likelihood.target(batch)
        return self.decoder.loss(z, self.weights, self.likelihood, target, self._cell_offset(batch))

    def _cell_offset(self, batch: Batch) -> Tensor | None:
        """What is added to a cell's predictors: its library and its batch."""
        known, effect = self.likelihood.cell_offset(batch), self._batch_effect(batch.covariates)
        if known is None or effect is None:
            return effect if known is None else known
        return known + effect

    def _weight_penalty(self) -> Tensor:
        """Per cell; with proximal steps it is their business, and only its value is told here."""
        weights = self.weights.detach() if self.settings.proximal else self.weights
        return (self._rates() * group_sizes(weights)).sum((1, 2))

    # -- schedules and steps

    def _schedule(self) -> PenaltySchedule:
        settings = self.settings
        assert settings.lambda1 is not None
        unit = float(self.n_train) if settings.penalty_unit == "cell" else 1.0
        # as in the group lasso: the length of n terms grows like sqrt(n)
        unit *= math.sqrt(self.decoder.n_terms)
        return PenaltySchedule(
            spike=settings.lambda0 * unit,
            slab=settings.lambda1 * unit,
            n_rungs=settings.ladder_steps,
            refit_from=1 - settings.refit_fraction,
        )

    def _rates(self) -> Tensor:
        """What the weights' sizes cost now, per cell; (n_fits, n_genes, n_factors)."""
        schedule = self._schedule()
        if schedule.refitting(self._progress):
            return torch.zeros_like(self.inclusion)
        rates = expected_rates(self.inclusion, schedule.rates(self._progress))
        return rates * (schedule.strength(self._progress) / self.n_train)

    def learning_rate_factor(self, progress: float) -> float:
        """Constant, then falling in a line to 5% while the support is refitted."""
        left = (1 - progress) / self.settings.refit_fraction if self.settings.refit_fraction else 1.0
        return min(1.0, 0.05 + 0.95 * left)

    def parameter_groups(self) -> list[dict[str, Any]]:
        others = [parameter for parameter in self.parameters() if parameter is not self.weights]
        return [{"params": others}, {"params": [self.weights]}]

    @torch.no_grad()
    def on_epoch_start(self, progress: float) -> None:
        self.likelihood.begin_epoch()
        if self.settings.proximal and progress >= _EMPTY_FROM:
            self.alive &= self.support.sum(1) >= _FEWEST_GENES
            self._keep_support()

    @torch.no_grad()
    def after_step(self, learning_rate: float, optimizer: Adam) -> None:
        assert self._posterior is not None
        self.prior.update(*self._posterior, self.alive)
        self.decoder.after_step()
        self.likelihood.after_step()
        schedule = self._schedule()
        if schedule.refitting(self._progress):
            self._keep_support()
        elif self.settings.proximal:
            group = optimizer.param_groups[1]
            proximal_step(self.weights, optimizer.state[self.weights], group, self._rates())
            self._keep_support()
            self.support.copy_(group_sizes(self.weights) != 0)
        else:
            self.support.copy_(self._not_negligible())
        self._e_step(schedule.rates(self._progress))

    def _e_step(self, rates: Rates) -> None:
        """Memberships and their shares given the weights; while spike and slab are one there are none."""
        if rates.spike > rates.slab:
            self.inclusion.copy_(inclusion_probability(group_sizes(self.weights), self.eta, rates))
            self.eta.copy_(update_eta(self.inclusion, a=1.0, b=float(self.sizes.n_genes)))

    def _not_negligible(self) -> Tensor:
        """Weights that count where no proximal step makes zeros, bool: the reference code's rule."""
        return (group_sizes(self.weights) >= _NEGLIGIBLE_WEIGHT) | (self.inclusion >= 0.5)

    def _keep_support(self) -> None:
        """Zero the weights outside the support and of emptied factors."""
        self.support &= self.alive[:, None]
        self.weights.masked_fill_(~self.support[..., None], 0)

    @torch.no_grad()
    def finish(self, batch: Batch) -> None:
        """Make zeros exact, mark factors without genes, and measure effects on these training cells."""
        if not self.settings.proximal:
            self.support &= self._not_negligible()
        self._keep_support()
        self.alive &= self.support.any(1)
        self.effects.copy_(self.decoder.effects(self._posterior_of(batch)[0], self.weights))

    def only(self, fit: int) -> "SparseVAEModule":
        """One of the fits as a module of its own."""
        sizes = replace(self.sizes, n_fits=1)
        alone = SparseVAEModule(self.settings, sizes, torch.Generator().manual_seed(0))
        shapes = {name: value.shape for name, value in alone.state_dict().items()}
        # what all fits share has no axis of fits
        alone.load_state_dict(
            {
                name: value if value.shape == shapes[name] else value[fit : fit + 1]
                for name, value in self.state_dict().items()
            }
        )
        return alone.to(self.weights.device).eval()


def _decoder(settings: SparseVAESettings, sizes: Sizes, generator: torch.Generator) -> Decoder:
    if settings.decoder == "linear":
        return LinearDecoder(sizes.n_fits, sizes.n_genes)
    if settings.decoder == "additive":
        return AdditiveDecoder(sizes.n_fits, sizes.n_genes, settings.n_hinges)
    assert settings.hidden_decoder is not None
    return SharedMLPDecoder(
        sizes.n_fits,
        sizes.n_genes,
        sizes.n_factors,
        settings.hidden_decoder,
        settings.residual,
        getattr(torch, settings.precision),
        generator,
    )
