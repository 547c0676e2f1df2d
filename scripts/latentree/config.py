"""The config file: read, checked and completed with defaults; the JSON schema is exported from here.

The single source of every key; `python -m latentree schema` writes workflow/schemas/config.schema.json.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from latentree.enrichment_config import EnrichmentConfig, library_name
from latentree.errors import InputError, listed, nearest
from latentree.model_settings import MODEL_SETTINGS
from latentree.models_config import ModelsConfig
from latentree.obs_columns import plain_name
from latentree.reproduction.settings import ReproductionSettings
from latentree.settings import (
    EnvironmentSettings,
    PathName,
    PreprocessSettings,
    Settings,
    each_once,
    settings_inside,
)
from latentree.tbr_config import TBRConfig

ATLAS_NAME = re.compile(r"[A-Za-z0-9_-]+")

BUILTIN_ATLASES = {"pbmc68k_reduced": ("scanpy", "datasets/10x_pbmc68k_reduced.h5ad")}
"""Atlases that come with installed packages: name -> (package, file in it)."""
# folders of the results beside those of the atlases
RESERVED_NAMES = (
    "attempts", "benchmarks", "gene_sets", "logs", "provenance", "reproduction", "reproduction_quick",
)  # fmt: skip


Seed = Annotated[int, Field(ge=0, lt=2**31)]


class AtlasSettings(Settings):
    """One atlas: where it is and what its columns mean."""

    path: PathName = Field(
        description="an .h5ad file, builtin:pbmc68k_reduced, or an http(s) address with sha256"
    )
    sha256: str | None = Field(
        None, pattern=r"^[0-9a-fA-F]{64}$", description="checksum; needed for an address, checked for a file"
    )
    cell_type: str = Field(description="obs column of cell types")
    ignore_cell_types: list[str] = Field([], description="labels that mean no type, such as 'unknown'")
    organism: Literal["human", "mouse"] = Field("human", description="whose gene symbols these are")
    matrix: str = Field("auto", description="auto, X, raw, or the name of a layer")
    symbol_column: str | None = Field(
        None, description="var column of gene symbols where var_names are Ensembl ids; null: found by itself"
    )
    library_size: str | None = Field(
        None, description="obs column of total counts, for atlases cut to few genes; null: sum of the counts"
    )
    split_by: str | None = Field(
        None, description="donor or sample column: cells of one donor stay on one side of the split"
    )
    batch: str | None = Field(
        None,
        description="obs column of batches: the VAEs are told them, the report shows how far they mix",
    )
    condition: str | None = Field(
        None, description="obs column of conditions (control, disease): factors are compared between them"
    )
    reference: str | None = Field(
        None, description="condition that the others are compared with; null: the first in order"
    )
    sample: str | None = Field(
        None,
        description="obs column of samples or donors, over which conditions are tested (paired where they"
        " have cells of both); null: no test",
    )
    gene_sets: Annotated[list[PathName], AfterValidator(each_once)] = Field(
        [],
        description="for the enrichment: GMT files (also the groups of oi_vae), tables of regulons (columns"
        " tf and target), and library:NAME, fetched once from Enrichr",
    )
    regulon_confidence: list[str] | None = Field(
        None, description="of tables of regulons, rows by their column confidence; null: all rows"
    )

    @field_validator("gene_sets")
    @classmethod
    def _libraries_have_names(cls, value: list[str]) -> list[str]:
        for entry in value:
            library_name(entry)
        return value

    @field_validator("path")
    @classmethod
    def _builtin_is_known(cls, value: str) -> str:
        name = value.removeprefix("builtin:")
        if name != value and name not in BUILTIN_ATLASES:
            raise ValueError(f"no built-in atlas of that name; there is {listed(BUILTIN_ATLASES)}")
        return value

    @field_validator("cell_type", "library_size", "split_by", "batch", "condition", "sample")
    @classmethod
    def _columns_have_plain_names(cls, value: str | None) -> str | None:
        return None if value is None else plain_name(value)

    @model_validator(mode="after")
    def _address_has_checksum(self) -> "AtlasSettings":
        if self.is_address and self.sha256 is None:
            raise ValueError("an http(s) address needs sha256, so that what is analysed is what was meant")
        return self

    @model_validator(mode="after")
    def _reference_has_condition(self) -> "AtlasSettings":
        if self.reference is not None and self.condition is None:
            raise ValueError("reference names a condition, but no column of conditions: set condition, too")
        return self

    @property
    def is_address(self) -> bool:
        return self.path.startswith(("http://", "https://"))

    @property
    def is_file(self) -> bool:
        return not self.is_address and not self.path.startswith("builtin:")


class StabilityConfig(Settings):
    """Refits on other cells, which tell how stable factors are; both numbers 0: none."""

    n_resamples: int = Field(
        3, ge=0, description="refits of every model, each on a random share of the cells; 0 or at least 2"
    )
    fraction: float = Field(
        0.8, gt=0, lt=1, description="that share of the training and of the validation cells"
    )
    n_halves: int = Field(
        1,
        ge=0,
        description="pairs of refits on disjoint halves of these cells (whole donors, given split_by)",
    )
    seed: int = Field(0, ge=0, description="seed of the draw of cells")

    @field_validator("n_resamples")
    @classmethod
    def _one_has_no_other(cls, value: int) -> int:
        if value == 1:
            raise ValueError("one refit has no other to agree with: use 0 or at least 2")
        return value

    @property
    def parts(self) -> list[str]:
        """Names of the parts of the cells (:mod:`latentree.resampling`): r0, r1, ... and half0, half1, ..."""
        return [f"r{i}" for i in range(self.n_resamples)] + [f"half{i}" for i in range(2 * self.n_halves)]


class DownstreamConfig(Settings):
    """Enrichment and scores."""

    min_set_size: int = Field(5, ge=1, description="gene sets with fewer modelled genes are not tested")
    max_set_size: int = Field(500, ge=1, description="gene sets with more modelled genes are not tested")
    n_top_genes: int = Field(
        50, ge=1, description="active genes of a factor in models without zeros: the largest loadings"
    )
    enrichment: EnrichmentConfig = EnrichmentConfig()  # type: ignore[call-arg]
    umap: bool = Field(
        True,
        description="draw the latents by UMAP, too, beside t-SNE: 15 s to compile, then seconds a fit",
    )
    stability: StabilityConfig = StabilityConfig()  # type: ignore[call-arg]

    @model_validator(mode="after")
    def _sizes_are_in_order(self) -> "DownstreamConfig":
        if self.min_set_size > self.max_set_size:
            raise ValueError(
                f"min_set_size ({self.min_set_size}) is more than max_set_size ({self.max_set_size})"
            )
        return self


class ResourceLimits(Settings):
    """The most that any job asks a cluster for; requests grow with the input and with each attempt."""

    max_mem_mb: int = Field(
        256_000, ge=500, description="memory of a job, MB: the largest node that you may use"
    )
    max_runtime: int = Field(2880, ge=1, description="time of a job, minutes: the partition's limit")


class Config(Settings):
    """A whole run."""

    results: PathName = Field("results", description="folder that everything is written to")
    atlases: dict[str, AtlasSettings] = Field(min_length=1, description="by name; the name is a folder")
    seeds: Annotated[list[Seed], AfterValidator(each_once)] = Field(
        [0, 1, 2], min_length=1, description="every model is fitted once per seed"
    )
    preprocess: PreprocessSettings = PreprocessSettings()  # type: ignore[call-arg]
    environments: EnvironmentSettings = EnvironmentSettings()  # type: ignore[call-arg]
    models: ModelsConfig = Field(description="models and their settings")
    tbr: TBRConfig | None = None
    downstream: DownstreamConfig = DownstreamConfig()  # type: ignore[call-arg]
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="cuda demanded and absent is an error")
    resources: ResourceLimits = ResourceLimits()  # type: ignore[call-arg]
    reproduction: ReproductionSettings = ReproductionSettings()  # type: ignore[call-arg]

    @field_validator("atlases")
    @classmethod
    def _names_are_folders(cls, value: dict[str, AtlasSettings]) -> dict[str, AtlasSettings]:
        bad = [name for name in value if not ATLAS_NAME.fullmatch(name)]
        if bad:
            raise ValueError(f"an atlas's name is letters, digits, _ and - only, not {listed(bad)}")
        taken = [name for name in value if name in RESERVED_NAMES]
        if taken:
            raise ValueError(f"{listed(taken)} is another folder of the results and cannot name an atlas")
        return value

    @field_validator("models")
    @classmethod
    def _some_model(cls, value: ModelsConfig) -> ModelsConfig:
        if not value.listed():
            raise ValueError(f"no model is listed; known models: {listed(MODEL_SETTINGS)}")
        return value

    @model_validator(mode="after")
    def _groups_have_gene_sets(self) -> "Config":
        chosen = self.models.oi_vae
        lacking = [name for name, atlas in self.atlases.items() if not atlas.gene_sets]
        if chosen is not None and not chosen.gene_sets and lacking:
            raise ValueError(
                f"models.oi_vae groups genes by gene sets, and atlas {listed(lacking)} names none: give GMT"
                " files in gene_sets of the atlas or of models.oi_vae"
            )
        return self


def load_config(source: str | Path | Mapping[str, Any]) -> Config:
    """Check a config (a YAML file, or what was read from one) and fill in the defaults.

    Raises
    ------
    InputError
        All problems of the config in one message: key, value, remedy.
    """
    where, values = ("config", source) if isinstance(source, Mapping) else (str(source), read_yaml(source))
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problems = [problem_in_words(details) for details in error.errors()]
        raise InputError(
            where,
            "; ".join(dict.fromkeys(problems)),
            "Mend the keys named here; config/README.md explains every key",
        ) from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file's mapping."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(path, "no such file", "Give the path of a YAML config") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(path, f"cannot be read as YAML ({error})", "Mend its syntax") from None
    if not isinstance(values, dict):
        raise InputError(path, "is not a YAML mapping of keys to values", "Start from config/config.yaml")
    return values


def model_settings(model: str, settings: Mapping[str, Any] | None) -> Any:
    """The checked settings of one model from a plain mapping, for ``latentree.fit``."""
    if model not in MODEL_SETTINGS:
        raise InputError(
            "model",
            f"{model!r} is not a model{nearest(model, MODEL_SETTINGS)}",
            f"Use one of {listed(MODEL_SETTINGS)}",
        )
    return checked(MODEL_SETTINGS[model], settings, f"settings of {model}")


def checked(kind: type[Settings], settings: Mapping[str, Any] | None, where: str) -> Any:
    """Settings of one kind from a plain mapping; problems become one :class:`InputError`."""
    try:
        return kind.model_validate(dict(settings or {}))
    except ValidationError as error:
        problems = [problem_in_words(details, kind) for details in error.errors()]
        raise InputError(where, "; ".join(problems), "Mend the keys named here") from None


_IN_WORDS = {
    "model_type": "should be a section of keys and values",
    "dict_type": "should be a section of keys and values",
    "list_type": "should be a list, such as [a, b]",
    "too_short": "should not be empty",
    "string_too_short": "should not be empty",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_parsing": "should be a number",
    "string_type": "should be text; a number needs quotes",
}
"""Pydantic's messages that say more of Python than of the config."""


def problem_in_words(details: ErrorDetails, root: type[Settings] = Config) -> str:
    """One pydantic error in words: key, problem, value."""
    path = [str(part) for part in details["loc"]]
    key = ".".join(path) or "(top level)"
    if details["type"] == "extra_forbidden":
        return f"unknown key {key!r}{nearest(path[-1], _known_keys(root, path[:-1]))}"
    if details["type"] == "missing":
        return f"key {key!r} is missing"
    value = details["input"]
    if value is None:
        return f"key {key!r} has no value"
    message = _IN_WORDS.get(details["type"], details["msg"].removeprefix("Value error, "))
    shown = "" if isinstance(value, dict | Settings) else f" (got {value!r})"
    return f"key {key!r}: {message[0].lower()}{message[1:]}{shown}"


def _known_keys(kind: Any, path: list[str]) -> list[str]:
    """The keys allowed at a place in the config."""
    for part in path:
        fields = getattr(kind, "model_fields", {})
        inner = fields[part].annotation if part in fields else kind
        kind = settings_inside(inner) or kind
    return list(getattr(kind, "model_fields", {}))


def json_schema() -> dict[str, Any]:
    """The config's JSON schema."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
