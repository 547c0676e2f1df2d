"""Atlases as this library writes them: written whole, loaded, and looked into by the other stages."""

from pathlib import Path

import anndata
import numpy as np
from scipy import sparse

from latentree.atlas.source import damaged, open_source
from latentree.errors import InputError, listed
from latentree.files import atomic_path
from latentree.splits import SPLITS


def write_atlas(adata: anndata.AnnData, path: str | Path) -> None:
    """Write an atlas as h5ad, whole or not at all; the same atlas gives the same bytes."""
    with atomic_path(path) as temporary:
        adata.write_h5ad(temporary, compression="gzip", compression_opts=1)


def load_atlas(path: str | Path) -> anndata.AnnData:
    """Load an atlas that :func:`write_atlas` wrote.

    Raises
    ------
    InputError
        No such file, a damaged one, or an h5ad that is not such an atlas.
    """
    path = Path(path)
    # opening it first tells a missing file from a damaged one and from another format
    with open_source(path, str(path)):
        pass
    try:
        adata = anndata.read_h5ad(path)
    except Exception as error:
        raise damaged(str(path), error) from None
    lacking = _lacking(adata)
    if lacking:
        raise InputError(
            path, f"is an h5ad but not an atlas of latentree: it lacks {listed(lacking)}", "Use read_atlas"
        )
    return adata


def is_atlas(adata: anndata.AnnData) -> bool:
    """Whether an AnnData has all that the other stages rely on."""
    return not _lacking(adata)


def _lacking(adata: anndata.AnnData) -> list[str]:
    facts = adata.uns.get("latentree", {})
    wanted = {
        "uns['latentree']['scale']": "scale" in facts,
        "uns['latentree']['qc_json']": "qc_json" in facts,
        "obs['cell_type']": "cell_type" in adata.obs,
        "obs['split']": "split" in adata.obs,
        "var['modelled']": "modelled" in adata.var,
        "X in CSR": sparse.issparse(adata.X) and adata.X.format == "csr",
    }
    return [name for name, there in wanted.items() if not there]


def modelled_genes(adata: anndata.AnnData) -> np.ndarray:
    """Which genes are modelled, (n_genes,) bool; all where var["modelled"] is absent."""
    if "modelled" not in adata.var:
        return np.ones(adata.n_vars, dtype=bool)
    return adata.var["modelled"].to_numpy(dtype=bool)


def modelled_matrix(adata: anndata.AnnData) -> sparse.csr_matrix | np.ndarray:
    """X of the modelled genes, (n_cells, n_modelled) float32; CSR where X is sparse, else dense."""
    genes = modelled_genes(adata)
    x = adata.X
    if sparse.issparse(x):
        x = sparse.csr_matrix(x)
        return (x if genes.all() else x[:, genes]).astype(np.float32, copy=False)
    x = np.asarray(x, dtype=np.float32)
    return x if genes.all() else x[:, genes]


def split_rows(adata: anndata.AnnData, side: str) -> np.ndarray:
    """Rows of the cells on one side (train, validation, test) of obs["split"], int64.

    Raises
    ------
    InputError
        No obs["split"], or a side that is none.
    """
    if side not in SPLITS:
        raise InputError("split", f"{side!r} is not a side of the split", f"Use one of {listed(SPLITS)}")
    if "split" not in adata.obs:
        raise InputError("adata", "has no obs column 'split'", "Use read_atlas, which splits the cells")
    return np.flatnonzero((adata.obs["split"] == side).to_numpy())
