"""InteL-VAE (Miao et al. 2022): a VAE whose prior is bent by a mapping before the decoder.

y ~ N(0, I), z = g(y), x ~ p(x | z). Minimises -E log p(x | g(y)) + beta KL(q(y | x) || N(0, I)) + gamma R,
where R belongs to the sparse selector alone. The encoder and its KL are the VAE's; cells are represented by
g(mean of y).
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from latentree.errors import InputError
from latentree.model_settings import IntelVAESettings
from latentree.models.intel_mappings import Circle, Hierarchy, Mapping, TwoHoles
from latentree.models.intel_sectors import Sectors
from latentree.models.intel_selector import SparseSelector
from latentree.models.scaling import TrainingData
from latentree.models.vae import Posterior, Sizes, VAEModel, VAEModule
from latentree.training import TorchModule

# of all of Adam's gradients, where the mapping is steep
_GRADIENT_CLIP = 10.0
# the likelihood, which gamma is weighed against, is a sum over genes
_GAMMA_PER_GENE = 0.03
# a latent is on in a cell where |z| is above this share of its sd over cells; gates never reach 0
_ON = 0.1
# few numbers far from their start, each of whose steps is noisy: at the networks' pace they stay near equal
_SHARES_PACE = 10.0
# training cells at most that the encoder's start is made for
_START_CELLS = 2000
# an axis of the encoder's features that is shorter than this share of the longest is rounding
_LEAST_LENGTH = 1e-4


class IntelVAEModule(VAEModule):
    """The VAE with a mapping; with the identity it is the VAE."""

    on_share: Tensor

    def __init__(self, sizes: Sizes, settings: IntelVAESettings, generator: torch.Generator) -> None:
        super().__init__(sizes, settings, generator)
        self.beta = settings.beta
        self.mapping = make_mapping(settings, sizes.n_factors, generator)
        gamma = _GAMMA_PER_GENE * sizes.n_genes if settings.gamma is None else settings.gamma
        self.gamma = gamma if self.mapping.has_penalty else 0.0
        if self.gamma > 0:
            self.settles_at = max(self.settles_at, settings.gamma_ramp)
        if self.mapping.steep:
            self.gradient_clip = _GRADIENT_CLIP
        # share of the training cells in which each latent is on, set after the fit
        self.register_buffer("on_share", torch.ones(sizes.n_factors))

    def transform(self, y: Tensor) -> Tensor:
        return self.mapping(y)

    def penalties(self, q: Posterior, y: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        if self.gamma == 0:
            return {}
        ramp = self.settings.gamma_ramp
        weight = self.gamma * (min(1.0, self.progress / ramp) if ramp > 0 else 1.0)
        return {"sparsity": weight * self.mapping.penalty(y)}

    def parameter_groups(self) -> list[dict[str, Any]]:
        if not isinstance(self.mapping, Sectors):
            return super().parameter_groups()
        shares = list(self.mapping.logits)
        others = [one for one in self.parameters() if all(one is not share for share in shares)]
        return [{"params": others}, {"params": shares, "lr_scale": _SHARES_PACE}]

    @torch.no_grad()
    def start_around_zero(self, cells: Tensor, covariates: Tensor | None = None) -> None:
        """Let the posterior means start as the leading principal components of the encoder's features.

        The mapping tells codes apart by their direction from 0. A random start may leave 0 on one side of all
        cells; then what lies around a ring in the data lies along an arc of codes, and training cannot get it
        around. Whitened, the cells start spread as the prior.

        Parameters
        ----------
        cells
            (n_cells, n_genes) scaled values.
        covariates
            (n_cells, n_batches) or None.
        """
        features = self.encoder(self._beside(cells, covariates))
        mean = features.mean(0)
        _, lengths, axes = torch.linalg.svd(features - mean, full_matrices=False)
        n_axes = min(self.sizes.n_factors, int((lengths > _LEAST_LENGTH * lengths[0]).sum()))
        weight = axes[:n_axes] * (len(cells) ** 0.5 / lengths[:n_axes, None])
        self.mean_head.weight[:n_axes] = weight
        self.mean_head.bias[:n_axes] = -weight @ mean


class IntelVAEModel(VAEModel):
    """Factors are g(posterior means)."""

    name: ClassVar[str] = "intel_vae"
    module_class: ClassVar[type[VAEModule]] = IntelVAEModule
    module: IntelVAEModule

    @torch.no_grad()
    def start(self, module: TorchModule, data: TrainingData, generator: torch.Generator) -> None:
        super().start(module, data, generator)
        assert isinstance(module, IntelVAEModule)
        if module.mapping.about_zero:
            rows = data.spread(_START_CELLS)
            cells = torch.from_numpy(self.scaling.apply(data.x[rows]))
            covariates = data.covariates_of(rows)
            module.start_around_zero(cells, None if covariates is None else torch.from_numpy(covariates))

    @torch.no_grad()
    def finish(self, module: TorchModule, data: TrainingData) -> None:
        super().finish(module, data)
        assert isinstance(module, IntelVAEModule)
        latents = torch.from_numpy(self._latents_of(data, data.train)).to(module.on_share.device)
        module.on_share.copy_((latents.abs() > _ON * latents.std(0)).float().mean(0))

    def facts(self) -> dict[str, Any]:
        facts = {**super().facts(), "mapping": self.settings.mapping, **self.module.mapping.facts()}
        if self.module.mapping.has_penalty:
            facts["gamma"] = self.module.gamma
            facts["latents_on_per_cell"] = float(self.module.on_share.sum())
            facts["on_above_sd"] = _ON
        return facts


def make_mapping(settings: IntelVAESettings, n_factors: int, generator: torch.Generator) -> Mapping:
    """The mapping that the settings name.

    Raises
    ------
    InputError
        It needs more latents, or blocks of other sizes.
    """
    if settings.mapping == "sparse":
        return SparseSelector(n_factors, settings.penalise == "codes", generator)
    if settings.mapping == "hierarchy":
        blocks = settings.blocks or default_blocks(n_factors)
        if sum(blocks) != n_factors:
            raise InputError(
                "blocks",
                f"sizes {list(blocks)} make {sum(blocks)} latents, and n_factors is {n_factors}",
                "Let their sum be n_factors, or set blocks: null",
            )
        return Hierarchy(blocks, settings.block_slope, generator)
    mapping: Mapping
    if settings.mapping == "clusters":
        mapping = Sectors(settings.n_clusters, settings.learn_proportions)
    else:
        mapping = {"circle": Circle, "two_holes": TwoHoles, "identity": Mapping}[settings.mapping]()
    if n_factors < mapping.least_factors:
        raise InputError(
            "n_factors",
            f"{settings.mapping} needs {mapping.least_factors} latents, and n_factors is {n_factors}",
            f"Fit at least {mapping.least_factors} factors, or use another mapping",
        )
    return mapping


def default_blocks(n_factors: int) -> tuple[int, ...]:
    """Three blocks of about a fifth, a quarter and half of the factors; fewer blocks of fewer than 3."""
    first = max(1, round(0.2 * n_factors))
    second = max(1, round(0.27 * n_factors))
    sizes = (first, second, n_factors - first - second)
    return sizes if sizes[2] > 0 else (1,) * n_factors
