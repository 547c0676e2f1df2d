"""The modelled genes: scanpy's choice, of training cells only."""

import warnings
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from atlas_fixture import atlas, counts, log_values, prepare
from scipy import sparse

from latentree.atlas import gene_choice, read_atlas
from latentree.atlas.gene_choice import choose_genes, normalised_dispersions, normalised_variances
from latentree.errors import InputError


@pytest.fixture(scope="module")
def varied() -> sparse.csr_matrix:
    """Counts (300 cells, 400 genes) whose means span three decades; five genes are never seen."""
    rng = np.random.default_rng(0)
    means = 10 ** rng.uniform(-1.5, 1.5, 400) * rng.gamma(1 / rng.uniform(0.05, 2, 400), 1, (300, 400))
    means[:, :5] = 0
    return sparse.csr_matrix(rng.poisson(means).astype(np.float32))


def _scanpy(matrix: sparse.csr_matrix, flavour: str, **options: Any) -> np.ndarray:
    import scanpy as sc

    column = {"seurat_v3": "variances_norm", "seurat": "dispersions_norm"}[flavour]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = sc.pp.highly_variable_genes(
            anndata.AnnData(matrix), flavor=flavour, n_top_genes=50, inplace=False, **options
        )
    return table[column].to_numpy()


@pytest.mark.parametrize("block", [1000, 1 << 20])
def test_scores_are_those_of_scanpy(
    varied: sparse.csr_matrix, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentree.atlas.filtering.BLOCK", block)
    cells = np.random.default_rng(1).random(300) < 0.7
    for span in gene_choice.SPANS:
        expected = _scanpy(varied[cells], "seurat_v3", span=span)
        np.testing.assert_allclose(normalised_variances(varied, cells, span), expected, rtol=1e-10)
    logs = sparse.csr_matrix(varied.multiply(1e4 / varied.sum(axis=1)).log1p().astype(np.float32))
    expected = _scanpy(logs[cells], "seurat")
    np.testing.assert_allclose(normalised_dispersions(logs, cells), expected, rtol=5e-4, atol=1e-5)
    assert np.isnan(expected[:5]).all()


def test_the_chosen_genes_are_the_highest_and_depend_on_training_cells_only(
    varied: sparse.csr_matrix,
) -> None:
    training = np.arange(200)
    logs = varied.log1p()
    for selection, matrix, method in (
        ("auto", varied, "seurat_v3"),
        ("seurat", varied, "seurat"),
        ("auto", None, "seurat"),
    ):
        choice = choose_genes(logs, matrix, training, 50, selection, "gene_selection")
        assert choice.method == method
        assert choice.modelled.sum() == 50
        score = _scanpy((logs if method == "seurat" else varied)[:200], method)
        assert np.nanmin(score[choice.modelled]) >= np.nanmax(score[~choice.modelled]) - 1e-3
        other = None if matrix is None else sparse.vstack([matrix[:200], counts(100, 400)]).tocsr()
        other_logs = sparse.vstack([logs[:200], counts(100, 400)]).tocsr()
        again = choose_genes(other_logs, other, training, 50, selection, "gene_selection")
        np.testing.assert_array_equal(again.modelled, choice.modelled)


def test_genes_that_no_training_cell_expresses_are_never_modelled(varied: sparse.csr_matrix) -> None:
    for selection, n_genes in (("all", 1), ("auto", 399), ("seurat", 398)):
        choice = choose_genes(varied.log1p(), varied, np.arange(300), n_genes, selection, "x")
        assert not choice.modelled[:5].any()
    assert choice.method == "all"
    assert choice.modelled.sum() == 395


def _much_alike() -> np.ndarray:
    row = np.array([0, 1, 2, 5], dtype=np.float32)
    return np.stack([np.roll(row, i) for i in range(4)])[:, np.arange(12) % 4]


@pytest.mark.parametrize(
    ("x", "n_genes"),
    [(_much_alike(), 5), (counts(60, 2).toarray(), 1), (np.eye(3) * 3 + 1, 2), (np.full((5, 3), 2.0), 1)],
    ids=["much alike", "two genes", "three", "constant"],
)
def test_seurat_v3_falls_back_where_its_trend_cannot_be_fitted(x: np.ndarray, n_genes: int) -> None:
    matrix = sparse.csr_matrix(x.astype(np.float32))
    choice = choose_genes(matrix.log1p(), matrix, np.arange(len(x)), n_genes, "seurat_v3", "x")
    assert choice.method == "seurat"
    assert choice.modelled.sum() == n_genes
    assert "could not fit" in choice.notes[0]


def test_a_wider_span_is_tried_and_said(varied: sparse.csr_matrix, monkeypatch: pytest.MonkeyPatch) -> None:
    true = normalised_variances

    def fails_at_first(matrix: Any, cells: np.ndarray, span: float) -> np.ndarray:
        if span < 0.5:
            raise ValueError("svddc failed in l2fit.")
        return true(matrix, cells, span)

    monkeypatch.setattr(gene_choice, "normalised_variances", fails_at_first)
    choice = choose_genes(varied.log1p(), varied, np.arange(300), 50, "auto", "x")
    assert choice.method == "seurat_v3"
    assert choice.notes == ("seurat_v3 needed a span of 0.5 instead of 0.3.",)


def test_seurat_v3_without_counts_is_an_error(tmp_path: Path) -> None:
    source = atlas(log_values(counts()))
    with pytest.raises(InputError, match=r"preprocess\.gene_selection: is seurat_v3, which needs counts"):
        prepare(source, tmp_path, preprocess={"gene_selection": "seurat_v3", "n_genes": 5})


def test_fewer_genes_than_asked_for_are_all_modelled(tmp_path: Path) -> None:
    adata, qc = prepare(atlas(), tmp_path)
    assert adata.var["modelled"].all()
    assert qc["gene_selection"] == {
        "asked": "auto",
        "method": "all",
        "n_genes_asked": 1000,
        "n_training_cells": int((adata.obs["split"] == "train").sum()),
        "n_modelled": 40,
    }


@pytest.mark.parametrize(
    ("name", "cell_type", "settings", "shape", "method"),
    [
        ("zheng2017_sorted_pbmc", "cell_type", {}, (2140, 8863), "seurat_v3"),
        ("zeisel2015_200genes", "cell_type", {"library_size": "total_mRNA_mol"}, (3005, 200), "all"),
        ("zeisel2015_200genes", "cell_subtype", {"ignore_cell_types": ["(none)"]}, None, "all"),
        ("kang2018_pbmc_ifnb", "cell_type", {"split_by": "sample"}, (1556, 1267), "seurat_v3"),
        ("pbmc68k_reduced_counts", "cell_type", {}, (700, 765), "all"),
    ],
)
def test_real_atlases(
    shared_data: Path,
    name: str,
    cell_type: str,
    settings: dict[str, Any],
    shape: tuple[int, int] | None,
    method: str,
) -> None:
    import json

    adata = read_atlas(shared_data / f"{name}.h5ad", cell_type, **settings)
    qc = json.loads(adata.uns["latentree"]["qc_json"])
    assert shape is None or adata.shape == shape
    assert qc["gene_selection"]["method"] == method
    assert adata.uns["latentree"]["scale"] == "log1p_cp10k"
    assert adata.var["modelled"].sum() == min(1000, adata.n_vars)
    source = anndata.read_h5ad(shared_data / f"{name}.h5ad")[adata.obs_names, adata.var_names]
    assert abs(adata.layers["counts"] - source.X).max() == 0
    sums = np.expm1(adata.X.toarray().astype(np.float64)).sum(axis=1)
    total = np.asarray(source.X.sum(axis=1)).ravel()
    np.testing.assert_allclose(sums, 1e4 * total / adata.obs["library_size"], rtol=1e-4)
