"""Priors of the latents that say what a representation should look like (Mathieu et al. 2019, section 6).

Each knows its log-density, draws from itself and gives KL(q || p) of diagonal normal posteriors: in closed
form where p is normal, else from one draw.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from latentree.models.layers import gaussian_kl

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class LatentPrior(nn.Module, ABC):
    """A density over latents (n_factors,)."""

    def __init__(self, n_factors: int) -> None:
        super().__init__()
        self.n_factors = n_factors

    @abstractmethod
    def log_density(self, z: Tensor) -> Tensor:
        """log p(z) in nats, (n,), of latents (n, n_factors); summed over the factors."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws (n, n_factors) without gradients, on the generator's device."""

    def kl(self, mean: Tensor, log_var: Tensor, z: Tensor) -> Tensor:
        """KL(q || p) of each cell in nats, (n_cells,), q = N(mean, diag exp(log_var)).

        All arguments are (n_cells, n_factors), z ~ q. Here log p is taken at that draw, and log q is replaced
        by its mean, minus the entropy of q: at mean + sd * noise it differs from that by a number without
        gradients.
        """
        entropy = (0.5 * log_var + _HALF_LOG_2PI + 0.5).sum(dim=1)
        return -entropy - self.log_density(z)


class IsotropicPrior(LatentPrior):
    """N(0, I): the VAE's."""

    def log_density(self, z: Tensor) -> Tensor:
        return _log_normal(z, 0.0).sum(dim=1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return _normal(n, self.n_factors, generator)

    def kl(self, mean: Tensor, log_var: Tensor, z: Tensor) -> Tensor:
        return gaussian_kl(mean, log_var)


class AnisotropicPrior(LatentPrior):
    """N(0, diag v) with v_k = mean_variance * n_factors * softmax(a)_k, so that v always has that mean.

    The paper's variances are those of the data's principal components, fixed or learned from there; only
    their ratios count.

    Parameters
    ----------
    n_factors
        Number of latents.
    mean_variance
        The mean of v.
    learned
        Whether a is a parameter of the fit.
    """

    logits: Tensor

    def __init__(self, n_factors: int, mean_variance: float = 1.0, *, learned: bool = False) -> None:
        super().__init__(n_factors)
        self.mean_variance = mean_variance
        logits = torch.zeros(n_factors)
        if learned:
            self.logits = nn.Parameter(logits)
        else:
            self.register_buffer("logits", logits)

    @torch.no_grad()
    def start_at(self, variances: Tensor) -> None:
        """Take the ratios of these variances (n_factors,); tiny ones count as 1/10,000 of the largest."""
        self.logits.copy_(variances.clamp(min=1e-4 * float(variances.max())).log())

    def variances(self) -> Tensor:
        """v, (n_factors,)."""
        return self.log_variances().exp()

    def log_variances(self) -> Tensor:
        """log v, (n_factors,)."""
        return math.log(self.mean_variance * self.n_factors) + self.logits.log_softmax(dim=0)

    def log_density(self, z: Tensor) -> Tensor:
        return _log_normal(z, self.log_variances()).sum(dim=1)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return _normal(n, self.n_factors, generator) * self.variances().sqrt().to(generator.device)

    def kl(self, mean: Tensor, log_var: Tensor, z: Tensor) -> Tensor:
        log_v = self.log_variances()
        return gaussian_kl(mean * (-0.5 * log_v).exp(), log_var - log_v)


class StudentTPrior(LatentPrior):
    """Independent Student-t distributions with ``nu`` degrees of freedom, location 0 and scale 1."""

    def __init__(self, n_factors: int, nu: float) -> None:
        super().__init__(n_factors)
        self.nu = nu
        self._log_norm = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - 0.5 * math.log(nu * math.pi)

    def log_density(self, z: Tensor) -> Tensor:
        return (self._log_norm - (self.nu + 1) / 2 * (z.square() / self.nu).log1p()).sum(dim=1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """By Bailey's polar method (Math. Comput. 62:779, 1994), which needs nothing but uniform numbers."""
        shape = (n, self.n_factors)
        radius, angle = (torch.rand(shape, generator=generator, device=generator.device) for _ in range(2))
        # rand may be 0
        radius = (self.nu * torch.expm1(-2 / self.nu * (1 - radius).log())).sqrt()
        return radius * torch.cos(2 * math.pi * angle)


class ClusterPrior(LatentPrior):
    """A mixture of round normal distributions, sum_j w_j N(m_j, variance * I).

    Parameters
    ----------
    means
        (n_clusters, n_factors); :func:`cluster_means` has the paper's.
    variance
        Of every cluster along every factor.
    weights
        (n_clusters,) summing to 1; None: equal ones.
    learned
        Whether means and weights are parameters of the fit: types of cells are not equally frequent.
    """

    means: Tensor
    weight_logits: Tensor

    def __init__(
        self, means: Tensor, variance: float, weights: Tensor | None = None, *, learned: bool = False
    ) -> None:
        super().__init__(means.shape[1])
        self.variance = variance
        logits = torch.zeros(len(means)) if weights is None else weights.log()
        if learned:
            self.means, self.weight_logits = nn.Parameter(means.clone()), nn.Parameter(logits)
        else:
            self.register_buffer("means", means.clone())
            self.register_buffer("weight_logits", logits)

    def weights(self) -> Tensor:
        """(n_clusters,)."""
        return self.weight_logits.softmax(dim=0)

    def log_density(self, z: Tensor) -> Tensor:
        return self._joint(z).logsumexp(dim=1)

    @torch.no_grad()
    def responsibilities(self, z: Tensor) -> Tensor:
        """p(cluster | z), (n, n_clusters)."""
        return self._joint(z).softmax(dim=1)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        device = generator.device
        clusters = torch.multinomial(self.weights().to(device), n, replacement=True, generator=generator)
        noise = _normal(n, self.n_factors, generator)
        return self.means.to(device)[clusters] + math.sqrt(self.variance) * noise

    def _joint(self, z: Tensor) -> Tensor:
        """log p(z, cluster), (n, n_clusters)."""
        # not by matrix products, which round away what is near a mean
        components = _log_normal(z[:, None] - self.means, math.log(self.variance)).sum(dim=2)
        return self.weight_logits.log_softmax(dim=0) + components


class SparsePrior(LatentPrior):
    """prod_k (1 - gamma) N(0, 1) + gamma N(0, spike_sd^2): a share gamma of the latents is off.

    gamma = 0 is N(0, I). The paper's text has the spike's variance .05, its code the standard deviation .05.
    """

    def __init__(self, n_factors: int, gamma: float, spike_sd: float) -> None:
        super().__init__(n_factors)
        self.gamma, self.spike_sd = gamma, spike_sd

    def log_density(self, z: Tensor) -> Tensor:
        # log 0 is minus infinity, which logaddexp takes
        on = _log(1 - self.gamma) + _log_normal(z, 0.0)
        off = _log(self.gamma) + _log_normal(z, 2 * math.log(self.spike_sd))
        return torch.logaddexp(on, off).sum(dim=1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        shape = (n, self.n_factors)
        off = torch.rand(shape, generator=generator, device=generator.device) < self.gamma
        return _normal(n, self.n_factors, generator) * torch.where(off, self.spike_sd, 1.0)

    def kl(self, mean: Tensor, log_var: Tensor, z: Tensor) -> Tensor:
        return gaussian_kl(mean, log_var) if self.gamma == 0 else super().kl(mean, log_var, z)


def cluster_means(n_clusters: int, n_factors: int) -> Tensor:
    """Means at distance 1 from the origin, (n_clusters, n_factors); for 4 in the plane the paper's.

    In the plane evenly around the circle; elsewhere along the axes, first their positive ends, so at most
    2 * n_factors.
    """
    if n_factors == 2:
        angles = 2 * math.pi * torch.arange(n_clusters) / n_clusters
        return torch.stack([angles.cos(), angles.sin()], dim=1)
    ends = torch.cat([torch.eye(n_factors), -torch.eye(n_factors)])
    return ends[:n_clusters]


def _normal(n: int, n_factors: int, generator: torch.Generator) -> Tensor:
    return torch.randn((n, n_factors), generator=generator, device=generator.device)


def _log_normal(z: Tensor, log_variance: Tensor | float) -> Tensor:
    """Log-density of N(0, exp(log_variance)), element by element."""
    log_variance = torch.as_tensor(log_variance, dtype=z.dtype, device=z.device)
    return -0.5 * (z.square() * (-log_variance).exp() + log_variance) - _HALF_LOG_2PI


def _log(share: float) -> float:
    return math.log(share) if share > 0 else -math.inf
