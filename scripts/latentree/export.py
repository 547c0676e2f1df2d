"""Fits as MuData: cells x genes and cells x programs in one object, as gene_network_evaluation reads it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np

from latentree.errors import InputError, listed
from latentree.files import atomic_path

if TYPE_CHECKING:
    from mudata import MuData

    from latentree.api import Fit

_RNA = "rna"


def to_mudata(
    atlas: ad.AnnData, fits: "Sequence[Fit | ad.AnnData] | Mapping[str, Fit | ad.AnnData]"
) -> "MuData":
    """One modality of genes and one of programs per fit.

    gene_network_evaluation finds both under its default keys with ``fits={"prog": fit}``.

    Parameters
    ----------
    atlas
        The atlas that the fits are of, with at least their cells and genes.
    fits
        Fits, or AnnData as factors.h5ad holds them, all of the same cells and genes; by name of the
        modality, or named by their models.

    Returns
    -------
    mod["rna"]: the cells x modelled genes of the atlas. A fit's modality is named as given, else by its
    model, or ``{model}_k{k}_seed{seed}`` where several fits have the same: X (n_cells, n_programs) usage,
    obs of the atlas, var_names ``{modality}_f1``, ..., varm["loadings"] (n_programs, n_genes),
    uns["var_names"] the genes. Dead programs are left out.

    Raises
    ------
    InputError
        mudata is not installed, or the fits are not of these cells and genes.
    """
    mudata = _mudata()
    listed_fits = list(fits.values()) if isinstance(fits, Mapping) else list(fits)
    tables = [fit if isinstance(fit, ad.AnnData) else fit.factors for fit in listed_fits]
    if not tables:
        raise InputError("fits", "there are none", "Give at least one fit")
    first = tables[0]
    for place, names, known in (
        ("cells", first.obs_names, atlas.obs_names),
        ("genes", first.var_names, atlas.var_names),
    ):
        lacking = names.difference(known)
        if len(lacking):
            raise InputError(
                "atlas",
                f"lacks {len(lacking)} {place} of the fit: {listed(lacking)}",
                "Give the atlas of the fit",
            )
    if any(
        not (other.obs_names.equals(first.obs_names) and other.var_names.equals(first.var_names))
        for other in tables
    ):
        raise InputError("fits", "are of different cells or genes", "Export fits of one atlas together")
    rna = atlas[first.obs_names, first.var_names].copy()
    models = Counter(str(table.uns["latentree"]["model"]) for table in tables)
    own_names = [_name(table, alone=models[str(table.uns["latentree"]["model"])] == 1) for table in tables]
    modalities = {_RNA: rna}
    for name, table in zip(fits if isinstance(fits, Mapping) else own_names, tables, strict=True):
        if name in modalities:
            raise InputError("fits", f"{name} is there twice", "Give every fit once")
        modalities[name] = _programs(table, name, rna)
    # obs columns of the modalities stay theirs, which is the coming default
    with mudata.set_options(pull_on_update=False):
        return mudata.MuData(modalities)


def write_mudata(
    atlas: ad.AnnData,
    fits: "Sequence[Fit | ad.AnnData] | Mapping[str, Fit | ad.AnnData]",
    path: str | Path,
) -> None:
    """Write what :func:`to_mudata` gives as an .h5mu file, whole or not at all."""
    made = to_mudata(atlas, fits)
    with atomic_path(path) as temporary, _mudata().set_options(pull_on_update=False):
        made.write(temporary)


def _programs(table: ad.AnnData, name: str, rna: ad.AnnData) -> ad.AnnData:
    """The modality of one fit."""
    facts = table.uns["latentree"]
    model, alive = str(facts["model"]), np.asarray(facts["factors"]["alive"], dtype=bool)
    latents = np.asarray(table.obsm[f"X_{model}"])
    programs = ad.AnnData(latents[:, alive].astype(np.float32), obs=rna.obs.copy())
    programs.var_names = [f"{name}_f{i + 1}" for i in np.flatnonzero(alive)]
    programs.varm["loadings"] = np.asarray(table.varm[f"{model}_loadings"]).T[alive]
    programs.uns["var_names"] = np.array(rna.var_names, dtype=object)
    return programs


def _name(table: ad.AnnData, *, alone: bool) -> str:
    facts = table.uns["latentree"]
    model = str(facts["model"])
    return model if alone else f"{model}_k{table.obsm[f'X_{model}'].shape[1]}_seed{facts['seed']}"


def _mudata() -> Any:
    try:
        import mudata
    except ImportError:
        raise InputError("MuData", "the package mudata is not installed", "Run: pip install mudata") from None
    return mudata
