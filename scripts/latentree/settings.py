"""What each part of the library can be told; the config file is made of these classes.

Every class is frozen, knows its defaults and refuses unknown keys. Imports nothing heavy, so that
the command line and the Snakefile stay quick.
"""

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Settings(BaseModel):
    """A frozen group of settings; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def settings_inside(annotation: Any) -> type[Settings] | None:
    """The settings class of an annotation such as ``X``, ``X | None`` or ``dict[str, X]``."""
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation if issubclass(annotation, Settings) else None
    return next((found for argument in get_args(annotation) if (found := settings_inside(argument))), None)


class PreprocessSettings(Settings):
    """How an atlas is normalised, split and reduced to the modelled genes."""

    n_genes: int = Field(1000, ge=1, description="modelled genes; all are taken where there are fewer")
    gene_selection: Literal["auto", "seurat_v3", "seurat", "all"] = Field(
        "auto", description="auto: seurat_v3 where the atlas has counts, seurat on log values otherwise"
    )
    min_cells_per_gene: int = Field(3, ge=1, description="genes seen in fewer cells are dropped")
    min_genes_per_cell: int = Field(1, ge=1, description="cells with fewer genes are dropped")
    test_fraction: float = Field(0.2, gt=0, lt=1, description="share of each cell type kept for testing")
    validation_fraction: float = Field(0.1, gt=0, lt=1, description="share of each type for early stopping")
    seed: int = Field(0, ge=0, description="seed of the split")

    @model_validator(mode="after")
    def _some_cells_are_left_for_training(self) -> "PreprocessSettings":
        if self.test_fraction + self.validation_fraction >= 1:
            raise ValueError("test_fraction and validation_fraction leave no cells for training")
        return self


class MagicSettings(Settings):
    """MAGIC denoising (van Dijk et al., Cell 174:716, 2018)."""

    engine: Literal["latentree", "magic-impute"] = Field(
        "latentree", description="magic-impute: the original package, in an environment of its own"
    )
    knn: int = Field(5, ge=1, description="neighbour whose distance sets a cell's bandwidth")
    knn_max: int | None = Field(None, ge=1, description="neighbours kept at most; null: 3 * knn")
    decay: float | None = Field(1.0, gt=0, description="exponent of the kernel's tail; null: 0/1 neighbours")
    t: int = Field(3, ge=0, description="diffusion power; 0 leaves the values as they are")
    n_pca: int | None = Field(100, ge=1, description="principal components for distances; null: none")
    fit_on: Literal["train", "all"] = Field(
        "train", description="cells that make the graph; all is marked leaky in tables"
    )
    seed: int = Field(0, ge=0, description="seed of the randomised PCA")

    @model_validator(mode="after")
    def _the_graph_can_be_made(self) -> "MagicSettings":
        if self.knn_max is not None and self.knn_max < self.knn:
            raise ValueError(f"knn_max ({self.knn_max}) must not be below knn ({self.knn})")
        if self.engine == "magic-impute" and self.fit_on == "train":
            raise ValueError("magic-impute has no place for held-out cells: set fit_on: all beside it")
        return self


class TreeSettings(Settings):
    """Where the rooted tree of cell types comes from."""

    file: str | None = Field(
        None, description="your own tree, Newick (.nwk, .newick) or table (.tsv: node, parent, branch_length)"
    )
    linkage: Literal["complete", "average", "single", "ward"] = Field(
        "complete", description="linkage of scanpy's dendrogram; used where no file is given"
    )
    n_pcs: int = Field(50, ge=2, description="principal components under the dendrogram")


class EnvironmentSettings(Settings):
    """Cells and tree of the environments (cell types) that TBR compares."""

    magic: MagicSettings = MagicSettings()  # type: ignore[call-arg]
    max_cells_per_type: int = Field(500, ge=1, description="random cells kept of each type at most")
    min_cells_per_type: int = Field(5, ge=1, description="types with fewer cells are dropped and named")
    seed: int = Field(0, ge=0, description="seed of the random subsample")
    tree: TreeSettings = TreeSettings()  # type: ignore[call-arg]


class FactorModelSettings(Settings):
    """What every factor model can be told."""

    input: Literal["log", "sqrt"] = Field(
        "log", description="values the model sees: as in atlas X (log), or square roots of the scaled counts"
    )
    gene_scaling: float = Field(
        0.0, ge=0, le=1, description="genes are divided by their training sd to this power (1: z-scores)"
    )


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


class TorchModelSettings(FactorModelSettings):
    """What every model fitted by the shared loop can be told."""

    max_epochs: int = Field(100, ge=1, description="passes over the training cells at most")
    batch_size: int = Field(256, ge=1, description="cells per step")
    learning_rate: float = Field(3e-3, gt=0, description="Adam's step size at its highest")
    patience: int | None = Field(
        20,
        ge=1,
        description="epochs without a better validation loss before stopping; null: never stop early",
    )
    checkpoint_every: int = Field(10, ge=1, description="epochs between checkpoints")


class VAESettings(TorchModelSettings):
    """Variational autoencoder with the Sparse VAE's encoder and an unmasked decoder."""

    gene_scaling: float = Field(
        0.5, ge=0, le=1, description="as in every model; half-way between log values and z-scores"
    )
    batch_size: int = Field(64, ge=1, description="cells per step")
    hidden: int = Field(100, ge=1, description="hidden units of encoder and decoder")
    kl_warmup: float = Field(
        0.8, ge=0, le=1, description="share of the epochs over which KL is switched on; short: factors die"
    )
    dropout: float = Field(
        0.2, ge=0, lt=1, description="share of the encoder's inputs set to zero in training"
    )


_SPARSE_VAE_RECIPES: dict[str, dict[str, Any]] = {
    # the values of class SparseVAESettings itself
    "robust": {},
    # Moran et al.: hyper-parameters of run_zeisel, objective scaled as the paper writes it
    "paper": {
        "likelihood": "gaussian",
        "input": "log",
        "decoder": "mlp",
        "standardise": False,
        "residual": False,
        "prior": "identity",
        "start": "random",
        "encoder_mean": "mlp",
        "hidden_decoder": 100,
        "hidden_encoder": 100,
        "lambda0": 10.0,
        "lambda1": 1.0,
        "penalty_unit": "objective",
        "ladder_steps": 1,
        "proximal": False,
        "refit_fraction": 0.0,
        "decoder_ridge": 0.0,
        "learning_rate": 1e-2,
        "batch_size": 512,
        "max_epochs": 100,
        "gene_scaling": 0.0,
    },
}


class SparseVAESettings(TorchModelSettings):
    """Sparse VAE (Moran, Sridhar, Wang, Blei 2022); the fields' defaults are ``recipe: robust``.

    What is "auto" or null is decided by each fit from its data; the fit says how (``resolved`` in fit.json).
    """

    recipe: Literal["robust", "paper"] = Field(
        "robust", description="preset of all other keys; a key that is given beside it wins"
    )
    likelihood: Literal["auto", "nb", "gaussian"] = Field(
        "auto",
        description="nb: negative binomial on counts, log link; gaussian: normal on the input's values; auto:"
        " nb where the atlas has counts",
    )
    input: Literal["auto", "log", "sqrt"] = Field(  # type: ignore[assignment]
        "auto",
        description="values that start and encoder see: as in atlas X (log), or square roots of the scaled"
        " counts; auto: sqrt for nb, else log",
    )
    gene_scaling: float | None = Field(  # type: ignore[assignment]
        None,
        ge=0,
        le=1,
        description="as in every model; what the start and the encoder see; null: 0.5 for nb, 1 for gaussian",
    )
    standardise: bool = Field(
        True, description="gaussian: likelihood, W and penalties see genes in units of their sd"
    )
    decoder: Literal["auto", "mlp", "linear", "additive"] = Field(
        "auto",
        description="mlp: the paper's shared network; additive: a curve of each factor, no interactions;"
        " auto: linear for nb, else mlp",
    )
    residual: bool = Field(True, description="mlp beside a linear path, its heads starting at zero")
    n_hinges: int = Field(3, ge=1, description="kinks of each curve of the additive decoder")
    prior: Literal["learned", "identity"] = Field("learned", description="z ~ N(0, C), or N(0, I)")
    start: Literal["auto", "varimax", "anchors", "random"] = Field(
        "auto",
        description="where W and the encoder start: rotated principal components, genes that move together,"
        " random weights; auto: on counts varimax, else anchors where they explain about as much",
    )
    encoder_mean: Literal["auto", "scores", "linear", "mlp"] = Field(
        "auto",
        description="posterior mean: the start's factor scores; linear: mixed; mlp: and a network; auto: mlp"
        " where curves are worth it, else scores for nb and linear for gaussian",
    )
    mixing_penalty: float = Field(
        0.3, ge=0, description="weight of the squared distance of the scores' mixing from none"
    )
    hidden_decoder: int | None = Field(
        None, ge=1, description="hidden units of the mlp; null: 32 where curves are worth it, else 16"
    )
    hidden_encoder: int = Field(50, ge=1, description="hidden units of the encoder")
    lambda0: float = Field(0.4, gt=0, description="spike's rate")
    lambda1: float | None = Field(None, gt=0, description="slab's rate; null: 0.07, with nb 0.03")
    penalty_unit: Literal["cell", "objective"] = Field(
        "cell", description="cell: rates are per cell, so N times these; objective: rates of the log prior"
    )
    ladder_steps: int = Field(8, ge=1, description="steps from lambda1 up to lambda0")
    proximal: bool = Field(True, description="soft-threshold steps with exact zeros")
    refit_fraction: float = Field(0.2, ge=0, lt=1, description="last epochs without penalty, support frozen")
    decoder_ridge: float | None = Field(
        None,
        ge=0,
        description="weight of the mlp's squared heads; null: 0.01 where curves are worth it, else 0.3",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the mlp decoder's large products; bfloat16 gains where hardware has it"
    )
    max_epochs: int | None = Field(  # type: ignore[assignment]
        None,
        ge=1,
        description="passes over the training cells at most; null: 60, with nb 40, or more for few cells",
    )
    batch_size: int | None = Field(  # type: ignore[assignment]
        None, ge=1, description="cells per step; null: 256, or fewer for few cells"
    )
    learning_rate: float | None = Field(  # type: ignore[assignment]
        None,
        gt=0,
        description="Adam's step size at its highest; null: 0.003, 0.005 where curves"
        " are worth it, with nb 0.01",
    )
    patience: int | None = Field(None, ge=1, description="null: the schedule runs to its end")

    @model_validator(mode="before")
    @classmethod
    def _fill_in_the_recipe(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        recipe = values.get("recipe", "robust")
        # what is no name of a recipe is told by the field itself
        preset = _SPARSE_VAE_RECIPES.get(recipe, {}) if isinstance(recipe, str) else {}
        return {**preset, **values}

    @model_validator(mode="after")
    def _keys_go_together(self) -> "SparseVAESettings":
        if self.encoder_mean in ("scores", "linear") and self.start == "random":
            raise ValueError("start: random has no factor scores: set encoder_mean: mlp beside it")
        if self.lambda1 is not None and self.lambda0 < self.lambda1:
            raise ValueError(f"lambda0 ({self.lambda0:g}) must not be below lambda1 ({self.lambda1:g})")
        return self


MODEL_SETTINGS: dict[str, type[FactorModelSettings]] = {
    "sparse_vae": SparseVAESettings,
    "vae": VAESettings,
    "nmf": NMFSettings,
    "pca": PCASettings,
    "ica": ICASettings,
}


class TBRSettings(Settings):
    """Tree-based regularisation (Layne et al., arXiv 2405.20482): how one estimator is fitted."""

    phi: Literal["auto", "linear", "small", "large"] = Field(
        "auto", description="network from inputs to latents; auto: linear below 5,000 cells, else 256-64"
    )
    intercept: Literal["none", "global", "environment"] = Field(
        "global", description="constant of the phenotype: none, one for all, or one for each environment"
    )
    penalty: float | None = Field(
        None,
        ge=0,
        description="weight of the absolute branch changes, per environment, for a phenotype in units of"
        " its sd; null: 0.03 below 5,000 training cells, else 0.1",
    )
    learning_rate: float = Field(1e-2, gt=0, description="Adam's step size at its highest (one cycle)")
    n_steps: int | None = Field(
        None,
        ge=1,
        description="steps of baseline and of two_stage's stage one; null: 800 below 5,000 training cells,"
        " else 2500",
    )
    n_finetune_steps: int | None = Field(
        None,
        ge=0,
        description="joint steps after the rotation of two_stage (joint: after n_steps); null: 400 below"
        " 5,000 training cells, else 1500",
    )
    batch_size: int = Field(512, ge=1, description="cells per step")
    weight_decay: float | None = Field(
        None, ge=0, description="decoupled, on phi only; null: 0.1 below 5,000 training cells, else 0"
    )
    n_restarts: int = Field(64, ge=1, description="random starts of the rotation search")
