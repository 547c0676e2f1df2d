"""Inputs of the fits on a measured phenotype: components of the modelled genes, or listed regulators.

Measured on blood cells with and without interferon (docs/tbr.md): components of the cells' own values
predict held-out cells and donors better than denoised values and name interferon genes as drivers, while
single genes as inputs let the fit pick any of many genes that denoising has made alike. Regulators are
too few and too rarely seen in a cell to do without denoising.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latentree.errors import InputError
from latentree.leading_axes import dense
from latentree.tbr_config import TBRConfig
from latentree.tbr_regulators import Regulators
from latentree.tbr_variables import INPUTS_PER_LATENT, components

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class MeasuredInputs:
    """Inputs of every cell, and the genes behind them.

    Parameters
    ----------
    X
        float32 (n_cells, n_inputs).
    genes
        float32 (n_cells, n_genes): values of the genes that the inputs are made of.
    names
        Their names, (n_genes,).
    axes
        float64 (n_genes, n_inputs): ``X = (genes - training mean) @ axes``; None where genes are inputs.
    source
        What the inputs are, in words for tables.
    note
        Why they are not what was asked for, empty where they are.
    """

    X: np.ndarray
    genes: np.ndarray
    names: tuple[str, ...]
    axes: np.ndarray | None
    source: str
    note: str


def takes_denoised(settings: TBRConfig) -> bool:
    """Whether inputs are denoised values: as the config says, else for regulators and not for components."""
    asked = settings.phenotype.denoised
    return settings.regulators is not None if asked is None else asked


def with_own_values(cells: "AnnData", atlas: "AnnData", regulators: Regulators | None = None) -> "AnnData":
    """The environments' cells with the atlas's values instead of the denoised ones.

    Parameters
    ----------
    cells
        environments/cells.h5ad: which cells.
    atlas
        The atlas that they are of.
    regulators
        Genes wanted beside the modelled ones, if any.
    """
    rows = atlas.obs_names.get_indexer(cells.obs_names)
    if (rows < 0).any():
        raise InputError(
            "cells",
            f"{int((rows < 0).sum())} of {cells.n_obs} cells are not in the atlas",
            "Delete environments/cells.h5ad and rerun the workflow",
        )
    wanted = (
        np.asarray(atlas.var["modelled"], dtype=bool)
        if "modelled" in atlas.var
        else np.ones(atlas.n_vars, bool)
    )
    if regulators is not None:
        wanted = wanted | np.asarray(atlas.var_names.isin(list(regulators.targets)))
    own = atlas[rows, wanted].copy()
    own.X = dense(own.X)
    return own


def measured_inputs(
    cells: "AnnData", settings: TBRConfig, train: np.ndarray, regulators: str | Path | None = None
) -> MeasuredInputs:
    """Regulators where the config lists them, else leading components of the modelled genes.

    Parameters
    ----------
    cells
        Dense X (n_cells, n_genes) on log scale; var["modelled"] (all where it is absent).
    train
        int64: training cells, which the axes come from.
    regulators
        Where the file of regulators is, if not where the settings say.

    Raises
    ------
    InputError
        The cells have too few varying genes.
    """
    values = np.asarray(cells.X, dtype=np.float32)
    names = np.array([str(name) for name in cells.var_names])
    varies = values[train].std(axis=0) > 1e-6
    least = 1 if settings.n_latents == "auto" else settings.n_latents
    values_in_words = "denoised values" if takes_denoised(settings) else "the cells' own log values"
    note = ""
    listed_genes = Regulators.asked(settings, regulators)
    if listed_genes is not None:
        usable = np.flatnonzero(varies & np.isin(names, sorted(listed_genes.targets)))
        if len(usable) >= INPUTS_PER_LATENT * least:
            genes = np.ascontiguousarray(values[:, usable])
            source = f"{len(usable)} regulators, {values_in_words}"
            return MeasuredInputs(genes, genes, tuple(names[usable].tolist()), None, source, "")
        note = f"{len(usable)} usable regulators among the genes, {INPUTS_PER_LATENT * least} are needed"
    modelled = cells.var["modelled"].to_numpy(dtype=bool) if "modelled" in cells.var else np.ones_like(varies)
    columns = np.flatnonzero(varies & modelled)
    genes = np.ascontiguousarray(values[:, columns])
    X, axes = components(genes, train, least)
    source = f"{X.shape[1]} principal components of {len(columns)} genes, {values_in_words}"
    return MeasuredInputs(
        X,
        genes,
        tuple(names[columns].tolist()),
        axes.axes.astype(np.float64),
        source,
        note,
    )
