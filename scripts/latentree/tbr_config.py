"""The config's key `tbr`: phenotype, latents, inputs and held-out cell types of tree-based regularisation."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from latentree.settings import PathName, Settings, TBRSettings, each_once

HOUSEKEEPING_GENES = ["C1orf43", "CHMP2A", "EMC7", "PSMB2", "PSMB4", "REEP5", "SNRPD3", "VCP", "VPS29"]


class PhenotypeConfig(Settings):
    """The phenotype that TBR explains: simulated from latent genes, or measured (an obs column)."""

    kind: Literal["simulated", "measured"] = Field(
        "simulated",
        description="simulated: Y = w_e . Z + noise, the paper's protocol; measured, where column is given",
    )
    n_changes: Annotated[list[Annotated[int, Field(ge=0)]], AfterValidator(each_once)] = Field(
        [1],
        min_length=1,
        description="simulated: latent effects that change on each branch; 0 is the control",
    )
    noise: float = Field(0.1, ge=0, description="simulated: sd of the noise, in sd of a latent")
    column: str | None = Field(
        None, description="measured: obs column with numbers, or with two values (logistic link)"
    )
    positive: str | None = Field(
        None, description="measured, two values: the one that counts as 1; null: the last in sorted order"
    )
    donor: str | None = Field(
        None, description="measured: obs column of donors, which the bootstrap draws whole; null: draws cells"
    )
    n_bootstrap: int = Field(
        200, ge=0, description="measured: bootstrap samples under the intervals; 0 or 1: no intervals"
    )
    denoised: bool | None = Field(
        None,
        description="measured: inputs from denoised values (true) or the cells' own; null: denoised for"
        " regulators, own for components",
    )

    @model_validator(mode="before")
    @classmethod
    def _a_column_is_measured(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("column") is not None and "kind" not in data:
            return {**data, "kind": "measured"}
        return data

    @model_validator(mode="after")
    def _a_column_where_measured(self) -> "PhenotypeConfig":
        if (self.column is not None) != (self.kind == "measured"):
            raise ValueError(
                f"kind is {self.kind!r}, so column must {'' if self.column is None else 'not '}be given"
            )
        for key in ("positive", "donor", "denoised"):
            if self.column is None and getattr(self, key) is not None:
                raise ValueError(f"{key} is for a measured phenotype, but column names none")
        return self


class HeldOutConfig(Settings):
    """Cell types that a simulated phenotype's fits do not see, for zero-shot and few-shot prediction."""

    n_types: int = Field(2, ge=0, description="cell types held out, one fit without all of them; 0: none")
    min_cells: int = Field(60, ge=10, description="smallest size of a type that may be held out")
    shots: Annotated[list[Annotated[int, Field(ge=1)]], AfterValidator(each_once)] = Field(
        [5, 20, 100], min_length=1, description="cells of a held-out type that its weights are adapted to"
    )


class TBRConfig(TBRSettings):
    """tbr; leave the key out and the stage does not run."""

    phenotype: PhenotypeConfig = PhenotypeConfig()  # type: ignore[call-arg]
    latents: Annotated[list[str], AfterValidator(each_once)] = Field(
        HOUSEKEEPING_GENES, min_length=1, description="simulated: genes that may be latents"
    )
    n_latents: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        3,
        description="latents; simulated: drawn from the list anew for each seed; auto (measured only): by the"
        " singular values of the weights",
    )
    regulators: PathName | None = Field(
        None, description="inputs: a list of genes, one a line, or a table with columns tf, target"
    )
    regulator_sources: Annotated[list[str], AfterValidator(each_once)] | None = Field(
        None, min_length=1, description="rows of that table to use, by its column source; null: all"
    )
    regulator_confidence: Annotated[list[str], AfterValidator(each_once)] | None = Field(
        None, min_length=1, description="rows of that table to use, by its column confidence; null: all"
    )
    held_out: HeldOutConfig = HeldOutConfig()  # type: ignore[call-arg]
    estimators: Annotated[list[Literal["baseline", "joint", "two_stage"]], AfterValidator(each_once)] = Field(
        ["baseline", "joint", "two_stage"], min_length=1, description="see docs/tbr.md"
    )

    @model_validator(mode="before")
    @classmethod
    def _measured_phenotypes_differ_between_types(cls, data: Any) -> Any:
        """A measured phenotype's level may differ between cell types for reasons that no latent holds."""
        phenotype = data.get("phenotype") if isinstance(data, Mapping) else None
        column = phenotype.get("column") if isinstance(phenotype, Mapping) else None
        if column is not None and "intercept" not in data:
            return {**data, "intercept": "environment"}
        return data

    @model_validator(mode="after")
    def _rows_of_a_file(self) -> "TBRConfig":
        for key in ("regulator_sources", "regulator_confidence"):
            if getattr(self, key) is not None and self.regulators is None:
                raise ValueError(f"{key} chooses rows of a table, but regulators names none")
        return self

    @model_validator(mode="after")
    def _there_are_latents_enough(self) -> "TBRConfig":
        if self.phenotype.kind == "measured":
            return self
        if self.n_latents == "auto":
            raise ValueError(
                "n_latents: auto is for a measured phenotype; a simulated one has as many as it is given"
            )
        if self.n_latents > len(self.latents):
            raise ValueError(
                f"n_latents ({self.n_latents}) is more than the {len(self.latents)} genes in latents"
            )
        most = max(self.phenotype.n_changes)
        if most > self.n_latents:
            raise ValueError(f"phenotype.n_changes ({most}) is more than n_latents ({self.n_latents})")
        return self

    @property
    def n_drawn_latents(self) -> int:
        """Latents of a simulated phenotype, which has always as many as it is given."""
        if self.n_latents == "auto":
            raise ValueError("n_latents: auto belongs to a measured phenotype")
        return self.n_latents
