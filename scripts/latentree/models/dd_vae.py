"""VAE with a structured prior and a weight on matching it (Mathieu et al. 2019, equation 7).

Minimises -E log p(x | z) + beta * KL(q(z | x) || p(z)) + alpha * D(q(z), p(z)), where q(z) is the posteriors'
mixture over cells. beta says how far cells overlap, alpha how closely all of them together follow the prior.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from latentree.errors import InputError
from latentree.model_settings import DDVAESettings
from latentree.models.dd_priors import (
    AnisotropicPrior,
    ClusterPrior,
    IsotropicPrior,
    LatentPrior,
    SparsePrior,
    StudentTPrior,
    cluster_means,
)
from latentree.models.divergences import kl_to_aggregate, marginal_mmd
from latentree.models.pca import principal_axes
from latentree.models.scaling import TrainingData
from latentree.models.vae import Posterior, Sizes, VAEModel, VAEModule
from latentree.training import TorchModule

_ALPHA = {"sparse": 10.0, "clusters": 1.0}
"""Where settings leave it open. The paper's experiments on the other priors have none; on cells more than 10
costs held-out variance and makes latents less sparse."""

# cells under the principal variances: only their ratios count
_MOST_CELLS = 10_000


class DDVAEModule(VAEModule):
    """The VAE with a prior of its own and the divergence of a batch's latents from it."""

    def __init__(self, sizes: Sizes, settings: DDVAESettings, generator: torch.Generator) -> None:
        super().__init__(sizes, settings, generator)
        self.beta = settings.beta
        self.prior = make_prior(settings, sizes.n_factors)
        self.alpha = _ALPHA.get(settings.prior, 0.0) if settings.alpha is None else settings.alpha
        kind = {"auto": "kl" if settings.prior == "clusters" else "mmd"}
        self.kind = kind.get(settings.divergence, settings.divergence)
        self.full_batch = settings.batch_size

    def divergence(self, q: Posterior, y: Tensor) -> Tensor:
        if not self.training:
            # what log p is at a mean says little about draws: the same draws in every epoch
            y = self.sample(q, torch.Generator().manual_seed(0))
        return self.prior.kl(q.mean, q.log_var, y)

    def penalties(self, q: Posterior, y: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        if self.alpha == 0:
            return {}
        if not self.training:
            # as many cells as in training, whose number the estimates depend on, and draws instead of means
            rows = torch.linspace(0, len(y) - 1, min(len(y), self.full_batch), device=y.device).long()
            q = Posterior(q.mean[rows], q.log_var[rows])
            y = self.sample(q, generator)
        elif 2 * len(y) < self.full_batch:
            # the epoch's last few cells say little about all of them
            return {"aggregate": y.new_zeros(())}
        # switched on with KL: strong from the start it drives all cells into the prior, and none comes back
        warmup = self.settings.kl_warmup
        weight = self.alpha * (min(1.0, self.progress / warmup) if warmup > 0 else 1.0)
        return {"aggregate": weight * self.aggregate_divergence(q, y, generator)}

    def aggregate_divergence(self, q: Posterior, y: Tensor, generator: torch.Generator) -> Tensor:
        """D(q(z), p(z)) of cells with posteriors q and draws y, a scalar."""
        if self.kind == "kl":
            return kl_to_aggregate(self.prior, q.mean, q.log_var, generator)
        return marginal_mmd(self.prior.sample(len(y), generator).to(y.device), y)

    def log_prior(self, y: Tensor) -> Tensor:
        return self.prior.log_density(y)

    def prior_sample(self, n_cells: int, generator: torch.Generator) -> Tensor:
        return self.prior.sample(n_cells, generator).to(self.latent_mean.device)


class DDVAEModel(VAEModel):
    """Factors are posterior means under the prior that was chosen."""

    name: ClassVar[str] = "dd_vae"
    module_class: ClassVar[type[VAEModule]] = DDVAEModule
    module: DDVAEModule

    def start(self, module: TorchModule, data: TrainingData, generator: torch.Generator) -> None:
        super().start(module, data, generator)
        assert isinstance(module, DDVAEModule)
        module.full_batch = min(module.full_batch, len(data.train))
        if isinstance(module.prior, AnisotropicPrior):
            cells = self.scaling.apply_uncentred(data.x[data.spread(_MOST_CELLS)])
            n_axes = min(self.n_factors, *cells.shape)
            variances = torch.zeros(self.n_factors)
            variances[:n_axes] = torch.from_numpy(principal_axes(cells, n_axes, seed=0)[1])
            module.prior.start_at(variances)

    def facts(self) -> dict[str, Any]:
        prior = self.module.prior
        facts = {**super().facts(), "alpha": self.module.alpha}
        if isinstance(prior, AnisotropicPrior):
            facts["by_factor"] = {"prior_variance": prior.variances().tolist()}
        if isinstance(prior, ClusterPrior):
            facts["prior_weights"] = prior.weights().tolist()
        return facts


def make_prior(settings: DDVAESettings, n_factors: int) -> LatentPrior:
    """The prior that the settings name.

    Raises
    ------
    InputError
        More clusters than there is room for in so few dimensions.
    """
    if settings.prior == "anisotropic":
        return AnisotropicPrior(n_factors, settings.mean_variance, learned=settings.learn_prior)
    if settings.prior == "student_t":
        return StudentTPrior(n_factors, settings.nu)
    if settings.prior == "sparse":
        return SparsePrior(n_factors, settings.gamma, settings.spike_sd)
    if settings.prior == "isotropic":
        return IsotropicPrior(n_factors)
    means = cluster_means(settings.n_clusters, n_factors)
    if len(means) < settings.n_clusters:
        raise InputError(
            "n_clusters",
            f"{settings.n_clusters} clusters do not fit in {n_factors} latents, which have {len(means)} ends",
            f"Fit {-(-settings.n_clusters // 2)} factors or more, or two, whose plane takes any number",
        )
    return ClusterPrior(means, settings.cluster_variance, learned=settings.learn_prior)
