"""Factor models, one per file; :func:`model_class` finds them by name."""

from typing import TYPE_CHECKING

from latentree.errors import InputError, listed, nearest
from latentree.model_settings import MODEL_SETTINGS

if TYPE_CHECKING:
    from latentree.models.base import FactorModel


def model_class(name: str) -> "type[FactorModel]":
    """The class of a model.

    The imports are spelled out, each inside its own branch: only what is used is loaded, and the
    workflow, which reads import statements, still sees every model as a part of the rules that fit them.

    Raises
    ------
    InputError
        No model has this name; the nearest one is named.
    """
    if name == "pca":
        from latentree.models.pca import PCAModel

        return PCAModel
    if name == "ica":
        from latentree.models.ica import ICAModel

        return ICAModel
    if name == "nmf":
        from latentree.models.nmf import NMFModel

        return NMFModel
    if name == "vae":
        from latentree.models.vae import VAEModel

        return VAEModel
    if name == "beta_vae":
        from latentree.models.beta_vae import BetaVAEModel

        return BetaVAEModel
    if name == "vsc":
        from latentree.models.vsc import VSCModel

        return VSCModel
    if name == "intel_vae":
        from latentree.models.intel_vae import IntelVAEModel

        return IntelVAEModel
    if name == "oi_vae":
        from latentree.models.oi_vae import OIVAEModel

        return OIVAEModel
    if name == "dd_vae":
        from latentree.models.dd_vae import DDVAEModel

        return DDVAEModel
    if name == "sparse_vae":
        from latentree.models.sparse_vae import SparseVAEModel

        return SparseVAEModel
    known = listed(MODEL_SETTINGS)
    raise InputError(
        "model", f"{name!r} is not a model{nearest(name, MODEL_SETTINGS)}", f"Use one of {known}"
    )
