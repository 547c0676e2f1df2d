"""The config's key `models`: each model's settings and its numbers of factors."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from latentree.model_settings import (
    MODEL_SETTINGS,
    BetaVAESettings,
    DDVAESettings,
    ICASettings,
    IntelVAESettings,
    NMFSettings,
    OIVAESettings,
    PCASettings,
    VAESettings,
    VSCSettings,
)
from latentree.settings import Settings, each_once
from latentree.sparse_vae_settings import SparseVAESettings

AUTO_N_FACTORS = [5, 10, 15, 20, 30]
"""What ``n_factors: auto`` means. Numbers, because which files a run makes must be known before it starts."""


_PRIOR_OF_KEY = {
    "mean_variance": "anisotropic", "nu": "student_t", "n_clusters": "clusters",
    "cluster_variance": "clusters", "gamma": "sparse", "spike_sd": "sparse",
}  # fmt: skip
_MAPPING_OF_KEY = {
    "gamma": "sparse", "gamma_ramp": "sparse", "penalise": "sparse", "n_clusters": "clusters",
    "learn_proportions": "clusters", "blocks": "hierarchy", "block_slope": "hierarchy",
}  # fmt: skip
"""The one choice that reads a key, of those that not every choice reads."""


class _NumberOfFactors(Settings):
    n_factors: Annotated[list[Annotated[int, Field(ge=1)]], AfterValidator(each_once)] = Field(
        [10],
        min_length=1,
        description="fits one model each; auto: 5, 10, 15, 20 and 30; of several, tables/n_factors.tsv"
        " recommends one",
    )

    @field_validator("n_factors", mode="before")
    @classmethod
    def _grid(cls, value: Any) -> Any:
        if value == "auto":
            return list(AUTO_N_FACTORS)
        if isinstance(value, str | float):
            raise ValueError("should be a number, a list of numbers, or auto")
        return [value] if isinstance(value, int) else value


class SparseVAEConfig(_NumberOfFactors, SparseVAESettings):
    """sparse_vae"""


class VAEConfig(_NumberOfFactors, VAESettings):
    """vae"""


class BetaVAEConfig(_NumberOfFactors, BetaVAESettings):
    """beta_vae"""


class VSCConfig(_NumberOfFactors, VSCSettings):
    """vsc"""


class OIVAEConfig(_NumberOfFactors, OIVAESettings):
    """oi_vae"""

    @field_validator("permuted")
    @classmethod
    def _the_control_is_fitted_anyway(cls, value: bool) -> bool:
        if value:
            raise ValueError("the workflow fits the control with permuted sets itself: leave permuted out")
        return value


def _require_read(settings: Settings, chooser: str, readers: Mapping[str, str]) -> None:
    """Refuse keys that only another choice reads; at their defaults they say nothing."""
    chosen = getattr(settings, chooser)
    unread = {
        key: reader
        for key, reader in readers.items()
        if reader != chosen and getattr(settings, key) != type(settings).model_fields[key].default
    }
    if unread:
        said = ", ".join(f"only {chooser}: {reader} reads {key}" for key, reader in unread.items())
        raise ValueError(f"{said}; it is {chosen}: leave out what it does not read, or mend {chooser}")


class DDVAEConfig(_NumberOfFactors, DDVAESettings):
    """dd_vae"""

    @model_validator(mode="after")
    def _prior_reads_its_keys(self) -> "DDVAEConfig":
        _require_read(self, "prior", _PRIOR_OF_KEY)
        return self

    @model_validator(mode="after")
    def _clusters_find_room(self) -> "DDVAEConfig":
        # in a plane any number lies on a circle, else clusters lie at both ends of the axes
        crowded = [k for k in self.n_factors if k != 2 and self.n_clusters > 2 * k]
        if self.prior == "clusters" and crowded:
            raise ValueError(f"{self.n_clusters} clusters do not fit in {crowded[0]} factors")
        return self


class IntelVAEConfig(_NumberOfFactors, IntelVAESettings):
    """intel_vae"""

    @model_validator(mode="after")
    def _mapping_reads_its_keys(self) -> "IntelVAEConfig":
        _require_read(self, "mapping", _MAPPING_OF_KEY)
        return self

    @model_validator(mode="after")
    def _mapping_finds_room(self) -> "IntelVAEConfig":
        needs_plane = self.mapping in ("circle", "two_holes")
        needs_plane |= self.mapping == "clusters" and self.n_clusters > 2
        if needs_plane and min(self.n_factors) < 2:
            raise ValueError(f"mapping: {self.mapping} needs at least 2 factors")
        if self.mapping == "hierarchy" and self.blocks is not None:
            wrong = [k for k in self.n_factors if k != sum(self.blocks)]
            if wrong:
                raise ValueError(
                    f"blocks {list(self.blocks)} sum to {sum(self.blocks)}, not to {wrong[0]} factors"
                )
        return self


class NMFConfig(_NumberOfFactors, NMFSettings):
    """nmf"""


class PCAConfig(_NumberOfFactors, PCASettings):
    """pca"""


class ICAConfig(_NumberOfFactors, ICASettings):
    """ica"""


class ModelsConfig(Settings):
    """The models to fit; leave one out and it is not fitted."""

    sparse_vae: SparseVAEConfig | None = None
    vae: VAEConfig | None = None
    beta_vae: BetaVAEConfig | None = None
    vsc: VSCConfig | None = None
    oi_vae: OIVAEConfig | None = None
    dd_vae: DDVAEConfig | None = None
    intel_vae: IntelVAEConfig | None = None
    nmf: NMFConfig | None = None
    pca: PCAConfig | None = None
    ica: ICAConfig | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _empty_means_defaults(cls, value: Any) -> Any:
        # `pca:` with nothing behind it is YAML's null
        return {} if value is None else value

    @model_serializer(mode="wrap")
    def _without_unlisted(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # null would mean defaults when it is read again
        return {name: value for name, value in plain(self).items() if value is not None}

    def listed(self) -> dict[str, Any]:
        """The models named in the config, in its order of fields."""
        return {name: value for name in MODEL_SETTINGS if (value := getattr(self, name)) is not None}
