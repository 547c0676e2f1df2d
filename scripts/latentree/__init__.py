"""Interpretable, identifiable latent factors for single-cell atlases.

>>> import latentree as lt
>>> adata = lt.read_atlas("atlas.h5ad", cell_type="cell_type")  # doctest: +SKIP
>>> fit = lt.fit(adata, "sparse_vae", n_factors=15, seed=0)  # doctest: +SKIP

What is public is loaded when it is first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentree import metrics, simulate
    from latentree.api import Fit, fit, fit_stack, load, project
    from latentree.atlas import read_atlas
    from latentree.errors import InputError
    from latentree.export import to_mudata
    from latentree.interpret import consensus_of, enrich, halves_of, usage_by_type
    from latentree.tbr import fit_tbr
    from latentree.tree import Tree

__version__ = "0.1.0"

__all__ = [
    "Fit",
    "InputError",
    "Tree",
    "__version__",
    "consensus_of",
    "enrich",
    "fit",
    "fit_stack",
    "fit_tbr",
    "halves_of",
    "load",
    "metrics",
    "project",
    "read_atlas",
    "simulate",
    "to_mudata",
    "usage_by_type",
]

# module and attribute; no attribute: the module itself
_PUBLIC = {
    "Fit": ("latentree.api", "Fit"),
    "InputError": ("latentree.errors", "InputError"),
    "Tree": ("latentree.tree", "Tree"),
    "consensus_of": ("latentree.interpret", "consensus_of"),
    "enrich": ("latentree.interpret", "enrich"),
    "fit": ("latentree.api", "fit"),
    "fit_stack": ("latentree.api", "fit_stack"),
    "fit_tbr": ("latentree.tbr", "fit_tbr"),
    "halves_of": ("latentree.interpret", "halves_of"),
    "load": ("latentree.api", "load"),
    "metrics": ("latentree.metrics", None),
    "project": ("latentree.api", "project"),
    "read_atlas": ("latentree.atlas", "read_atlas"),
    "simulate": ("latentree.simulate", None),
    "to_mudata": ("latentree.export", "to_mudata"),
    "usage_by_type": ("latentree.interpret", "usage_by_type"),
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    loaded = import_module(module)
    return getattr(loaded, attribute) if attribute else loaded


def __dir__() -> list[str]:
    return sorted(__all__)
