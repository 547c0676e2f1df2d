"""beta-VAE (Higgins et al. 2017): a VAE whose KL has a weight of its own."""

from typing import Any, ClassVar

import torch

from latentree.models.vae import Sizes, VAEModel, VAEModule


class BetaVAEModule(VAEModule):
    """minimise -E log p(x | z) + beta KL(q(z | x) || N(0, I))."""

    def __init__(self, sizes: Sizes, settings: Any, generator: torch.Generator) -> None:
        super().__init__(sizes, settings, generator)
        self.beta = settings.beta


class BetaVAEModel(VAEModel):
    """With beta above 1 factors are less sure of themselves, and those that pay little die."""

    name: ClassVar[str] = "beta_vae"
    module_class: ClassVar[type[VAEModule]] = BetaVAEModule
