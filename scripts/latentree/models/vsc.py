"""Variational sparse coding (Tonolini, Jensen, Murray-Smith 2020): each cell switches factors on and off.

q(z | x) is spike and slab: with probability gate_k factor k is on and N(mean_k, sd_k^2), else it is exactly
0. The prior switches every factor on with probability alpha and draws N(0, 1) then (the form of the paper's
first version), or is the posterior of learned pseudo-inputs that a selector chooses by the cell.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from latentree.model_settings import VSCSettings
from latentree.models.layers import linear, noise
from latentree.models.scaling import TrainingData
from latentree.models.vae import Posterior, Sizes, VAEModel, VAEModule
from latentree.training import TorchModule

# steepness of the soft gates, at the start and at the end
_FIRST_STEEPNESS, _LAST_STEEPNESS = 50.0, 200.0
# share of the slab's warm-up in which only gates say anything (15,000 of 20,000 steps in the paper)
_GATES_ALONE = 0.75
# with pseudo-inputs narrow slabs have steep divergences
_GRADIENT_CLIP = 10.0


@dataclass(frozen=True)
class VSCPosterior(Posterior):
    """With ``selection`` (n_cells, n_pseudo_inputs): which of them is the cell's prior; rows sum to 1."""

    selection: Tensor | None = None


class VSCModule(VAEModule):
    """The VAE with a third head, the log odds that a factor is on."""

    gate_share: Tensor
    selection_share: Tensor

    def __init__(self, sizes: Sizes, settings: VSCSettings, generator: torch.Generator) -> None:
        super().__init__(sizes, settings, generator)
        self.settles_at = max(settings.kl_warmup, settings.slab_warmup)
        self.gate_head = linear(settings.hidden, sizes.n_factors, generator)
        # over the training cells, set after the fit
        self.register_buffer("gate_share", torch.zeros(sizes.n_factors))
        self.register_buffer("selection_share", torch.zeros(settings.pseudo_inputs))
        if settings.pseudo_inputs:
            self.gradient_clip = _GRADIENT_CLIP
            self.pseudo_inputs = nn.Parameter(torch.zeros(settings.pseudo_inputs, sizes.n_genes))
            self.selector = linear(sizes.n_genes, settings.pseudo_inputs, generator)

    def posterior(self, x: Tensor, covariates: Tensor | None = None) -> VSCPosterior:
        hidden = self.encoder(self._beside(x, covariates))
        return VSCPosterior(
            self.mean_head(hidden),
            self.log_var_head(hidden).clamp(-15, 15),
            self.gate_head(hidden),
            self.selector(x).softmax(1) if self.settings.pseudo_inputs else None,
        )

    def sample(self, q: Posterior, generator: torch.Generator) -> Tensor:
        """With soft gates, so that there are gradients, and the slab as far as its warm-up has come."""
        assert q.gate_logit is not None
        share = slab_share(self.progress, self.settings.slab_warmup)
        slab = share * q.mean + (0.5 * share * q.log_var).exp() * _noise_like(q.mean, generator)
        steepness = _FIRST_STEEPNESS + (_LAST_STEEPNESS - _FIRST_STEEPNESS) * self.progress
        return soft_gate(q.gate_logit.sigmoid(), _uniform_like(slab, generator), steepness) * slab

    def exact_sample(self, q: Posterior, generator: torch.Generator) -> Tensor:
        """Exact zeros where a factor is off."""
        assert q.gate_logit is not None
        slab = q.mean + (0.5 * q.log_var).exp() * _noise_like(q.mean, generator)
        return torch.where(_uniform_like(slab, generator) < q.gate_logit.sigmoid(), slab, 0)

    def centre(self, q: Posterior) -> Tensor:
        assert q.gate_logit is not None
        return q.gate_logit.sigmoid() * q.mean

    def divergence(self, q: Posterior, y: Tensor) -> Tensor:
        assert isinstance(q, VSCPosterior)
        if q.selection is None:
            return spike_slab_kl(q, self._prior(q.mean[:1])).sum(1)
        pseudo = self.posterior(self.pseudo_inputs)
        pairs = Posterior(*(value[:, None] for value in (q.mean, q.log_var, _gate_logit(q))))
        kl = (q.selection * spike_slab_kl(pairs, pseudo).sum(2)).sum(1)
        # nothing else keeps the pseudo-inputs sparse
        on = (q.selection @ _gate_logit(pseudo).sigmoid().mean(1)).clamp(1e-6, 1 - 1e-6)
        rate = bernoulli_kl(on.logit(), on.new_tensor(self._prior_logit()))
        return kl + self.sizes.n_factors * rate

    def log_prior(self, y: Tensor) -> Tensor:
        """With respect to the mixed measure of draws with exact zeros, under alpha's prior."""
        return spike_slab_log_density(y, self._prior(y[:1]))

    def log_posterior(self, q: Posterior, y: Tensor) -> Tensor:
        return spike_slab_log_density(y, q)

    def prior_sample(self, n_cells: int, generator: torch.Generator) -> Tensor:
        """With pseudo-inputs: of their posteriors, each as often as training cells select it."""
        if not self.settings.pseudo_inputs:
            like = self.latent_mean.expand(n_cells, -1)
            return self.exact_sample(self._prior(like), generator)
        chosen = torch.multinomial(self.selection_share.cpu(), n_cells, replacement=True, generator=generator)
        return self.exact_sample(self.posterior(self.pseudo_inputs[chosen]), generator)

    def _prior(self, like: Tensor) -> Posterior:
        """alpha's spike and slab in the form of a posterior."""
        zeros = torch.zeros_like(like)
        return Posterior(zeros, zeros, torch.full_like(like, self._prior_logit()))

    def _prior_logit(self) -> float:
        return math.log(self.settings.alpha / (1 - self.settings.alpha))


class VSCModel(VAEModel):
    """Factors are posterior means under a prior that switches most of them off in each cell."""

    name: ClassVar[str] = "vsc"
    module_class: ClassVar[type[VAEModule]] = VSCModule
    module: VSCModule

    @torch.no_grad()
    def start(self, module: TorchModule, data: TrainingData, generator: torch.Generator) -> None:
        super().start(module, data, generator)
        assert isinstance(module, VSCModule)
        if self.settings.pseudo_inputs:
            places = torch.randint(len(data.train), (self.settings.pseudo_inputs,), generator=generator)
            cells = self.scaling.apply(data.x[data.train[places.numpy()]])
            module.pseudo_inputs.copy_(torch.from_numpy(cells))

    @torch.no_grad()
    def finish(self, module: TorchModule, data: TrainingData) -> None:
        super().finish(module, data)
        assert isinstance(module, VSCModule)
        shares = [module.gate_share.zero_(), module.selection_share.zero_()]
        for rows in self._row_parts(data, data.train):
            known = data.covariates_of(rows)
            x = self._tensor(self.scaling.apply(data.x[rows]))
            q = module.posterior(x, None if known is None else self._tensor(known))
            shares[0] += _gate_logit(q).sigmoid().sum(0) / len(data.train)
            if q.selection is not None:
                shares[1] += q.selection.sum(0) / len(data.train)

    def facts(self) -> dict[str, Any]:
        """Mean number of factors that are on in a training cell, and how often each of them is."""
        gates = self.module.gate_share.cpu()
        facts = {
            **super().facts(),
            "mean_factors_on": float(gates.sum()),
            "by_factor": {"gate_probability": gates.tolist()},
        }
        if self.settings.pseudo_inputs:
            facts["selected_pseudo_inputs"] = self.module.selection_share.tolist()
        return facts

    def log_likelihood(self, data: TrainingData, rows: np.ndarray) -> np.ndarray | None:
        """As the VAE's, with draws that are exactly 0 where a factor is off.

        None with pseudo-inputs: what they give is chosen by the cell itself, so there is no p(z) whose
        importance weights would make p(x).
        """
        return None if self.settings.pseudo_inputs else super().log_likelihood(data, rows)


def spike_slab_kl(q: Posterior, p: Posterior) -> Tensor:
    """KL of one spike and slab from another in each factor; shapes broadcast.

    gate * KL(slab || slab) + KL(gate || gate), the corrected form of the paper's equation (its supplement
    writes sd for variance).
    """
    ratio = (q.log_var - p.log_var).exp() + (q.mean - p.mean) ** 2 * (-p.log_var).exp()
    slab = 0.5 * (p.log_var - q.log_var + ratio - 1)
    return _gate_logit(q).sigmoid() * slab + bernoulli_kl(_gate_logit(q), _gate_logit(p))


def bernoulli_kl(logit: Tensor, other: Tensor) -> Tensor:
    """KL(Bernoulli(sigmoid(logit)) || Bernoulli(sigmoid(other))), finite and with gradients at any logits."""
    on = logit.sigmoid() * (logsigmoid(logit) - logsigmoid(other))
    return on + (-logit).sigmoid() * (logsigmoid(-logit) - logsigmoid(-other))


def spike_slab_log_density(y: Tensor, q: Posterior) -> Tensor:
    """log q(y) of draws (n_cells, n_factors) that are exactly 0 where a factor is off, (n_cells,)."""
    gate_logit = _gate_logit(q)
    slab = -0.5 * ((y - q.mean) ** 2 * (-q.log_var).exp() + q.log_var + math.log(2 * math.pi))
    return torch.where(y != 0, logsigmoid(gate_logit) + slab, logsigmoid(-gate_logit)).sum(1)


def soft_gate(gate: Tensor, uniform: Tensor, steepness: float) -> Tensor:
    """Near 1 in a share ``gate`` of the draws uniform on [0, 1), else near 0."""
    return (steepness * (uniform - 1 + gate)).sigmoid()


def slab_share(progress: float, warmup: float) -> float:
    """Share of the slabs' own means and variances in the draws: 0 first, then a line to 1 at ``warmup``."""
    if progress >= warmup:
        return 1.0
    return max(0.0, (progress / warmup - _GATES_ALONE) / (1 - _GATES_ALONE))


def _gate_logit(q: Posterior) -> Tensor:
    assert q.gate_logit is not None
    return q.gate_logit


def _noise_like(values: Tensor, generator: torch.Generator) -> Tensor:
    return noise(tuple(values.shape), generator, values.device)


def _uniform_like(values: Tensor, generator: torch.Generator) -> Tensor:
    """On the generator's device (the CPU) first: every device sees the same."""
    return torch.rand(values.shape, generator=generator, device=generator.device).to(values.device)
