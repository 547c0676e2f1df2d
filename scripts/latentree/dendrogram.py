"""Scanpy's dendrogram of the cell types, with its traps handled.

Scanpy's linkage ids index the categories as stored, so they are sorted first; unused categories
raise, cells without a type vanish and a missing PCA is made up silently there: all said or done here.
"""

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from latentree.errors import InputError, listed, nearest

if TYPE_CHECKING:
    from anndata import AnnData

# centroid and median are left out: their merges can lie below the merges they join
LINKAGES = ("complete", "average", "single", "ward")
_TIE = 1e-9  # distances are 1 - correlation, so of order 1; PCA's rounding is coarser than this


def type_linkage(
    adata: "AnnData", key: str, *, linkage: str = "complete", n_pcs: int = 50
) -> tuple[np.ndarray, list[str]]:
    """Linkage matrix of the cell types by ``scanpy.tl.dendrogram`` on a PCA made here.

    Types' mean principal components are compared by 1 - Pearson correlation. PCA: scikit-learn's
    ARPACK solver with a fixed start, on the modelled genes where ``var["modelled"]`` is there. Axes and
    means come from training cells where ``obs["split"]`` is there; a type without any (a split by
    donor can do that) is placed by its other cells, with a warning.

    Returns
    -------
    (n_types - 1, 4) float64 linkage matrix, and the n_types names in sorted order that its ids index.

    Raises
    ------
    InputError
        No such column, fewer than 2 types, too few cells or genes, or an unknown linkage.
    """
    import anndata as ad
    import scanpy as sc

    if linkage not in LINKAGES:
        raise InputError("linkage", f"{linkage!r} is not offered", f"Choose one of {listed(LINKAGES)}")
    labels = _type_labels(adata, key)
    used = _cells_to_use(adata, labels, key)
    types = labels[used].cat.remove_unused_categories()
    representation = _principal_components(adata[used], _training(adata)[used], n_pcs, key)
    reduced = ad.AnnData(
        obs=pd.DataFrame({"type": types.to_numpy()}, index=adata.obs_names[used].astype(str)),
        obsm={"X_pca": representation},
    )
    reduced.obs["type"] = pd.Categorical(types.to_numpy(), categories=list(types.cat.categories))
    result = sc.tl.dendrogram(
        reduced, "type", use_rep="X_pca", linkage_method=linkage, cor_method="pearson", inplace=False
    )
    names = list(types.cat.categories)
    _check_distances(1 - result["correlation_matrix"], names, key)
    return result["linkage"], names


def _type_labels(adata: "AnnData", key: str) -> pd.Series:
    """Categorical of text with sorted, used categories; cells without a type stay nan."""
    if key not in adata.obs.columns:
        raise InputError(
            f"obs[{key!r}]",
            f"no such column (columns: {listed(adata.obs.columns)})",
            f"Name the column that holds the cell types{nearest(key, adata.obs.columns)}",
        )
    column = adata.obs[key]
    text = column.astype(object).where(column.notna()).map(str, na_action="ignore")
    names = sorted(set(text.dropna()))
    if len(names) < 2:
        raise InputError(
            f"obs[{key!r}]",
            f"{len(names)} cell type(s) ({listed(names)}); a tree needs at least 2",
            "Name a column with more cell types",
        )
    n_missing = int(text.isna().sum())
    if n_missing:
        warnings.warn(f"obs[{key!r}]: {n_missing} cells without a cell type are left out", stacklevel=4)
    return pd.Series(pd.Categorical(text, categories=names), index=np.arange(adata.n_obs))


def _training(adata: "AnnData") -> np.ndarray:
    if "split" not in adata.obs.columns:
        return np.ones(adata.n_obs, dtype=bool)
    return (adata.obs["split"] == "train").to_numpy(dtype=bool)


def _cells_to_use(adata: "AnnData", labels: pd.Series, key: str) -> np.ndarray:
    """bool (n_cells,): training cells with a type, and all cells of types without training cells."""
    typed = labels.notna().to_numpy()
    used = typed & _training(adata)
    without = sorted(set(labels[typed]) - set(labels[used]))
    if without:
        warnings.warn(
            f"obs[{key!r}]: {len(without)} cell type(s) have no training cells and are placed in the tree "
            f"by held-out ones: {listed(without)}",
            stacklevel=4,
        )
        used |= labels.isin(without).to_numpy()
    return used


def _principal_components(adata: "AnnData", training: np.ndarray, n_pcs: int, key: str) -> np.ndarray:
    """float (n_cells, n_components) scores; axes from the training cells."""
    from sklearn.decomposition import PCA

    genes = adata.var["modelled"].to_numpy(bool) if "modelled" in adata.var else np.ones(adata.n_vars, bool)
    X = adata.X[:, genes]
    # without training cells at all there is nothing to leak from
    fitted_on = X[training] if training.any() else X
    n_components = min(n_pcs, fitted_on.shape[0] - 1, fitted_on.shape[1] - 1)
    if n_components < 3:
        raise InputError(
            f"obs[{key!r}]",
            f"{fitted_on.shape[0]} training cells and {fitted_on.shape[1]} genes under the dendrogram",
            "Correlations of types need at least 4 cells, 4 genes and 3 components (n_pcs)",
        )
    # ARPACK cannot start on such a matrix
    if sparse.csr_matrix(fitted_on.max(axis=0) - fitted_on.min(axis=0)).nnz == 0:
        raise InputError(
            f"obs[{key!r}]",
            f"all {fitted_on.shape[0]} training cells have the same values, so types have no correlation",
            "Check the values of X",
        )
    return PCA(n_components, svd_solver="arpack", random_state=0).fit(fitted_on).transform(X)


def _check_distances(distances: np.ndarray, names: list[str], key: str) -> None:
    if not np.isfinite(distances).all():
        raise InputError(
            f"obs[{key!r}]",
            f"the mean profiles of {listed(names)} are constant or not finite, so have no correlation",
            "Check the values of X",
        )
    pairs = np.sort(distances[np.triu_indices(len(names), k=1)])
    n_ties = int((np.diff(pairs) < _TIE).sum())
    if n_ties:
        warnings.warn(
            f"obs[{key!r}]: {n_ties} pair(s) of cell types are equally far apart; where such pairs compete, "
            "the tree depends on the alphabetical order of their names",
            stacklevel=4,
        )
