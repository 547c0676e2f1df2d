"""Output-interpretable VAE (Ainsworth et al. 2018): factors that each move few groups of genes.

Minimises, per cell, -E log p(x | z) + KL(q(z | x) || N(0, I)) - log N(theta; 0, I)
+ sum_gj lam_g ||W^(g)_.j||_2, where group g's genes see z through W^(g) z alone and theta are the groups' own
networks. The norms are not back-propagated: a proximal step makes columns exactly zero.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from latentree.adam import Adam
from latentree.errors import InputError
from latentree.model_settings import OIVAESettings
from latentree.models.gene_groups import GeneGroups, GroupWeights
from latentree.models.group_decoder import GroupDecoder
from latentree.models.layers import linear
from latentree.models.scaling import TrainingData
from latentree.models.vae import Posterior, Sizes, VAEModel, VAEModule, hidden_layers
from latentree.training import TorchModule

# training cells at most whose principal components the groups start from
_START_CELLS = 2000
# learning rate of W as a multiple of the others': small weights are gone before the rates fall
_WEIGHTS_LR = 3.0


class OIDecoder(nn.Module):
    """Genes of sets by a :class:`GroupDecoder`, the exempt ones by the VAE's network.

    Batches shift each gene of a set, whatever the factors are.
    """

    in_sets: Tensor
    exempt: Tensor

    def __init__(self, sizes: Sizes, settings: OIVAESettings, generator: torch.Generator) -> None:
        super().__init__()
        assert sizes.groups is not None
        groups, self.n_factors = sizes.groups, sizes.n_factors
        member = torch.from_numpy(groups.member)
        self.register_buffer("in_sets", (member < groups.n_sets).nonzero().flatten())
        self.register_buffer("exempt", (member == groups.n_sets).nonzero().flatten())
        self.sets = GroupDecoder(
            member[self.in_sets],
            groups.n_sets,
            sizes.n_factors,
            settings.width,
            settings.decoder == "tanh",
            generator,
        )
        self.shifts = None
        if sizes.n_batches:
            self.shifts = linear(sizes.n_batches, len(self.in_sets), generator, bias=False)
        self.rest: nn.Sequential | None = None
        if len(self.exempt):
            n_inputs = sizes.n_factors + sizes.n_batches
            self.rest = hidden_layers(n_inputs, settings, generator, bias_first=False)
            self.rest.append(linear(settings.hidden, len(self.exempt), generator))

    def forward(self, inputs: Tensor) -> Tensor:
        z, covariates = inputs[:, : self.n_factors], inputs[:, self.n_factors :]
        of_sets = self.sets(z)
        if self.shifts is not None:
            of_sets = of_sets + self.shifts(covariates)
        if self.rest is None:
            return of_sets
        genes = inputs.new_empty(len(inputs), len(self.in_sets) + len(self.exempt))
        return genes.index_copy(1, self.in_sets, of_sets).index_copy(1, self.exempt, self.rest(inputs))

    @torch.no_grad()
    def start_level(self, level: Tensor) -> None:
        """Let predictors start around ``level`` (n_genes,)."""
        self.sets.bias.copy_(level[self.in_sets])
        if self.rest is not None:
            last = self.rest[-1]
            assert isinstance(last, nn.Linear)
            last.bias.copy_(level[self.exempt])


class OIVAEModule(VAEModule):
    """The VAE with a decoder of groups and the group lasso."""

    decoder: OIDecoder
    lam: Tensor
    penalty_scale: Tensor

    def __init__(self, sizes: Sizes, settings: OIVAESettings, generator: torch.Generator) -> None:
        super().__init__(sizes, settings, generator)
        assert sizes.groups is not None
        # 1 over the number of training cells, where weights are of the log prior
        self.register_buffer("penalty_scale", torch.ones(()))
        n_genes = torch.from_numpy(sizes.groups.sizes[:-1]).float()
        lam = settings.lam * (n_genes.sqrt() if settings.lam_by_size else torch.ones_like(n_genes))
        self.register_buffer("lam", lam)

    def make_decoder(self, generator: torch.Generator) -> OIDecoder:
        return OIDecoder(self.sizes, self.settings, generator)

    def start_level(self, level: Tensor) -> None:
        self.decoder.start_level(level)

    def penalties(self, q: Posterior, y: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Priors of the parameters, which say nothing about held-out cells."""
        if not self.training:
            return {}
        sets = self.decoder.sets
        return {
            "prior_theta": self.penalty_scale * self.settings.theta_weight * sets.theta_loss(),
            "group_lasso": (self._penalty() * sets.norms()).sum(),
        }

    def parameter_groups(self) -> list[dict[str, Any]]:
        """W apart: it takes proximal steps, and with ``eta`` none of Adam's."""
        weights = self.decoder.sets.weights
        others = [parameter for parameter in self.parameters() if parameter is not weights]
        of_weights = {"params": [weights], "lr_scale": _WEIGHTS_LR}
        return [{"params": others}, *([of_weights] if self.settings.eta is None else [])]

    def after_step(self, learning_rate: float, optimizer: Adam) -> None:
        super().after_step(learning_rate, optimizer)
        sets, eta = self.decoder.sets, self.settings.eta
        if eta is not None:
            # as the learning rate, so that both come to rest
            sets.sgd_step(eta * learning_rate / self.settings.learning_rate, self._penalty())
            sets.weights.grad = None
        elif self.settings.lam > 0:
            sets.adam_prox(optimizer.state[sets.weights], optimizer.param_groups[1], self._penalty())

    def _penalty(self) -> Tensor:
        """(n_groups, n_factors) weights of the norms."""
        return (self.lam * self.penalty_scale)[:, None].expand(-1, self.sizes.n_factors)


class OIVAEModel(VAEModel):
    """Factors of gene sets: which factor moves which set, with exact zeros."""

    name: ClassVar[str] = "oi_vae"
    module_class: ClassVar[type[VAEModule]] = OIVAEModule
    module: OIVAEModule
    groups: GeneGroups

    def see(self, data: TrainingData) -> None:
        super().see(data)
        if data.groups is None or data.groups.n_sets == 0:
            raise InputError(
                "gene_sets",
                "there are none of at least min_set_size modelled genes",
                "Give gene sets (a GMT file, or a dict) in the atlas's gene names, or model more genes",
            )
        self.groups = data.groups

    def see_state(self, state: Mapping[str, np.ndarray]) -> None:
        super().see_state(state)
        self.groups = GeneGroups.from_state(state)

    def sizes(self, n_genes: int) -> Sizes:
        return Sizes(n_genes, self.n_factors, self.n_batches, self.groups)

    def state(self) -> dict[str, np.ndarray]:
        return {**super().state(), **self.groups.state()}

    @torch.no_grad()
    def start(self, module: TorchModule, data: TrainingData, generator: torch.Generator) -> None:
        super().start(module, data, generator)
        assert isinstance(module, OIVAEModule)
        rows = data.spread(_START_CELLS)
        cells = torch.from_numpy(self.scaling.apply(data.x[rows], data.covariates_of(rows)))
        module.decoder.sets.start_heads(cells[:, module.decoder.in_sets])
        if self.settings.penalty_unit == "objective":
            module.penalty_scale.fill_(1 / len(data.train))

    def loadings(self) -> np.ndarray:
        """Exact zeros for the genes of sets that a factor does not touch."""
        off = np.r_[self.group_weights().weights == 0, np.zeros((1, self.n_factors), dtype=bool)]
        return np.where(off[self.groups.member], np.float32(0), super().loadings())

    def group_weights(self) -> GroupWeights:
        """Norms of each factor's weights into each set."""
        norms = self.module.decoder.sets.norms().cpu().numpy()
        groups = self.groups
        return GroupWeights(groups.names[:-1], groups.sizes[:-1], groups.member, norms)

    def facts(self) -> dict[str, Any]:
        """How many sets there are, and how many pairs of set and factor are left."""
        weights = self.group_weights().weights
        return {
            **super().facts(),
            "n_gene_sets": len(weights),
            "n_exempt_genes": int(self.groups.sizes[-1]),
            "set_factor_pairs": int((weights != 0).sum()),
        }
