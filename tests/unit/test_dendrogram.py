"""Dendrograms of cell types: scanpy's and SciPy's heights, scanpy's traps, errors."""

import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse
from scipy.cluster.hierarchy import cophenet
from scipy.cluster.hierarchy import linkage as scipy_linkage
from scipy.spatial.distance import squareform

from latentree.errors import InputError
from latentree.tree import Tree


def cells(types: list[str], n_genes: int = 12, seed: int = 0) -> ad.AnnData:
    """10 cells of each type around a profile of its own."""
    rng = np.random.default_rng(seed)
    profiles = rng.normal(size=(len(types), n_genes))
    labels = np.repeat(types, 10)
    x = np.repeat(profiles, 10, axis=0) + 0.1 * rng.normal(size=(len(labels), n_genes))
    adata = ad.AnnData(sparse.csr_matrix(x.astype(np.float32)))
    adata.obs["type"] = pd.Categorical(labels)
    return adata


def test_heights_are_the_cophenetic_distances_of_scanpy(shared_data: Path) -> None:
    adata = sc.read_h5ad(shared_data / "zeisel2015_200genes.h5ad")
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    tree = Tree.from_dendrogram(adata, "cell_subtype")
    sc.pp.pca(adata, n_comps=50, random_state=0)
    categories = sorted(adata.obs["cell_subtype"].cat.categories)
    adata.obs["cell_subtype"] = adata.obs["cell_subtype"].cat.reorder_categories(categories)
    result = sc.tl.dendrogram(adata, "cell_subtype", use_rep="X_pca", inplace=False)
    expected = squareform(cophenet(result["linkage"]))
    assert sorted(tree.leaves) == categories
    for i, a in enumerate(categories):
        for j, b in enumerate(categories):
            # both leaves hang at height 0, so the way between them is twice the merge's height
            assert tree.distance(a, b) / 2 == pytest.approx(expected[i, j], abs=2e-4)


@pytest.mark.parametrize("linkage", ["complete", "average", "single", "ward"])
def test_linkages_as_scipy_makes_them(linkage: str) -> None:
    rng = np.random.default_rng(3)
    points = rng.normal(size=(9, 4))
    Z = scipy_linkage(points, linkage)
    labels = [f"t{i}" for i in range(9)]
    tree = Tree.from_linkage(Z, labels)
    expected = squareform(cophenet(Z))
    distances = [[tree.distance(a, b) / 2 for b in labels] for a in labels]
    np.testing.assert_allclose(distances, expected, atol=1e-12)
    assert tree.root == "node1"
    assert len(tree.path("t0")) >= 2


def test_merges_that_go_down_are_refused() -> None:
    Z = np.array([[0, 1, 1.0, 2], [2, 3, 0.5, 3]])  # what centroid linkage can give
    with pytest.raises(InputError, match="centroid"):
        Tree.from_linkage(Z, ["a", "b", "c"])
    with pytest.raises(InputError, match=r"shape \(2, 4\) for 2 labels"):
        Tree.from_linkage(Z, ["a", "b"])
    with pytest.raises(InputError, match="'centroid' is not offered"):
        Tree.from_dendrogram(cells(["a", "b"]), "type", linkage="centroid")


def test_the_order_and_the_number_of_categories_do_not_matter() -> None:
    adata = cells(["d", "b", "a;b", "c", "it's"])
    before = Tree.from_dendrogram(adata, "type")
    stored = adata.obs["type"].cat.categories[::-1].insert(1, "unused")
    adata.obs["type"] = adata.obs["type"].cat.set_categories(stored)
    assert Tree.from_dendrogram(adata, "type") == before
    adata.obs["type"] = adata.obs["type"].astype(object)
    assert Tree.from_dendrogram(adata, "type") == before
    adata.X = adata.X.toarray()
    np.testing.assert_allclose(
        Tree.from_dendrogram(adata, "type").branch_lengths, before.branch_lengths, atol=1e-5
    )


def test_types_named_like_merges_keep_their_names() -> None:
    tree = Tree.from_dendrogram(cells(["node1", "node2", "node3"]), "type")
    assert sorted(tree.leaves) == ["node1", "node2", "node3"]
    assert len(set(tree.names)) == 5


def test_two_types_make_a_tree_and_one_does_not() -> None:
    tree = Tree.from_dendrogram(cells(["b", "a"]), "type")
    assert tree.names == ("node1", "a", "b")
    with pytest.raises(InputError, match=r"obs\['type'\]: 1 cell type\(s\) \('a'\)"):
        Tree.from_dendrogram(cells(["a"]), "type")
    with pytest.raises(InputError, match=r"no such column \(columns: 'type'\).*nearest: 'type'"):
        Tree.from_dendrogram(cells(["a", "b"]), "tyep")
    with pytest.raises(InputError, match="3 genes under the dendrogram"):
        Tree.from_dendrogram(cells(["a", "b"], n_genes=3), "type")


def test_cells_without_a_type_are_said() -> None:
    adata = cells(["a", "b", "c"])
    expected = Tree.from_dendrogram(adata[10:], "type")
    adata.obs.loc[adata.obs_names[:10], "type"] = np.nan
    with pytest.warns(UserWarning, match="10 cells without a cell type"):
        assert Tree.from_dendrogram(adata, "type") == expected


def test_held_out_cells_and_unmodelled_genes_change_nothing() -> None:
    adata = cells(["a", "b", "c", "d"])
    adata.obs["split"] = np.tile(["train", "train", "train", "validation", "test"], 8)
    adata.var["modelled"] = np.arange(12) < 10
    before = Tree.from_dendrogram(adata, "type")
    changed = adata.copy()
    X = changed.X.tolil()
    X[(adata.obs["split"] != "train").to_numpy()] = 5
    X[:, 10:] = 7
    changed.X = X.tocsr()
    assert Tree.from_dendrogram(changed, "type") == before
    changed.obs["split"] = "train"
    assert Tree.from_dendrogram(changed, "type") != before


def test_types_without_training_cells_are_placed_and_said() -> None:
    adata = cells(["a", "b", "c", "d"])
    adata.obs["split"] = np.where(adata.obs["type"] == "d", "test", "train")
    with pytest.warns(UserWarning, match="1 cell type.*no training cells.*'d'"):
        tree = Tree.from_dendrogram(adata, "type")
    assert set(tree.leaves) == {"a", "b", "c", "d"}


def test_ties_are_said() -> None:
    adata = cells(["a", "b", "c", "d"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Tree.from_dendrogram(adata, "type")
    adata.X[30:] = adata.X[20:30]  # d is c again, so both are as far from a
    with pytest.warns(UserWarning, match="equally far apart"):
        Tree.from_dendrogram(adata, "type")


def test_cells_without_variation_are_told() -> None:
    adata = cells(["a", "b"])
    adata.X = sparse.csr_matrix(np.ones((20, 12), dtype=np.float32))
    with pytest.raises(InputError, match="all 20 training cells have the same values"):
        Tree.from_dendrogram(adata, "type")
    adata.X = adata.X.toarray()
    with pytest.raises(InputError, match="all 20 training cells have the same values"):
        Tree.from_dendrogram(adata, "type")
