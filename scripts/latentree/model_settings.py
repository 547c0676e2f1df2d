"""What each factor model can be told; :data:`MODEL_SETTINGS` finds the settings by the model's name."""

from typing import Literal

from pydantic import Field

from latentree.factor_settings import FactorModelSettings, TorchModelSettings
from latentree.sparse_vae_settings import SparseVAESettings


class PCASettings(FactorModelSettings):
    """Principal component analysis (scikit-learn)."""


class ICASettings(FactorModelSettings):
    """FastICA on the principal components (scikit-learn)."""

    max_iter: int = Field(1000, ge=1, description="iterations at most")
    tol: float = Field(1e-4, gt=0, description="stop when the unmixing matrix moves by less")


class NMFSettings(FactorModelSettings):
    """Non-negative matrix factorisation (scikit-learn)."""

    max_iter: int = Field(500, ge=1, description="iterations at most")
    tol: float = Field(1e-4, gt=0, description="relative change at which to stop")


class VAESettings(TorchModelSettings):
    """Variational autoencoder; the base of its relatives."""

    gene_scaling: float = Field(
        0.5, ge=0, le=1, description="as in every model; half-way between log values and z-scores"
    )
    likelihood: Literal["auto", "gaussian", "nb", "laplace", "bernoulli"] = Field(
        "gaussian",
        description="gaussian, laplace: of the scaled values; nb: negative binomial on counts; bernoulli: of"
        " values in [0, 1], or of whether a gene is seen; auto: nb where the atlas has counts, else gaussian",
    )
    batch: str | None = Field(
        None, description="obs column of batches that encoder and decoder are told; null: the atlas's"
    )
    batch_size: int = Field(64, ge=1, description="cells per step")
    hidden: int = Field(100, ge=1, description="hidden units of each layer of encoder and decoder")
    n_layers: int = Field(2, ge=1, description="hidden layers of encoder and of decoder")
    kl_warmup: float = Field(
        0.8, ge=0, le=1, description="share of the epochs over which KL is switched on; short: factors die"
    )
    dropout: float = Field(
        0.2, ge=0, lt=1, description="share of the encoder's inputs set to zero in training"
    )


class BetaVAESettings(VAESettings):
    """VAE with a weight on KL (Higgins et al. 2017)."""

    beta: float = Field(4.0, ge=0, description="weight of KL; 1: the VAE")


class VSCSettings(VAESettings):
    """Variational sparse coding (Tonolini, Jensen, Murray-Smith 2020)."""


class OIVAESettings(VAESettings):
    """Output-interpretable VAE (Ainsworth et al. 2018): gene sets as groups."""


class DDVAESettings(VAESettings):
    """Disentangling disentanglement (Mathieu et al. 2019): overlap and a structured prior."""


class IntelVAESettings(VAESettings):
    """InteL-VAE (Miao et al. 2022): a mapping between normal and final latents."""


MODEL_SETTINGS: dict[str, type[FactorModelSettings]] = {
    "sparse_vae": SparseVAESettings,
    "vae": VAESettings,
    "beta_vae": BetaVAESettings,
    "vsc": VSCSettings,
    "oi_vae": OIVAESettings,
    "dd_vae": DDVAESettings,
    "intel_vae": IntelVAESettings,
    "nmf": NMFSettings,
    "pca": PCASettings,
    "ica": ICASettings,
}
