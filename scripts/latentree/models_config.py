"""The config's key `models`: each model's settings and its numbers of factors."""

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
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
from latentree.settings import Settings
from latentree.sparse_vae_settings import SparseVAESettings


def each_once(values: list[Any]) -> list[Any]:
    """The values without repetitions, in their order."""
    return list(dict.fromkeys(values))


class _NumberOfFactors(Settings):
    n_factors: Annotated[list[Annotated[int, Field(ge=1)]], AfterValidator(each_once)] = Field(
        [10], min_length=1, description="fits one model each"
    )

    @field_validator("n_factors", mode="before")
    @classmethod
    def _one_number_is_a_list(cls, value: Any) -> Any:
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


class DDVAEConfig(_NumberOfFactors, DDVAESettings):
    """dd_vae"""


class IntelVAEConfig(_NumberOfFactors, IntelVAESettings):
    """intel_vae"""


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
