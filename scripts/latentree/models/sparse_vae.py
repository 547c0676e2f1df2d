"""Sparse VAE (Moran, Sridhar, Wang, Blei 2022): every gene depends on a few latent factors.

``x_j ~ N(f(w_j * z)_j, sigma_j^2)`` with one decoder f for all genes, ``z ~ N(0, C)`` and a spike-and-slab
lasso on the weights W (n_genes, n_factors). The objective is the paper's, per cell: the log-likelihood is
summed over genes and the KL over factors, the priors of sigma and W are divided by the number of cells. (The
reference code averages where it should sum; see docs/methods.md.)

``recipe: robust`` starts at varimax-rotated principal components, keeps the posterior means in their span,
prunes W by proximal steps up a ladder of spikes and refits what is left without penalty. ``recipe: paper`` is
the paper's model and start.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latentree.models.base import FitReport, RunOptions, TrainingData, row_chunks
from latentree.models.decoders import Decoder, LinearDecoder, SharedMLPDecoder
from latentree.models.encoders import ScoreEncoder
from latentree.models.identifiability import Diagnostics, diagnose
from latentree.models.layers import GaussianNoise, noise
from latentree.models.prior import FactorPrior
from latentree.models.spike_slab import (
    PenaltySchedule,
    Rates,
    expected_rates,
    inclusion_probability,
    proximal_step,
    update_eta,
)
from latentree.models.starts import CONSTANT, Start, random_start, varimax_start
from latentree.models.torch_model import TorchFactorModel
from latentree.settings import SparseVAESettings
from latentree.training import TorchModule

_LEAST_SIGMA = 0.02
# without proximal steps, smaller weights that the spike claims count as zero
_NEGLIGIBLE_WEIGHT = 1e-2
# a factor of fewer genes explains nothing jointly; it is emptied once the penalty has had its say
_FEWEST_GENES, _EMPTY_FROM = 2, 0.3
# training cells at most on which the effects that are reported as loadings are measured
_EFFECT_CELLS = 1024


class SparseVAEModule(TorchModule):
    """Parameters, objective and schedules.

    Values of genes arrive as the start and the encoder see them; the likelihood, W and the penalties see
    them divided by ``gene_unit`` (n_genes,), each gene's sd with ``standardise`` on.
    """

    gene_unit: Tensor
    eta: Tensor
    inclusion: Tensor
    support: Tensor
    alive: Tensor
    effects: Tensor

    def __init__(
        self, settings: SparseVAESettings, n_genes: int, n_factors: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = ScoreEncoder(
            n_genes,
            n_factors,
            settings.hidden_encoder,
            settings.start != "random",
            settings.encoder_mean == "mlp",
            generator,
        )
        self.decoder: Decoder = (
            LinearDecoder(n_genes)
            if settings.decoder == "linear"
            else SharedMLPDecoder(n_genes, n_factors, settings.hidden_decoder, settings.residual, generator)
        )
        self.prior = FactorPrior(n_factors, settings.prior == "learned")
        self.weights = nn.Parameter(torch.zeros(n_genes, n_factors))
        self.noise = GaussianNoise(n_genes)
        self.register_buffer("gene_unit", torch.ones(n_genes))
        self.register_buffer("eta", torch.full((n_factors,), 0.5))
        self.register_buffer("inclusion", torch.full((n_genes, n_factors), 0.5))
        self.register_buffer("support", torch.ones(n_genes, n_factors, dtype=torch.bool))
        self.register_buffer("alive", torch.ones(n_factors, dtype=torch.bool))
        self.register_buffer("effects", torch.zeros(n_genes, n_factors))
        self._progress = 0.0
        self._posterior: tuple[Tensor, Tensor] | None = None
        # an epoch whose weights are yet to be pruned, or its factors to be emptied, is no best one
        self.settles_at = max(self._schedule().settles_at, _EMPTY_FROM if settings.proximal else 0.0)

    @torch.no_grad()
    def start_at(self, start: Start, variance: np.ndarray, n_train: int) -> None:
        """Take over a start; ``variance`` (n_genes,) is that of the scaled training values."""
        sd = np.sqrt(variance)
        unit = np.where(variance > CONSTANT, sd, 1.0) if self.settings.standardise else np.ones_like(sd)
        self.gene_unit.copy_(torch.from_numpy(unit))
        self.noise.start(torch.from_numpy(sd / unit), n_train)
        self.noise.log_sigma.copy_(torch.from_numpy(0.5 * np.log(start.noise_variance) - np.log(unit)))
        self.weights.copy_(torch.from_numpy(start.loadings / unit[:, None]))
        self.encoder.start_at(torch.from_numpy(start.scores), torch.from_numpy(start.posterior_variance))

    # -- objective

    def loss_parts(self, x: Tensor, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        self._progress = progress
        mean, log_variance = self._posterior_of(x)
        self._posterior = mean.detach(), log_variance.detach()
        z = mean + noise(tuple(mean.shape), generator, x.device) * (0.5 * log_variance).exp()
        return {
            "reconstruction": self._misfit(x, z),
            "kl": self.prior.divergence(mean, log_variance, self.alive),
            "prior_sigma": self.noise.prior_loss(),
            "prior_w": self._weight_penalty(),
            "mixing_encoder": self.settings.mixing_penalty * self.encoder.mixing_distance(),
            "ridge_decoder": self.settings.decoder_ridge * self.decoder.ridge(),
        }

    def validation_parts(self, x: Tensor) -> dict[str, Tensor]:
        mean, log_variance = self._posterior_of(x)
        return {
            "reconstruction": self._misfit(x, mean),
            "kl": self.prior.divergence(mean, log_variance, self.alive),
        }

    def encode_mean(self, x: Tensor) -> Tensor:
        return self._posterior_of(x)[0]

    def decode_mean(self, z: Tensor) -> Tensor:
        return self.decoder.mean(z, self.weights) * self.gene_unit

    def _posterior_of(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (n_cells, n_factors); factors without genes follow the prior."""
        mean, log_variance = self.encoder(x)
        return mean * self.alive, log_variance * self.alive

    def _misfit(self, x: Tensor, z: Tensor) -> Tensor:
        return self.decoder.negative_log_likelihood(x / self.gene_unit, z, self.weights, self.noise.log_sigma)

    def _weight_penalty(self) -> Tensor:
        """Per cell; with proximal steps it is their business, and only its value is told here."""
        weights = self.weights.detach() if self.settings.proximal else self.weights
        return (self._rates() * weights.abs()).sum()

    # -- schedules and steps

    def _schedule(self) -> PenaltySchedule:
        settings = self.settings
        unit = float(self.noise.n_train) if settings.penalty_unit == "cell" else 1.0
        return PenaltySchedule(
            spike=settings.lambda0 * unit,
            slab=settings.lambda1 * unit,
            n_rungs=settings.ladder_steps,
            refit_from=1 - settings.refit_fraction,
        )

    def _rates(self) -> Tensor:
        """What the weights' absolute values cost now, per cell; (n_genes, n_factors)."""
        schedule = self._schedule()
        if schedule.refitting(self._progress):
            return torch.zeros_like(self.inclusion)
        rates = expected_rates(self.inclusion, schedule.rates(self._progress))
        return rates * (schedule.strength(self._progress) / self.noise.n_train)

    def learning_rate_factor(self, progress: float) -> float:
        """Constant, then falling in a line to 5% while the support is refitted."""
        left = (1 - progress) / self.settings.refit_fraction if self.settings.refit_fraction else 1.0
        return min(1.0, 0.05 + 0.95 * left)

    def parameter_groups(self) -> list[dict[str, Any]]:
        others = [parameter for parameter in self.parameters() if parameter is not self.weights]
        return [{"params": others}, {"params": [self.weights]}]

    @torch.no_grad()
    def on_epoch_start(self, progress: float) -> None:
        if self.settings.proximal and progress >= _EMPTY_FROM:
            self.alive &= self.support.sum(0) >= _FEWEST_GENES
            self._keep_support()

    @torch.no_grad()
    def after_step(self, learning_rate: float, optimizer: torch.optim.Adam) -> None:
        assert self._posterior is not None
        self.prior.update(*self._posterior)
        self.decoder.after_step()
        self.noise.log_sigma.clamp_(min=float(np.log(_LEAST_SIGMA)))
        schedule = self._schedule()
        if schedule.refitting(self._progress):
            self._keep_support()
        elif self.settings.proximal:
            group = optimizer.param_groups[1]
            proximal_step(self.weights, optimizer.state[self.weights], group, self._rates())
            self._keep_support()
            self.support.copy_(self.weights != 0)
        else:
            self.support.copy_(self._not_negligible())
        self._e_step(schedule.rates(self._progress))

    def _e_step(self, rates: Rates) -> None:
        """Memberships and their shares given the weights; while spike and slab are one there are none."""
        if rates.spike > rates.slab:
            self.inclusion.copy_(inclusion_probability(self.weights, self.eta, rates))
            self.eta.copy_(update_eta(self.inclusion, a=1.0, b=float(len(self.weights))))

    def _not_negligible(self) -> Tensor:
        """Weights that count where no proximal step makes zeros, bool: the reference code's rule."""
        return (self.weights.abs() >= _NEGLIGIBLE_WEIGHT) | (self.inclusion >= 0.5)

    def _keep_support(self) -> None:
        """Zero the weights outside the support and of emptied factors."""
        self.support &= self.alive
        self.weights.masked_fill_(~self.support, 0)

    @torch.no_grad()
    def finish(self, x: Tensor) -> None:
        """Make zeros exact, mark the factors without genes, and measure their effects on the cells x."""
        if not self.settings.proximal:
            self.support &= self._not_negligible()
        self._keep_support()
        self.alive &= self.support.any(0)
        self.effects.copy_(self.decoder.effects(self.encode_mean(x), self.weights))


class SparseVAEModel(TorchFactorModel):
    """The Sparse VAE as one of latentree's factor models."""

    name = "sparse_vae"
    settings: SparseVAESettings
    module: SparseVAEModule

    def fit(self, data: TrainingData, seed: int, options: RunOptions) -> FitReport:
        report = super().fit(data, seed, options)
        return replace(report, notes=report.notes + self.diagnostics().sentences())

    def make_module(self, n_genes: int, generator: torch.Generator) -> SparseVAEModule:
        return SparseVAEModule(self.settings, n_genes, self.n_factors, generator)

    def start(self, module: TorchModule, data: TrainingData, generator: torch.Generator) -> None:
        covariance = self._covariance(data)
        if self.settings.start == "varimax":
            start = varimax_start(covariance, self.n_factors)
        else:
            rng = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
            start = random_start(np.diag(covariance), self.n_factors, rng)
        self.module.start_at(start, np.diag(covariance), len(data.train))

    def _covariance(self, data: TrainingData) -> np.ndarray:
        """(n_genes, n_genes) of the scaled training cells, which are centred; float64, by chunks."""
        n_genes = self.scaling.n_genes
        total = np.zeros((n_genes, n_genes))
        for rows in row_chunks(len(data.train), n_genes):
            scaled = self.scaling.apply(data.x[data.train[rows]])
            total += scaled.T @ scaled
        return total / len(data.train)

    def finish(self, module: TorchModule, data: TrainingData) -> None:
        # evenly spread over all training cells: atlases often come sorted by type
        n_cells = min(len(data.train), _EFFECT_CELLS)
        spread = np.linspace(0, len(data.train) - 1, n_cells).round().astype(np.int64)
        self.module.finish(self._tensor(self.scaling.apply(data.x[data.train[spread]])))

    def loadings(self) -> np.ndarray:
        """Change of x per unit of each factor (:meth:`Decoder.effects`); zero exactly where W is."""
        effects = (self.module.effects * self.module.gene_unit[:, None]).cpu().numpy()
        return self.scaling.slopes(effects, at=np.zeros(len(effects), dtype=np.float32))

    def inclusion(self) -> np.ndarray:
        """Probability that each weight belongs to the slab."""
        return self.module.inclusion.cpu().numpy()

    def diagnostics(self) -> Diagnostics:
        """How far the fit meets the paper's conditions; the objective's parts are in the history."""
        module = self.module
        return diagnose(module.weights.detach().cpu().numpy(), module.prior.second_moment.cpu().numpy())
