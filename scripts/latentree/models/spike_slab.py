"""Spike-and-slab lasso on the factor weights of a Sparse VAE: exact E-step and proximal M-step.

Each weight has the prior ``gamma * slab(w) + (1 - gamma) * spike(w)`` with Laplace densities
``rate / 2 * exp(-rate * |w|)``, ``gamma ~ Bernoulli(eta_k)`` and ``eta_k ~ Beta(a, b)``
(Ročková and George 2018; Moran et al. 2022). The rate of the spike, ``lambda0``, is far above that of the
slab, ``lambda1``: weights under the spike are pressed to zero, weights under the slab hardly shrink.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# keeps log(eta) and log(1 - eta) finite for a factor that no gene, or every gene, uses
_SMALLEST_ETA = 1e-10


@dataclass(frozen=True)
class Rates:
    """Rates of spike and slab in force now, in units of the log prior (not divided by n_cells)."""

    spike: float
    slab: float


def inclusion_probability(sizes: Tensor, eta: Tensor, rates: Rates) -> Tensor:
    """Exact E-step: the probability that each weight was drawn from the slab.

    The reference code leaves out the densities' factors lambda1 and lambda0, which multiplies the odds of
    the slab by ``lambda0 / lambda1``; here they are in.

    Parameters
    ----------
    sizes
        (..., n_genes, n_factors), the weights' absolute values.
    eta
        (..., n_factors), prior probability of the slab.
    rates
        Spike and slab.

    Returns
    -------
    (..., n_genes, n_factors) in [0, 1].
    """
    log_odds = torch.logit(eta) + math.log(rates.slab / rates.spike)
    return torch.sigmoid(log_odds.unsqueeze(-2) + (rates.spike - rates.slab) * sizes)


def expected_rates(inclusion: Tensor, rates: Rates) -> Tensor:
    """The Laplace rate that each weight meets in the M-step, (..., n_genes, n_factors)."""
    return inclusion * rates.slab + (1 - inclusion) * rates.spike


def update_eta(inclusion: Tensor, a: float, b: float) -> Tensor:
    """Mode of each factor's Beta posterior given the expected memberships, (..., n_factors).

    A factor that few genes use gets a small ``eta``, which in turn asks more of the next gene: so factors
    that are not needed empty.
    """
    n_genes = inclusion.shape[-2]
    eta = (inclusion.sum(-2) + a - 1) / (a + b + n_genes - 2)
    return eta.clamp(_SMALLEST_ETA, 1 - _SMALLEST_ETA)


def group_sizes(weights: Tensor) -> Tensor:
    """(..., n_genes, n_factors): length of each group of terms (..., n_genes, n_factors, n_terms)."""
    return weights[..., 0].abs() if weights.shape[-1] == 1 else torch.linalg.vector_norm(weights, dim=-1)


def group_soft_threshold(weights: Tensor, thresholds: Tensor) -> Tensor:
    """``argmin_w |w - weight|^2 / 2 + threshold * |w|`` of each group of terms; exact zeros.

    Parameters
    ----------
    weights
        (..., n_terms); with one term it is the soft threshold of a number.
    thresholds
        (...).
    """
    if weights.shape[-1] == 1:
        thresholds = thresholds.unsqueeze(-1)
        return weights - torch.clamp(weights, -thresholds, thresholds)
    shrunken = 1 - thresholds / group_sizes(weights).clamp_min(1e-30)
    return weights * shrunken.clamp_min(0).unsqueeze(-1)


@torch.no_grad()
def proximal_step(
    weights: Tensor, adam_state: Mapping[str, Tensor], group: Mapping[str, Any], penalty: Tensor
) -> None:
    """Finish Adam's step on the weights by the soft threshold in Adam's own metric, in place.

    Adam moved each weight by ``s * m`` with its own step size ``s = lr / (sqrt(v) + eps)``; the proximal
    point of the penalty in that metric is ``soft_threshold(w, s * penalty)``, with exact zeros. A group of
    several terms is thresholded by the step size of its mean ``v``.

    Parameters
    ----------
    weights
        (..., n_genes, n_factors, n_terms), just moved by ``torch.optim.Adam``.
    adam_state
        ``optimizer.state[weights]``: step and exp_avg_sq.
    group
        The optimiser's group that holds the weights: lr, betas, eps.
    penalty
        (..., n_genes, n_factors), Laplace rates in units of the loss.
    """
    correction = 1 - group["betas"][1] ** float(adam_state["step"])
    root = (adam_state["exp_avg_sq"].mean(-1) / correction).sqrt_().add_(group["eps"])
    weights.copy_(group_soft_threshold(weights, group["lr"] * penalty / root))


@dataclass(frozen=True)
class PenaltySchedule:
    """Penalty as a function of progress alone (epoch / max_epochs), so that a resumed fit repeats it.

    The penalty is switched on linearly, then the spike's rate climbs a geometric ladder from the slab's
    rate to its own: entries are pruned a few at a time, each rung starting from the fit of the last.
    After ``refit_from`` there is no penalty: the weights that are left are fitted without shrinkage.
    """

    spike: float
    slab: float
    n_rungs: int
    refit_from: float
    ramp_until: float = 0.1
    ladder_until: float = 0.7

    @property
    def settles_at(self) -> float:
        """Progress from which nothing here changes: ladder climbed and, where there is a refit, refitting."""
        ladder = self.ladder_until if self.n_rungs > 1 else 0.0
        return max(ladder, self.refit_from) if self.refit_from < 1 else ladder

    def rates(self, progress: float) -> Rates:
        """Rates in force at this progress; with one rung the spike has its full rate throughout."""
        if self.n_rungs == 1:
            return Rates(self.spike, self.slab)
        climbed = (progress - self.ramp_until) / (self.ladder_until - self.ramp_until)
        rung = min(max(math.floor(climbed * self.n_rungs), 0), self.n_rungs - 1)
        return Rates(self.slab * (self.spike / self.slab) ** (rung / (self.n_rungs - 1)), self.slab)

    def strength(self, progress: float) -> float:
        """Factor on the penalty: 0 to 1 over the ramp; without a ladder there is no ramp either."""
        if self.n_rungs == 1:
            return 1.0
        return min(1.0, progress / self.ramp_until)

    def refitting(self, progress: float) -> bool:
        """Whether the support is frozen and the penalty off."""
        return progress >= self.refit_from
