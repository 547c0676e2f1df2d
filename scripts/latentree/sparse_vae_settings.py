"""What a Sparse VAE can be told, and its recipes."""

from typing import Any, Literal

from pydantic import Field, model_validator

from latentree.factor_settings import TorchModelSettings

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
    likelihood: Literal["auto", "nb", "gaussian", "laplace", "bernoulli"] = Field(
        "auto",
        description="nb: negative binomial on counts, log link; gaussian, laplace: of the input's values;"
        " bernoulli: of values in [0, 1], or of whether a gene is seen; auto: nb where the atlas has counts,"
        " else gaussian",
    )
    batch: str | None = Field(
        None, description="obs column of batches that encoder and decoder are told; null: the atlas's"
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
