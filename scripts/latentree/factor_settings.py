"""What every factor model, and every one fitted by the shared loop, can be told."""

from typing import Literal

from pydantic import Field

from latentree.settings import Settings


class FactorModelSettings(Settings):
    """What every factor model can be told."""

    input: Literal["log", "sqrt"] = Field(
        "log", description="values the model sees: as in atlas X (log), or square roots of the scaled counts"
    )
    gene_scaling: float = Field(
        0.0, ge=0, le=1, description="genes are divided by their training sd to this power (1: z-scores)"
    )


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
    checkpoint_every: int | None = Field(
        None,
        ge=1,
        description="epochs between checkpoints; null: a tenth of all epochs or 5 minutes, whichever is less",
    )
