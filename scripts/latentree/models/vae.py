"""Variational autoencoder: the Sparse VAE's encoder with an unmasked decoder (Moran et al. 2022).

The objective is the MAP one: negative log likelihood summed over genes, KL summed over factors, the prior
of the noise levels counted once for all cells. The base of its relatives, which override what differs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from latentree.adam import Adam
from latentree.batches import Batch
from latentree.model_settings import VAESettings
from latentree.models.gene_groups import GeneGroups
from latentree.models.layers import dropout, gaussian_kl, linear, noise, normal_log_density
from latentree.models.likelihoods import BernoulliLikelihood, GaussianLikelihood
from latentree.models.scaling import TrainingData, row_chunks
from latentree.models.torch_model import TorchFactorModel
from latentree.models.vae_likelihood import (
    line_through,
    make_likelihood,
    resolve_likelihood,
    start_likelihood,
)
from latentree.training import TorchModule

# training cells at most through which x is drawn over the likelihood's mean
_LINE_CELLS = 2000


@dataclass(frozen=True)
class Sizes:
    """Numbers of genes, factors and batches (0: the model knows none), and the genes' groups if there are."""

    n_genes: int
    n_factors: int
    n_batches: int = 0
    groups: GeneGroups | None = None


@dataclass(frozen=True)
class Posterior:
    """q(y | x) of some cells, normal in each factor unless gates say otherwise.

    Parameters
    ----------
    mean, log_var
        (n_cells, n_factors).
    gate_logit
        (n_cells, n_factors) log odds that a factor is on, where the model has gates.
    """

    mean: Tensor
    log_var: Tensor
    gate_logit: Tensor | None = None


class VAEModule(TorchModule):
    """Encoder n_genes-H-..-H with two heads, decoder n_factors-H-..-H-n_genes, ReLU between.

    Where there are batches, both networks see the cell's beside their input; without knowing it they take
    the average one.
    """

    latent_mean: Tensor
    latent_sd: Tensor
    line: Tensor
    mean_covariates: Tensor

    def __init__(self, sizes: Sizes, settings: Any, generator: torch.Generator) -> None:
        super().__init__()
        self.sizes = sizes
        self.settings = settings
        self.beta = 1.0
        self.settles_at = settings.kl_warmup
        self.progress = 1.0
        width = settings.hidden
        self.encoder = hidden_layers(sizes.n_genes + sizes.n_batches, settings, generator)
        self.mean_head = linear(width, sizes.n_factors, generator)
        self.log_var_head = linear(width, sizes.n_factors, generator)
        self.decoder = self.make_decoder(generator)
        self.likelihood = make_likelihood(settings.likelihood, sizes.n_genes)
        self.reads_counts = settings.likelihood == "nb"
        # of the training cells' posterior means, set after the fit: where slopes are taken
        self.register_buffer("latent_mean", torch.zeros(sizes.n_factors))
        self.register_buffer("latent_sd", torch.ones(sizes.n_factors))
        # level and slope of each gene's x over the likelihood's mean, where these are on different scales
        self.register_buffer("line", torch.stack([torch.zeros(sizes.n_genes), torch.ones(sizes.n_genes)]))
        self.register_buffer("mean_covariates", torch.zeros(sizes.n_batches))

    # -- what relatives override

    def make_decoder(self, generator: torch.Generator) -> nn.Module:
        """From latents (n_cells, n_factors + n_batches) to predictors (n_cells, n_genes)."""
        width, n_inputs = self.settings.hidden, self.sizes.n_factors + self.sizes.n_batches
        body = hidden_layers(n_inputs, self.settings, generator, bias_first=False)
        return nn.Sequential(*body, linear(width, self.sizes.n_genes, generator))

    def posterior(self, x: Tensor, covariates: Tensor | None = None) -> Posterior:
        """q(y | x) of scaled values (n_cells, n_genes)."""
        hidden = self.encoder(self._beside(x, covariates))
        # the clamp keeps exp() finite in float32
        return Posterior(self.mean_head(hidden), self.log_var_head(hidden).clamp(-15, 15))

    def sample(self, q: Posterior, generator: torch.Generator) -> Tensor:
        """y ~ q, (n_cells, n_factors)."""
        return q.mean + (0.5 * q.log_var).exp() * noise(tuple(q.mean.shape), generator, q.mean.device)

    def exact_sample(self, q: Posterior, generator: torch.Generator) -> Tensor:
        """y ~ q for importance weights, where :meth:`sample` only comes near it for the gradients' sake."""
        return self.sample(q, generator)

    def centre(self, q: Posterior) -> Tensor:
        """E[y] under q, (n_cells, n_factors)."""
        return q.mean

    def transform(self, y: Tensor) -> Tensor:
        """What the decoder sees of y, and what stands for the cell."""
        return y

    def divergence(self, q: Posterior, y: Tensor) -> Tensor:
        """KL(q || prior) of each cell, (n_cells,), exact or estimated at the sample y."""
        return gaussian_kl(q.mean, q.log_var)

    def penalties(self, q: Posterior, y: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Further parts of the loss of a batch, scalars."""
        return {}

    def represent(self, q: Posterior) -> Tensor:
        """The latents that stand for the cells, (n_cells, n_factors)."""
        return self.transform(self.centre(q))

    def log_prior(self, y: Tensor) -> Tensor:
        """log p(y) of each cell, (n_cells,)."""
        return normal_log_density(y, torch.zeros_like(y), torch.zeros_like(y))

    def log_posterior(self, q: Posterior, y: Tensor) -> Tensor:
        """log q(y | x) of each cell, (n_cells,)."""
        return normal_log_density(y, q.mean, q.log_var)

    def prior_sample(self, n_cells: int, generator: torch.Generator) -> Tensor:
        """y ~ p, (n_cells, n_factors)."""
        return noise((n_cells, self.sizes.n_factors), generator, self.latent_mean.device)

    def start_level(self, level: Tensor) -> None:
        """Let the predictors start around ``level`` (n_genes,), where 0 is far from any cell."""
        last = [layer for layer in self.decoder.modules() if isinstance(layer, nn.Linear)][-1]
        last.bias.copy_(level)

    # -- objective

    def loss_parts(self, batch: Batch, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        self.progress = progress
        q = self.posterior(dropout(batch.x, self.settings.dropout, generator), batch.covariates)
        y = self.sample(q, generator)
        warmup = self.settings.kl_warmup
        kl_weight = min(1.0, progress / warmup) if warmup > 0 else 1.0
        return {
            "reconstruction": self._misfit(batch, y),
            "kl": self.beta * kl_weight * self.divergence(q, y).mean(),
            **self._prior_of_noise(),
            **self.penalties(q, y, generator),
        }

    def _prior_of_noise(self) -> dict[str, Tensor]:
        """The part of the loss that the noise levels' prior is, where they have one."""
        if not isinstance(self.likelihood, GaussianLikelihood):
            return {}
        return {"prior_sigma": self.likelihood.prior_loss()[0]}

    def validation_parts(self, batch: Batch) -> dict[str, Tensor]:
        self.progress = 1.0
        q = self.posterior(batch.x, batch.covariates)
        # relatives' penalties may draw from the prior: the same draws in every epoch
        generator = torch.Generator().manual_seed(0)
        y = self.centre(q)
        return {
            "reconstruction": self._misfit(batch, y),
            "kl": self.beta * self.divergence(q, y).mean(),
            **self.penalties(q, y, generator),
        }

    def log_weights(self, batch: Batch, generator: torch.Generator) -> Tensor | None:
        self.progress = 1.0
        q = self.posterior(batch.x, batch.covariates)
        y = self.exact_sample(q, generator)
        density = self.likelihood.log_prob(self._predictor(batch, y), self.likelihood.target(batch))
        return density[0].sum(1) + self.log_prior(y) - self.log_posterior(q, y)

    def _misfit(self, batch: Batch, y: Tensor) -> Tensor:
        return self.likelihood.loss(self._predictor(batch, y), self.likelihood.target(batch))[0]

    def _predictor(self, batch: Batch, y: Tensor) -> Tensor:
        """(1, n_cells, n_genes)"""
        predictor = self.decoder(self._beside(self.transform(y), batch.covariates))[None]
        offset = self.likelihood.cell_offset(batch)
        return predictor if offset is None else predictor + offset

    def _beside(self, values: Tensor, covariates: Tensor | None) -> Tensor:
        """Values (n_cells, n) with the cells' batches beside them, or the average batch."""
        if not self.sizes.n_batches:
            return values
        if covariates is None:
            covariates = self.mean_covariates.expand(len(values), -1)
        return torch.cat([values, covariates], 1)

    def after_step(self, learning_rate: float, optimizer: Adam) -> None:
        self.likelihood.after_step()

    def on_epoch_start(self, progress: float) -> None:
        self.likelihood.begin_epoch()

    # -- for those who use the fit

    def encode_mean(self, x: Tensor, covariates: Tensor | None = None) -> Tensor:
        self.progress = 1.0
        return self.represent(self.posterior(x, covariates))

    def decode_mean(self, z: Tensor, covariates: Tensor | None = None) -> Tensor:
        """The likelihood's mean at latents as :meth:`encode_mean` gives them, (n_cells, n_genes)."""
        return self.likelihood.mean(self.decoder(self._beside(z, covariates)))


def hidden_layers(
    n_inputs: int, settings: VAESettings, generator: torch.Generator, *, bias_first: bool = True
) -> nn.Sequential:
    """``n_layers`` layers of ``hidden`` units, each followed by ReLU."""
    layers: list[nn.Module] = []
    for place in range(settings.n_layers):
        bias = bias_first or place > 0
        layers += [linear(n_inputs, settings.hidden, generator, bias=bias), nn.ReLU()]
        n_inputs = settings.hidden
    return nn.Sequential(*layers)


class VAEModel(TorchFactorModel):
    """Factors are posterior means under the prior N(0, I)."""

    name: ClassVar[str] = "vae"
    module_class: ClassVar[type[VAEModule]] = VAEModule
    module: VAEModule
    n_batches: int = 0

    def see(self, data: TrainingData) -> None:
        self.settings = resolve_likelihood(self.settings, data)
        self.n_batches = 0 if data.covariates is None else data.covariates.shape[1]

    def see_state(self, state: Mapping[str, np.ndarray]) -> None:
        self.n_batches = len(state["module.mean_covariates"])

    def sizes(self, n_genes: int) -> Sizes:
        return Sizes(n_genes, self.n_factors, self.n_batches)

    def make_module(self, n_genes: int, generator: torch.Generator) -> VAEModule:
        return self.module_class(self.sizes(n_genes), self.settings, generator)

    @torch.no_grad()
    def start(self, module: TorchModule, data: TrainingData, generator: torch.Generator) -> None:
        assert isinstance(module, VAEModule)
        level = start_likelihood(module.likelihood, self.scaling, data)
        if level is not None:
            module.start_level(torch.from_numpy(level))
        if data.covariates is not None:
            module.mean_covariates.copy_(torch.from_numpy(data.covariates[data.train].mean(0)))

    @torch.no_grad()
    def finish(self, module: TorchModule, data: TrainingData) -> None:
        assert isinstance(module, VAEModule)
        latents = self._latents_of(data, data.train)
        module.latent_mean.copy_(torch.from_numpy(latents.mean(axis=0)))
        module.latent_sd.copy_(torch.from_numpy(latents.std(axis=0)).clamp(min=1e-3))
        if self._needs_line():
            rows = data.spread(_LINE_CELLS)
            fitted = self.decode(self._latents_of(data, rows), data.covariates_of(rows))
            module.line.copy_(torch.from_numpy(line_through(fitted, data.x[rows])))

    def loadings(self) -> np.ndarray:
        """Slopes over one standard deviation of each latent on either side of the mean.

        Not the derivative there: the decoder's first layer has no bias, so all its kinks meet at 0, which is
        where the mean is.
        """
        mean, sd = (v.cpu().numpy() for v in (self.module.latent_mean, self.module.latent_sd))
        steps = np.diag(sd)
        rise = self.reconstruct(mean + steps) - self.reconstruct(mean - steps)
        return (rise / (2 * sd[:, None])).T

    def reconstruct(self, latents: np.ndarray, covariates: np.ndarray | None = None) -> np.ndarray:
        """Means (n_cells, n_genes) float32 on the scale of x.

        Where the likelihood is not of x, x is a line over its mean, drawn through training cells.
        """
        if self.settings.likelihood in ("gaussian", "laplace"):
            return super().reconstruct(latents, covariates)
        level, slope = self.module.line.cpu().numpy()
        fitted = self.decode(np.asarray(latents, dtype=np.float32), covariates)
        return (level + slope * fitted).astype(np.float32, copy=False)

    def generate(self, n_cells: int, seed: int, covariates: np.ndarray | None = None) -> np.ndarray:
        """New cells' means (n_cells, n_genes) on the scale of x: latents from the prior, decoded."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            latents = self.module.transform(self.module.prior_sample(n_cells, generator)).cpu().numpy()
        return self.reconstruct(latents, covariates)

    def log_jacobian(self) -> float | None:
        if self.settings.likelihood not in ("gaussian", "laplace"):
            return 0.0
        return super().log_jacobian()

    def _latents_of(self, data: TrainingData, rows: np.ndarray) -> np.ndarray:
        """(n_rows, n_factors), by chunks, because a copy of all rows of a large atlas is large."""
        parts = self._row_parts(data, rows)
        return np.concatenate([self.transform(data.x[part], data.covariates_of(part)) for part in parts])

    def _row_parts(self, data: TrainingData, rows: np.ndarray) -> list[np.ndarray]:
        """These rows, so many at a time as may be dense."""
        return [rows[chunk] for chunk in row_chunks(len(rows), data.x.shape[1])]

    def _needs_line(self) -> bool:
        """Whether x is on another scale than the likelihood's mean."""
        likelihood = self.module.likelihood
        sees = isinstance(likelihood, BernoulliLikelihood) and bool(likelihood.sees[0])
        return self.settings.likelihood == "nb" or sees
