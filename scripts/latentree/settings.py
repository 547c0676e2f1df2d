"""What each part of the library can be told; the config file is made of these classes.

Every class is frozen, knows its defaults and refuses unknown keys. Imports nothing heavy, so that
the command line and the Snakefile stay quick.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


class Settings(BaseModel):
    """A frozen group of settings; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def each_once(values: list[Any]) -> list[Any]:
    """The values without repetitions, in their order."""
    return list(dict.fromkeys(values))


def _without_braces(path: str) -> str:
    if "{" in path or "}" in path:
        raise ValueError("braces mean wildcards to Snakemake and cannot stand in a path")
    return path


PathName = Annotated[str, Field(min_length=1), AfterValidator(_without_braces)]


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


class TBRSettings(Settings):
    """Tree-based regularisation (Layne et al., arXiv 2405.20482): how one estimator is fitted."""

    phi: Literal["auto", "linear", "small", "large"] = Field(
        "auto",
        description="network from inputs to latents: a linear map, one hidden layer of 32, or 256-64 (the"
        " paper's); auto: the one with the smallest validation error",
    )
    link: Literal["auto", "identity", "logistic"] = Field(
        "auto", description="of the phenotype; auto: logistic where it is 0 or 1 everywhere"
    )
    intercept: Literal["none", "global", "environment"] = Field(
        "global", description="constant of the phenotype: none, one for all, or one for each environment"
    )
    penalty: (
        Annotated[float, Field(ge=0)]
        | Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1), AfterValidator(each_once)]
        | None
    ) = Field(
        None,
        description="weight of the absolute branch changes, per environment, for a phenotype in units of"
        " its sd; a list: joint takes the one with the smallest validation error, two_stage the first;"
        " null: 0.03 below 5,000 training cells, else 0.1",
    )
    proximal: bool = Field(
        False, description="joint steps by soft thresholding, which makes exact zeros, not by the L1 gradient"
    )
    max_latents: int = Field(12, ge=2, description="n_latents: auto chooses among 1 to this many")
    learning_rate: float = Field(1e-2, gt=0, description="Adam's step size at its highest (one cycle)")
    n_steps: int | None = Field(
        None,
        ge=1,
        description="steps of baseline and of two_stage's stage one; null: 800 below 5,000 training cells,"
        " else 1500",
    )
    n_finetune_steps: int | None = Field(
        None,
        ge=0,
        description="joint steps after the rotation of two_stage (joint: after n_steps); null: 400 below"
        " 5,000 training cells, else 900",
    )
    batch_size: int | None = Field(
        None,
        ge=2,
        description="cells per step; null: 512 below 5,000 training cells, else 1024, and half of the"
        " number of environments at least",
    )
    weight_decay: float | None = Field(
        None,
        ge=0,
        description="decoupled, on phi only; null: 0.1 below 5,000 training cells, else 0.3 for 400,000 and"
        " more for fewer (by the root of their ratio), 2 at most",
    )
    n_restarts: int = Field(64, ge=1, description="random starts of the rotation search")
