"""From an atlas as found to an atlas as the other stages rely on it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd

from latentree.atlas.cleaning import (
    cell_names,
    checked_library_size,
    clean_frame,
    column_of,
    gene_names,
    labels_of,
)
from latentree.atlas.decisions import (
    Found,
    Work,
    note_library_size,
    record_choice,
    record_filter,
    record_scale,
)
from latentree.atlas.filtering import Ledger, filter_atlas, keep_in_place, log1p_cp10k, sums_per_cell
from latentree.atlas.gene_choice import choose_genes
from latentree.atlas.source import Source, damaged, open_source
from latentree.atlas.splitting import split_cells, split_donors, split_table
from latentree.atlas.values import choose_matrix
from latentree.builtin_atlases import builtin_path
from latentree.config import AtlasSettings
from latentree.errors import InputError, listed
from latentree.files import sha256_of
from latentree.settings import PreprocessSettings
from latentree.splits import SPLITS

_OWN_COLUMNS = ("cell_type", "split", "library_size")


def prepare_atlas(
    settings: AtlasSettings,
    preprocess: PreprocessSettings,
    min_cells_per_type: int,
    name: str = "atlas",
    *,
    path: str | Path | None = None,
) -> tuple[anndata.AnnData, dict[str, Any]]:
    """Read an atlas, check and clean it, normalise, split, and choose the modelled genes.

    Parameters
    ----------
    settings
        Where the atlas is and what its columns mean.
    preprocess
        Filters, split and gene choice.
    min_cells_per_type
        Cell types with fewer cells are dropped.
    name
        The atlas's name in the config, for messages.
    path
        The file that an http(s) address was downloaded to.

    Returns
    -------
    anndata.AnnData
        (n_cells, n_genes): X CSR float32 logarithms, layers["counts"] where there are counts,
        obs["cell_type"], obs["split"], obs["library_size"], var["modelled"], uns["latentree"].
    dict
        Every decision and count; JSON-serialisable, the content of qc.json.

    Raises
    ------
    InputError
        Anything about the file or the settings that makes an atlas impossible.
    """

    def key(setting: str) -> str:
        return f"atlases.{name}.{setting}"

    file = _local_file(settings, path, key)
    sha256 = checked_sha256(file, settings, key)
    qc = {"atlas": name, "path": settings.path, "sha256": sha256, "organism": settings.organism}
    return _prepare(file, Work(settings, preprocess, min_cells_per_type, key, qc))


def prepare_memory(
    adata: anndata.AnnData, settings: AtlasSettings, preprocess: PreprocessSettings, min_cells_per_type: int
) -> tuple[anndata.AnnData, dict[str, Any]]:
    """:func:`prepare_atlas` for an AnnData in memory, which stays as it is."""
    qc = {"atlas": "adata", "path": settings.path, "sha256": None, "organism": settings.organism}
    return _prepare(adata, Work(settings, preprocess, min_cells_per_type, str, qc))


def _local_file(settings: AtlasSettings, path: str | Path | None, key: Callable[[str], str]) -> Path:
    if path is not None:
        return Path(path)
    if settings.path.startswith("builtin:"):
        return builtin_path(settings.path.removeprefix("builtin:"))
    if settings.is_address:
        raise InputError(
            key("path"),
            f"{settings.path} is an address, not a file",
            "Download it first (latentree.download.download, or the workflow's rule) and give the file",
        )
    return Path(settings.path)


def checked_sha256(file: Path, settings: AtlasSettings, key: Callable[[str], str]) -> str | None:
    """The file's checksum; a missing or unreadable file is left for the opening to explain."""
    try:
        found = sha256_of(file)
    except OSError:
        return None
    if settings.sha256 is not None and found != settings.sha256.lower():
        raise InputError(
            key("sha256"),
            f"{settings.path} has sha256 {found}, the config says {settings.sha256.lower()}",
            "Get the file that was meant, or correct sha256 if this one is",
        )
    return found


def _prepare(source: anndata.AnnData | Path, work: Work) -> tuple[anndata.AnnData, dict[str, Any]]:
    with open_source(source, work.shown) as opened:
        found = _read(opened, work)
    adata = _cleaned(found, work)
    _split(adata, found.donors, work)
    _model(adata, work)
    work.qc["notes"] = work.notes
    adata.uns["latentree"] = {
        "scale": work.qc["scale"]["x"],
        "organism": work.settings.organism,
        "qc_json": json.dumps(work.qc, ensure_ascii=False, allow_nan=False),
    }
    return adata, work.qc


def _read(opened: Source, work: Work) -> Found:
    """Everything that is wanted from the open atlas; what is cheap to check is checked first."""
    settings, obs = work.settings, opened.obs
    if len(obs) == 0 or (opened.candidates and opened.n_genes == 0):
        raise InputError(
            work.shown,
            f"has {len(obs)} cells and {opened.n_genes} genes",
            "Give an atlas that has both; a filter may have removed them all",
        )
    names = cell_names(obs, work.shown)
    labels = labels_of(column_of(obs, settings.cell_type, work.key("cell_type"), work.shown))
    donors = None
    if settings.split_by is not None:
        remedy = "Name one of these, or leave it empty to split by cells"
        donors = labels_of(column_of(obs, settings.split_by, work.key("split_by"), work.shown, remedy))
    library_size = None
    if settings.library_size is not None:
        library_size = checked_library_size(obs, settings.library_size, work.key("library_size"), work.shown)
    batches = None
    if settings.batch is not None:
        remedy = "Name one of these, or leave it empty"
        batches = labels_of(column_of(obs, settings.batch, work.key("batch"), work.shown, remedy))
    choice = choose_matrix(opened.candidates, settings.matrix, work.shown, work.key)
    genes = choice.candidate.genes
    named = gene_names(genes, settings.symbol_column, work.shown, work.key("symbol_column"))
    record_choice(choice, named, work)
    try:
        values = choice.matrix.load()
    except ValueError as error:
        raise damaged(work.shown, error) from None
    cells = clean_frame(obs).set_axis(names, axis=0)
    return Found(cells, clean_frame(genes), named, labels, donors, batches, library_size, choice.kind, values)


def _cleaned(found: Found, work: Work) -> anndata.AnnData:
    """Filtered and normalised; takes the matrix out of ``found``, whose memory it reuses."""
    ledger = Ledger(np.ones(len(found.obs), dtype=bool))
    sums = sums_per_cell(found.values)
    library_size = sums if found.library_size is None else found.library_size
    if found.library_size is not None and found.kind != "log":
        ledger.drop(np.isnan(library_size), "no library size")
    if found.donors is not None:
        # a cell of an unknown donor could have a sister on every side
        unknown = np.array([donor is None for donor in found.donors], dtype=bool)
        ledger.drop(unknown, f"no value in {work.settings.split_by} (split_by)")
    if found.batches is not None:
        unknown = np.array([batch is None for batch in found.batches], dtype=bool)
        ledger.drop(unknown, f"no value in {work.settings.batch} (batch)")
    ignored = work.settings.ignore_cell_types
    filtered = filter_atlas(
        found.values, found.labels, ledger, ignored, work.preprocess, work.min_cells_per_type
    )
    keep, genes = ledger.keep, filtered.genes
    record_filter(found, ledger, filtered.genes, filtered.dropped_types, work)
    values = keep_in_place(found.values, keep, genes)
    found.values = values
    if found.donors is not None:
        found.donors = found.donors[keep]

    obs = _cells_table(found, keep, work)
    var = _genes_table(found, genes)
    if found.kind == "log":
        record_scale("as_found", None, work)
        return anndata.AnnData(values, obs=obs, var=var)
    library = library_size[keep]
    record_scale("log1p_cp10k", library, work)
    x = log1p_cp10k(values, library, in_place=found.kind == "normalised")
    if found.kind == "normalised":
        return anndata.AnnData(x, obs=obs, var=var)
    obs["library_size"] = library
    note_library_size(obs, len(found.genes), sums[keep], library, work)
    return anndata.AnnData(x, obs=obs, var=var, layers={"counts": values})


def _cells_table(found: Found, keep: np.ndarray, work: Work) -> pd.DataFrame:
    """The table of the kept cells; columns of the source that bear our names get ``_found`` behind them."""
    obs = found.obs[keep].copy()
    replaced = {"cell_type": work.settings.cell_type, "library_size": work.settings.library_size}
    for column in _OWN_COLUMNS:
        if column not in obs.columns or (column == "library_size" and found.kind != "counts"):
            continue
        if replaced.get(column) != column:
            obs[f"{column}_found"] = obs[column]
            work.notes.append(f"The atlas's own obs column {column!r} is kept as '{column}_found'.")
        del obs[column]
    obs = clean_frame(obs)  # categories of dropped cells go
    labels = found.labels[keep].astype(str)
    obs["cell_type"] = pd.Categorical(labels, categories=sorted(set(labels)))
    return obs


def _genes_table(found: Found, genes: np.ndarray) -> pd.DataFrame:
    var = clean_frame(found.genes[genes])
    var.index = found.named.names[genes]
    if found.named.ids is not None:
        var["gene_id"] = found.named.ids[genes].to_numpy()
    return var


def _split(adata: anndata.AnnData, donors: np.ndarray | None, work: Work) -> None:
    settings, preprocess = work.settings, work.preprocess
    types = adata.obs["cell_type"].cat
    codes = types.codes.to_numpy().astype(np.int64)
    fractions = (preprocess.test_fraction, preprocess.validation_fraction)
    if donors is None:
        sides = split_cells(codes, *fractions, preprocess.seed)
    else:
        where = f"{work.key('split_by')} ({settings.split_by!r})"
        sides = split_donors(donors, codes, list(types.categories), fractions, preprocess.seed, where)
    adata.obs["split"] = pd.Categorical(np.asarray(SPLITS)[sides], categories=SPLITS)
    table = split_table(adata.obs["cell_type"], adata.obs["split"])
    work.qc["cell_types"] = [
        {"cell_type": name, "n_cells": int(row.sum()), **{side: int(row[side]) for side in SPLITS}}
        for name, row in table.iterrows()
    ]
    work.qc["split"] = {
        "method": "cells, stratified by cell type" if donors is None else "whole donors",
        "split_by": settings.split_by,
        "seed": preprocess.seed,
        "test_fraction": preprocess.test_fraction,
        "validation_fraction": preprocess.validation_fraction,
        "n_cells": {side: int(table[side].sum()) for side in SPLITS},
        "donors": None if donors is None else {s: _donors_on(donors, sides, s) for s in SPLITS},
    }
    for side in SPLITS:
        lacking = table.index[table[side] == 0]
        if len(lacking):
            work.notes.append(f"Cell types without {side} cells: {listed(lacking, limit=50)}.")


def _donors_on(donors: np.ndarray, sides: np.ndarray, side: str) -> list[str]:
    return sorted(set(donors[sides == SPLITS.index(side)]))


def _model(adata: anndata.AnnData, work: Work) -> None:
    preprocess = work.preprocess
    training = np.flatnonzero(adata.obs["split"] == "train")
    choice = choose_genes(
        adata.X,
        adata.layers.get("counts"),
        training,
        preprocess.n_genes,
        preprocess.gene_selection,
        "preprocess.gene_selection",
    )
    adata.var["modelled"] = choice.modelled
    work.notes.extend(choice.notes)
    work.qc["gene_selection"] = {
        "asked": preprocess.gene_selection,
        "method": choice.method,
        "n_genes_asked": preprocess.n_genes,
        "n_training_cells": len(training),
        "n_modelled": int(choice.modelled.sum()),
    }
