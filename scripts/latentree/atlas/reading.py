"""read_atlas: the atlas stage in one call, for notebooks."""

from collections.abc import Sequence
from pathlib import Path

import anndata

from latentree.atlas.prepare import prepare_atlas, prepare_memory
from latentree.atlas.source import open_source
from latentree.atlas.written import is_atlas, load_atlas
from latentree.config import AtlasSettings, checked
from latentree.errors import whole_number
from latentree.settings import PreprocessSettings


def read_atlas(
    source: str | Path | anndata.AnnData,
    cell_type: str,
    *,
    organism: str = "human",
    matrix: str = "auto",
    symbol_column: str | None = None,
    library_size: str | None = None,
    split_by: str | None = None,
    ignore_cell_types: Sequence[str] = (),
    min_cells_per_type: int = 5,
    preprocess: PreprocessSettings | None = None,
) -> anndata.AnnData:
    """Read an atlas, validate and normalise it, split its cells and choose the modelled genes.

    An atlas that this library made already is returned as it was made.

    Parameters
    ----------
    source
        An .h5ad file, ``builtin:pbmc68k_reduced``, or an AnnData (which stays as it is).
    cell_type
        obs column of cell types.
    organism
        ``human`` or ``mouse``: whose gene symbols these are.
    matrix
        ``auto``, ``X``, ``raw`` or the name of a layer.
    symbol_column
        var column of gene symbols; found by itself where var_names are Ensembl ids.
    library_size
        obs column of total counts, for atlases cut to few genes.
    split_by
        obs column of donors or samples, which stay on one side of the split.
    ignore_cell_types
        Labels that mean no type.
    min_cells_per_type
        Types with fewer cells are dropped.
    preprocess
        Filters, split and gene choice; the defaults where it is None.

    Returns
    -------
    anndata.AnnData
        See :func:`latentree.atlas.prepare_atlas`; its decisions are in uns["latentree"]["qc_json"].

    Raises
    ------
    InputError
        Anything about the source or the arguments that makes an atlas impossible.
    """
    values = {
        "path": "adata" if isinstance(source, anndata.AnnData) else str(source),
        "cell_type": cell_type,
        "organism": organism,
        "matrix": matrix,
        "symbol_column": symbol_column,
        "library_size": library_size,
        "split_by": split_by,
        "ignore_cell_types": list(ignore_cell_types),
    }
    settings = checked(AtlasSettings, values, "read_atlas")
    min_cells_per_type = whole_number("min_cells_per_type", min_cells_per_type, 1)
    plain = {"path": settings.path, "cell_type": "cell_type", "organism": organism}
    asks_for_nothing = preprocess is None and settings == checked(AtlasSettings, plain, "read_atlas")
    if asks_for_nothing and (made := _made_already(source)) is not None:
        return made
    preprocess = preprocess or checked(PreprocessSettings, None, "preprocess")
    if isinstance(source, anndata.AnnData):
        return prepare_memory(source, settings, preprocess, min_cells_per_type)[0]
    return prepare_atlas(settings, preprocess, min_cells_per_type)[0]


def _made_already(source: str | Path | anndata.AnnData) -> anndata.AnnData | None:
    if isinstance(source, anndata.AnnData):
        return source.copy() if is_atlas(source) else None
    if str(source).startswith(("builtin:", "http://", "https://")):
        return None
    with open_source(Path(source), str(source)) as opened:
        prepared = opened.prepared
    return load_atlas(source) if prepared else None
