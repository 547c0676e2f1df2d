"""Cells of the environments (cell types): denoised on the whole atlas, then a random few of each type."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import anndata as ad
import numpy as np
import pandas as pd

from latentree.atlas import modelled_genes, split_rows, write_atlas
from latentree.errors import InputError, listed, nearest
from latentree.leading_axes import Matrix, dense
from latentree.magic import MagicGraph
from latentree.seeds import derive_seed
from latentree.settings import EnvironmentSettings, MagicSettings

Denoiser: TypeAlias = Callable[[Matrix, np.ndarray], np.ndarray]
"""Another engine: values (n_cells, n_genes) of the whole atlas and the positions (n_chosen,) of the
chosen genes to their denoised values, dense (n_cells, n_chosen)."""


def environment_cells(
    adata: ad.AnnData,
    settings: EnvironmentSettings,
    genes: Sequence[str] | None = None,
    denoise: Denoiser | None = None,
) -> ad.AnnData:
    """Denoise the atlas by MAGIC, then keep at most ``max_cells_per_type`` random cells of each type.

    All cells and genes take part in the denoising, whichever are kept. With ``fit_on: train`` the
    graph is made of training cells and held-out cells are diffused on it (see
    :mod:`latentree.magic`); an atlas without ``obs["split"]`` counts as training cells.

    Parameters
    ----------
    adata
        An atlas: X (n_cells, n_genes) on log scale, obs["cell_type"], perhaps obs["split"] and
        var["modelled"]. It is not changed.
    settings
        magic, max_cells_per_type and seed are used.
    genes
        Names of the genes wanted; the modelled genes where None.
    denoise
        What to call instead of this library's MAGIC, for engine magic-impute, and only for that.

    Returns
    -------
    AnnData with dense float32 X (n_kept, n_chosen), cells in the atlas's order, their obs and var
    rows, and uns["latentree"]: scale, engine, fit_on, leaky (held-out cells shaped the values of
    others), settings_json, counts_json (a list of cell_type, n_cells, n_kept).

    Raises
    ------
    InputError
        No cell types, unknown genes, too few training cells for knn, or an engine without its code.
    """
    _check_engine(settings.magic, denoise)
    columns = _gene_positions(adata, genes)
    types = _cell_types(adata)
    rows = _subsample(types, settings.max_cells_per_type, settings.seed)
    training = _graph_cells(adata, settings.magic)
    if denoise is None:
        values = _denoised(adata.X, columns, rows, training, settings.magic)
    else:
        values = _checked(denoise(adata.X, columns), (adata.n_obs, len(columns)))[rows]

    held_out = "split" in adata.obs and len(split_rows(adata, "train")) < adata.n_obs
    cells = ad.AnnData(values, obs=adata.obs.iloc[rows].copy(), var=adata.var.iloc[columns].copy())
    cells.uns["latentree"] = {
        "scale": adata.uns.get("latentree", {}).get("scale", "as_found"),
        "engine": settings.magic.engine,
        "fit_on": settings.magic.fit_on,
        "leaky": settings.magic.fit_on == "all" and settings.magic.t > 0 and held_out,
        "settings_json": settings.model_dump_json(exclude={"tree", "min_cells_per_type"}),
        "counts_json": json.dumps(_counts(types, rows), ensure_ascii=False),
    }
    return cells


def write_cells(cells: ad.AnnData, path: str | Path) -> None:
    """Write the result of :func:`environment_cells` as h5ad, whole or not at all."""
    write_atlas(cells, path)


def _check_engine(magic: MagicSettings, denoise: Denoiser | None) -> None:
    if (magic.engine == "latentree") != (denoise is None):
        raise InputError(
            "environments.magic.engine",
            f"{magic.engine!r} with {'another' if denoise else 'no other'} denoiser given",
            "Pass `denoise` for engine magic-impute and for no other",
        )


def _gene_positions(adata: ad.AnnData, genes: Sequence[str] | None) -> np.ndarray:
    if genes is None:
        return np.flatnonzero(modelled_genes(adata))
    wanted = pd.Index([str(gene) for gene in genes])
    unknown = wanted[~wanted.isin(adata.var_names)]
    if len(unknown):
        raise InputError(
            "genes",
            f"{len(unknown)} of {len(wanted)} are not in the atlas: {listed(unknown)}",
            f"Name genes as in the atlas's var_names{nearest(unknown[0], adata.var_names)}",
        )
    if not len(wanted) or wanted.has_duplicates or adata.var_names.has_duplicates:
        raise InputError(
            "genes",
            f"{len(wanted)} names, {wanted.nunique()} of them different",
            "Name each gene once, and at least one",
        )
    return adata.var_names.get_indexer(wanted)


def _cell_types(adata: ad.AnnData) -> pd.Series:
    if "cell_type" not in adata.obs:
        raise InputError(
            "adata", "has no obs column 'cell_type'", "Use read_atlas, which writes the types there"
        )
    types = adata.obs["cell_type"].reset_index(drop=True)
    return types.astype(object).where(types.notna()).map(str, na_action="ignore")


def _subsample(types: pd.Series, at_most: int, seed: int) -> np.ndarray:
    """Rows kept, ascending; a type's draw depends on the seed and its own cells alone."""
    kept = []
    for name, rows in types.groupby(types, sort=True).indices.items():
        rng = np.random.default_rng(derive_seed(seed, "environments", str(name)))
        kept.append(rows if len(rows) <= at_most else rng.choice(rows, at_most, replace=False))
    return np.sort(np.concatenate(kept))


def _graph_cells(adata: ad.AnnData, magic: MagicSettings) -> np.ndarray:
    """bool (n_cells,): the cells that make the graph."""
    if magic.fit_on == "all" or "split" not in adata.obs:
        return np.ones(adata.n_obs, dtype=bool)
    training = np.zeros(adata.n_obs, dtype=bool)
    training[split_rows(adata, "train")] = True
    return training


def _denoised(
    x: Matrix, columns: np.ndarray, rows: np.ndarray, training: np.ndarray, magic: MagicSettings
) -> np.ndarray:
    """float32 (n_rows, n_columns) by this library's MAGIC."""
    if magic.t == 0:
        return dense(x[rows][:, columns])
    x_train = x[training]
    graph = MagicGraph.fit(x_train, magic)
    genes_train = x_train[:, columns]
    values = np.empty((len(rows), len(columns)), dtype=np.float32)
    inside = training[rows]
    rank = np.cumsum(training) - 1
    values[inside] = graph.denoise(genes_train, rows=rank[rows[inside]])
    if not inside.all():
        x_new = x[rows[~inside]]
        values[~inside] = graph.extend(x_new, x_new[:, columns], genes_train)
    return values


def _checked(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    values = dense(values)
    if values.shape != shape or not np.isfinite(values).all():
        raise InputError(
            "environments.magic.engine",
            f"the denoiser returned shape {values.shape} or values that are not finite, not {shape}",
            "Use engine: latentree, or mend the denoiser",
        )
    return values


def _counts(types: pd.Series, rows: np.ndarray) -> list[dict[str, str | int]]:
    names = types.dropna()
    kept = types.iloc[rows]
    return [
        {"cell_type": name, "n_cells": int((names == name).sum()), "n_kept": int((kept == name).sum())}
        for name in sorted(set(names))
    ]
