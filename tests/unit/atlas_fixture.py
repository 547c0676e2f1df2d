"""Small generated atlases for the tests of the atlas stage."""

from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from latentree.atlas import prepare_atlas
from latentree.config import AtlasSettings, checked
from latentree.settings import PreprocessSettings

ODD_TYPES = ["CD4+/CD25 T Reg", "a;b", "<script>alert(1)</script>", "Ω-Zellen 'mit' \"Namen\""]


def counts(n_cells: int = 120, n_genes: int = 40, seed: int = 0) -> sparse.csr_matrix:
    """Counts that are above zero in about two values of three; every cell and gene has several."""
    rng = np.random.default_rng(seed)
    means = rng.gamma(2.0, 1.0, n_genes) * rng.gamma(5.0, 0.2, (n_cells, 1))
    return sparse.csr_matrix(rng.poisson(means + 0.3).astype(np.float32))


def atlas(
    x: Any = None, *, types: list[str] | None = None, n_cells: int = 120, n_genes: int = 40
) -> anndata.AnnData:
    """An AnnData whose cells take the types in turn; obs also has a donor (six of them) and a number."""
    x = counts(n_cells, n_genes) if x is None else x
    n_cells, n_genes = x.shape
    types = types or ODD_TYPES
    labels = [types[i % len(types)] for i in range(n_cells)]
    obs = pd.DataFrame(
        {
            "type": pd.Categorical(labels),
            "donor": [f"donor {i // 4 % 6}" for i in range(n_cells)],
            "score": np.linspace(0, 1, n_cells),
        },
        index=[f"cell {i}" for i in range(n_cells)],
    )
    var = pd.DataFrame(index=[f"GENE{i}" for i in range(n_genes)])
    return anndata.AnnData(x, obs=obs, var=var)


def log_values(x: sparse.csr_matrix) -> sparse.csr_matrix:
    """log1p per 10k of the row's sum, the plain way."""
    dense = x.toarray().astype(np.float64)
    return sparse.csr_matrix(np.log1p(dense / dense.sum(axis=1, keepdims=True) * 1e4).astype(np.float32))


def prepare(
    adata: anndata.AnnData,
    folder: Path,
    *,
    smallest: int = 5,
    preprocess: dict[str, Any] | None = None,
    **settings: Any,
) -> tuple[anndata.AnnData, dict[str, Any]]:
    """Write the atlas to a file and prepare that file."""
    path = folder / "source.h5ad"
    adata.write_h5ad(path)
    return prepare_file(path, smallest=smallest, preprocess=preprocess, **settings)


def prepare_file(
    path: Path | str, *, smallest: int = 5, preprocess: dict[str, Any] | None = None, **settings: Any
) -> tuple[anndata.AnnData, dict[str, Any]]:
    values = {"path": str(path), "cell_type": "type", **settings}
    return prepare_atlas(
        checked(AtlasSettings, values, "test"),
        checked(PreprocessSettings, preprocess, "test"),
        smallest,
        "tiny",
    )


def write_old_file(adata: anndata.AnnData, path: Path) -> None:
    """Write the atlas as anndata 0.6 did: tables as records, raw beside X, h5sparse matrices."""
    with h5py.File(path, "w") as file:
        for key, matrix in (("X", adata.X), ("raw.X", adata.raw.X)):
            group = file.create_group(key)
            group.attrs["h5sparse_format"] = "csr"
            group.attrs["h5sparse_shape"] = np.array(matrix.shape)
            for part in ("data", "indices", "indptr"):
                group[part] = getattr(matrix, part)
        codes = adata.obs["type"].cat.codes.to_numpy()
        obs = np.array(
            [(name.encode(), code) for name, code in zip(adata.obs_names, codes, strict=True)],
            dtype=[("index", "S20"), ("type", "i1")],
        )
        file["obs"] = obs
        for key in ("var", "raw.var"):
            file[key] = np.array([(name.encode(),) for name in adata.var_names], dtype=[("index", "S20")])
        file["uns/type_categories"] = np.array([name.encode() for name in adata.obs["type"].cat.categories])
