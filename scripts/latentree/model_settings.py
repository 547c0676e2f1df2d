"""What each factor model can be told; :data:`MODEL_SETTINGS` finds the settings by the model's name."""

from os import PathLike
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

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

    alpha: float = Field(
        0.2, gt=0, lt=1, description="prior share of factors that are on in a cell; times n_factors above 1"
    )
    pseudo_inputs: int = Field(
        0, ge=0, description="learned cells whose posteriors are the prior; 0: N(0, 1) in a share alpha"
    )
    slab_warmup: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the epochs in whose beginning only the gates tell cells apart (the paper: 0.3);"
        " sparser latents, worse on held-out cells",
    )


class OIVAESettings(VAESettings):
    """Output-interpretable VAE (Ainsworth et al. 2018): gene sets as groups."""

    gene_scaling: float = Field(1.0, ge=0, le=1, description="as in every model; 1: z-scores")
    gene_sets: str | tuple[str, ...] | dict[str, tuple[str, ...]] | None = Field(
        None,
        description="GMT file or files, or sets as name: genes; null: the atlas's own, which a config names",
    )
    min_set_size: int = Field(5, ge=1, description="genes that a set needs for itself")
    permuted: bool = Field(
        False, description="control: sets of the same sizes with random genes, by the fit's seed"
    )
    decoder: Literal["tanh", "linear"] = Field(
        "tanh", description="tanh: a hidden layer for each set; linear: a group-sparse linear model"
    )
    width: int = Field(4, ge=1, description="numbers through which the factors move a set")
    lam: float = Field(0.1, ge=0, description="weight of the norms of what a factor does to a set; 0: none")
    lam_by_size: bool = Field(True, description="multiply lam by the root of the set's number of genes")
    theta_weight: float = Field(
        0.1, ge=0, description="weight of the standard normal prior of sets' networks"
    )
    penalty_unit: Literal["cell", "objective"] = Field(
        "cell",
        description="of lam and theta_weight; cell: nats per cell, as in the paper's code; objective: of the"
        " log prior, as in its text",
    )
    eta: float | None = Field(
        None,
        gt=0,
        description="step size of plain gradient steps on the sets' weights (the paper: 1e-4); null: Adam's",
    )

    @field_validator("gene_sets", mode="before")
    @classmethod
    def _paths_are_text(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [str(path) if isinstance(path, PathLike) else path for path in value]
        return str(value) if isinstance(value, PathLike) else value

    @field_validator("gene_sets")
    @classmethod
    def _none_given_is_none(cls, value: Any) -> Any:
        return value or None


class DDVAESettings(VAESettings):
    """Disentangling disentanglement (Mathieu et al. 2019): overlap and a structured prior."""

    prior: Literal["isotropic", "anisotropic", "student_t", "clusters", "sparse"] = Field(
        "sparse",
        description="of the latents: N(0, I); variances as the cells' principal components have them;"
        " Student-t; a mixture of normals; for each latent a mixture of N(0, 1) and a spike",
    )
    beta: float = Field(1.0, ge=0, description="weight of KL(q(z | x) || prior), which sets cells' overlap")
    alpha: float | None = Field(
        None,
        ge=0,
        description="weight of the divergence between the cells' latents together and the prior, switched on"
        " with KL; null: 10 for sparse, 1 for clusters, else 0",
    )
    divergence: Literal["auto", "kl", "mmd"] = Field(
        "auto",
        description="kl: KL(prior || aggregate); mmd: maximum mean discrepancy of each latent alone; auto: kl"
        " for clusters, else mmd",
    )
    learn_prior: bool = Field(
        False, description="fit the variances (anisotropic), or the means and weights (clusters)"
    )
    mean_variance: float = Field(1.0, gt=0, description="anisotropic: mean of the latents' variances")
    nu: float = Field(9.0, gt=2, description="student_t: degrees of freedom")
    n_clusters: int = Field(4, ge=2, description="clusters: how many")
    cluster_variance: float = Field(0.03, gt=0, description="clusters: variance along each latent")
    gamma: float = Field(0.8, ge=0, le=1, description="sparse: share of latents that are off")
    spike_sd: float = Field(
        0.05**0.5,
        gt=0,
        description="sparse: standard deviation of what is off; the paper's text has variance .05, its code"
        " standard deviation .05",
    )
    max_epochs: int = Field(200, ge=1, description="as in every model; fewer leave a strong alpha half done")
    batch_size: int = Field(128, ge=1, description="cells per step; few make the divergence noisy")

    @model_validator(mode="after")
    def _keys_go_together(self) -> "DDVAESettings":
        if self.learn_prior and self.prior not in ("anisotropic", "clusters"):
            raise ValueError(f"prior: {self.prior} has nothing to learn: leave learn_prior out")
        return self


class IntelVAESettings(VAESettings):
    """InteL-VAE (Miao et al. 2022): a mapping between normal and final latents."""

    mapping: Literal["sparse", "clusters", "circle", "two_holes", "hierarchy", "identity"] = Field(
        "sparse",
        description="what bends the prior: sparse gates the latents of each cell, clusters cuts them into"
        " sectors, circle and two_holes bend the first two, hierarchy builds blocks on blocks",
    )
    beta: float = Field(1.0, ge=0, description="weight of KL")
    gamma: float | None = Field(
        None,
        ge=0,
        description="sparse: weight of the entropies that close gates; null: 0.03 for each modelled gene",
    )
    gamma_ramp: float = Field(
        0.3, ge=0, le=1, description="sparse: share of the epochs over which gamma is switched on"
    )
    penalise: Literal["gates", "codes"] = Field(
        "gates", description="sparse: what the entropies are of, the paper's text (gates) or its code (codes)"
    )
    n_clusters: int = Field(
        7, ge=2, description="clusters: their number; above 8 they share several planes of sectors"
    )
    learn_proportions: bool = Field(
        True, description="clusters: whether their shares of the prior are learned or equal"
    )
    blocks: tuple[int, ...] | None = Field(
        None, min_length=1, description="hierarchy: sizes of the blocks; null: three growing ones"
    )
    block_slope: float = Field(
        0.0, ge=0, lt=1, description="hierarchy: slope of the blocks' units below 0; 0: ReLU as in the paper"
    )

    @model_validator(mode="after")
    def _blocks_hold_latents(self) -> "IntelVAESettings":
        if self.blocks is not None and min(self.blocks) < 1:
            raise ValueError("blocks are sizes of 1 at least")
        return self


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
