"""Variational autoencoder: the Sparse VAE's encoder with an unmasked decoder (Moran et al. 2022).

The objective is the MAP one: negative log likelihood summed over genes, KL summed over factors, the prior
of the noise levels counted once for all cells.
"""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from latentree.batches import Batch
from latentree.model_settings import VAESettings
from latentree.models.layers import dropout, gaussian_kl, linear, noise
from latentree.models.likelihoods import GaussianLikelihood
from latentree.models.scaling import TrainingData, row_chunks
from latentree.models.torch_model import TorchFactorModel
from latentree.training import TorchModule


class VAEModule(TorchModule):
    """Encoder n_genes-H-H with two heads, decoder n_factors-H-H-n_genes, ReLU between."""

    latent_mean: Tensor
    latent_sd: Tensor

    def __init__(
        self, n_genes: int, n_factors: int, settings: VAESettings, generator: torch.Generator
    ) -> None:
        super().__init__()
        hidden = settings.hidden
        self.settings = settings
        self.settles_at = settings.kl_warmup
        self.encoder = nn.Sequential(
            linear(n_genes, hidden, generator), nn.ReLU(), linear(hidden, hidden, generator), nn.ReLU()
        )
        self.mean_head = linear(hidden, n_factors, generator)
        self.log_var_head = linear(hidden, n_factors, generator)
        self.decoder = nn.Sequential(
            linear(n_factors, hidden, generator, bias=False),
            nn.ReLU(),
            linear(hidden, hidden, generator),
            nn.ReLU(),
            linear(hidden, n_genes, generator),
        )
        self.likelihood = GaussianLikelihood(1, n_genes)
        # of the training cells' posterior means, set after the fit: where slopes are taken
        self.register_buffer("latent_mean", torch.zeros(n_factors))
        self.register_buffer("latent_sd", torch.ones(n_factors))

    def loss_parts(self, batch: Batch, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        x = batch.x
        mean, log_var = self._posterior(dropout(x, self.settings.dropout, generator))
        z = mean + (0.5 * log_var).exp() * noise(tuple(mean.shape), generator, mean.device)
        warmup = self.settings.kl_warmup
        kl_weight = min(1.0, progress / warmup) if warmup > 0 else 1.0
        return {
            "reconstruction": self._misfit(batch, z),
            "kl": kl_weight * gaussian_kl(mean, log_var).mean(),
            "prior_sigma": self.likelihood.prior_loss()[0],
        }

    def validation_parts(self, batch: Batch) -> dict[str, Tensor]:
        mean, log_var = self._posterior(batch.x)
        return {
            "reconstruction": self._misfit(batch, mean),
            "kl": gaussian_kl(mean, log_var).mean(),
        }

    def _misfit(self, batch: Batch, z: Tensor) -> Tensor:
        return self.likelihood.loss(self.decoder(z)[None], self.likelihood.target(batch))[0]

    def encode_mean(self, x: Tensor) -> Tensor:
        return self.mean_head(self.encoder(x))

    def decode_mean(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def _posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (n_cells, n_factors); the clamp keeps exp() finite in float32."""
        hidden = self.encoder(x)
        return self.mean_head(hidden), self.log_var_head(hidden).clamp(-15, 15)


class VAEModel(TorchFactorModel):
    """Factors are posterior means under the prior N(0, I)."""

    name: ClassVar[str] = "vae"
    module: VAEModule

    def make_module(self, n_genes: int, generator: torch.Generator) -> VAEModule:
        return VAEModule(n_genes, self.n_factors, self.settings, generator)

    def start(self, module: TorchModule, data: TrainingData, generator: torch.Generator) -> None:
        assert isinstance(module, VAEModule)
        sd = torch.from_numpy(self.scaling.scaled_sd)
        module.likelihood.start(0, sd, torch.ones_like(sd), len(data.train))

    def finish(self, module: TorchModule, data: TrainingData) -> None:
        assert isinstance(module, VAEModule)
        chunks = row_chunks(len(data.train), data.x.shape[1])
        latents = np.concatenate([self.transform(data.x[data.train[rows]]) for rows in chunks])
        module.latent_mean.copy_(torch.from_numpy(latents.mean(axis=0)))
        module.latent_sd.copy_(torch.from_numpy(latents.std(axis=0)).clamp(min=1e-3))

    def loadings(self) -> np.ndarray:
        """Slopes over one standard deviation of each latent on either side of the mean.

        Not the derivative there: the decoder's first layer has no bias, so all its kinks meet at 0, which is
        where the mean is.
        """
        mean, sd = (v.cpu().numpy() for v in (self.module.latent_mean, self.module.latent_sd))
        steps = np.diag(sd)
        rise = self.reconstruct(mean + steps) - self.reconstruct(mean - steps)
        return (rise / (2 * sd[:, None])).T
