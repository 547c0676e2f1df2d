"""Cells, cell types, genes and tables: what is dropped, renamed, kept, and said about it."""

import json
import warnings
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from atlas_fixture import ODD_TYPES, atlas, counts, log_values, prepare
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from latentree.atlas import load_atlas, modelled_matrix, read_atlas, split_rows, write_atlas
from latentree.atlas.cleaning import clean_frame, gene_names, labels_of
from latentree.atlas.filtering import keep_in_place
from latentree.errors import InputError


def test_odd_names_are_kept_verbatim(tmp_path: Path) -> None:
    source = atlas()
    source.var_names = ["<b>GENE</b>", "a;b", "x/y", 'q"uote', *source.var_names[4:]]
    adata, qc = prepare(source, tmp_path)
    assert list(adata.obs["cell_type"].cat.categories) == sorted(ODD_TYPES)
    assert [row["cell_type"] for row in qc["cell_types"]] == sorted(ODD_TYPES)
    write_atlas(adata, tmp_path / "atlas.h5ad")
    loaded = load_atlas(tmp_path / "atlas.h5ad")
    assert list(loaded.obs["cell_type"]) == list(source.obs["type"])
    assert list(loaded.var_names) == list(source.var_names)
    assert json.loads(loaded.uns["latentree"]["qc_json"]) == qc


def test_cells_without_a_type_and_small_types_are_dropped_counted_and_named(tmp_path: Path) -> None:
    source = atlas(types=["a", "b", "c"])
    labels = source.obs["type"].astype(object)
    labels.iloc[:4] = [np.nan, None, "", "   "]
    labels.iloc[4:8] = "rare <type>"
    labels.iloc[8:14] = "unknown"
    source.obs["type"] = pd.Categorical(
        labels, categories=["a", "b", "c", "rare <type>", "unknown", "", "   ", "unused"]
    )
    adata, qc = prepare(source, tmp_path, ignore_cell_types=["unknown", "not there"])
    assert adata.n_obs == 106
    assert qc["cells"] == {
        "n_found": 120,
        "dropped": {
            "no cell type": 4,
            "ignored cell type": 6,
            "cell type with fewer than 5 cells (min_cells_per_type)": 4,
        },
        "n_kept": 106,
    }
    assert qc["dropped_cell_types"] == [
        {"cell_type": "rare <type>", "n_cells": 4, "reason": "fewer than 5 cells"},
        {"cell_type": "unknown", "n_cells": 6, "reason": "in ignore_cell_types"},
    ]
    assert any("'not there'" in note for note in qc["notes"])
    assert list(adata.obs["cell_type"].cat.categories) == ["a", "b", "c"]
    assert list(adata.obs_names) == [f"cell {i}" for i in range(14, 120)]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([1, 2, 3], {"1", "2", "3"}),
        ([1.0, 2.0, np.nan], {"1", "2"}),
        ([True, False, True], {"True", "False"}),
        (pd.Categorical([10, 9, 10]), {"10", "9"}),
        (pd.Categorical(["x", None, "y"], categories=["y", "x", "z"]), {"x", "y"}),
        (pd.array(["x", pd.NA, "y"], dtype="string"), {"x", "y"}),
        (pd.array([1, None, 2], dtype="Int64"), {"1", "2"}),
        (["x", 2, "nan"], {"x", "2"}),
    ],
)
def test_every_kind_of_column_gives_labels(column: Any, expected: set[str]) -> None:
    column = pd.Series(column)
    labels = labels_of(column)
    assert set(labels) - {None} == expected
    assert [label is None for label in labels] == list(column.isna() | (column.astype(object) == "nan"))


@given(st.lists(st.text(), max_size=20))
def test_text_labels_stay_as_they_are(text: list[str]) -> None:
    labels = labels_of(pd.Series(text, dtype=object))
    for given_text, label in zip(text, labels, strict=True):
        assert label == given_text if label is not None else given_text.strip() in ("", "nan", "NaN", "<NA>")


def test_numbers_serve_as_cell_types(tmp_path: Path) -> None:
    source = atlas()
    source.obs["cluster"] = np.arange(120) % 11
    adata, _ = prepare(source, tmp_path, cell_type="cluster")
    assert set(adata.obs["cell_type"]) == {str(i) for i in range(11)}


def test_limits_hold_together_after_all_drops(tmp_path: Path) -> None:
    """A dropped gene makes a cell poor, whose drop makes a type small, whose drop makes a gene rare."""
    x = np.ones((20, 6), dtype=np.float32) * 2
    x[0:5] = 0
    x[0, 4], x[1:5, 5] = 3, 3  # cell 0 has only gene 4, which it alone expresses; cells 1-4 only gene 5
    x[5:, 4:] = 0
    source = atlas(sparse.csr_matrix(x), types=["filler"])
    source.obs["type"] = ["small"] * 5 + ["a"] * 8 + ["b"] * 7
    adata, qc = prepare(source, tmp_path, preprocess={"min_cells_per_gene": 2})
    assert adata.shape == (15, 4)
    assert qc["dropped_cell_types"] == [{"cell_type": "small", "n_cells": 4, "reason": "fewer than 5 cells"}]
    assert qc["cells"]["dropped"] == {
        "fewer than 1 genes (min_genes_per_cell)": 1,
        "cell type with fewer than 5 cells (min_cells_per_type)": 4,
    }
    assert (np.diff(adata.X.indptr) > 0).all()


def test_cells_with_few_genes_are_dropped(tmp_path: Path) -> None:
    n_expressed = np.diff(counts().indptr)
    least = int(np.median(n_expressed))
    adata, qc = prepare(atlas(), tmp_path, preprocess={"min_genes_per_cell": least})
    assert adata.n_obs == (n_expressed >= least).sum()
    assert qc["cells"]["dropped"] == {
        f"fewer than {least} genes (min_genes_per_cell)": (n_expressed < least).sum()
    }


@given(st.integers(0, 2**31 - 1), st.floats(0, 1), st.floats(0, 1))
def test_keeping_in_place_is_slicing(seed: int, share_of_cells: float, share_of_genes: float) -> None:
    rng = np.random.default_rng(seed)
    values = sparse.random(17, 13, density=0.3, format="csr", random_state=rng, dtype=np.float32)
    cells, genes = rng.random(17) < share_of_cells, rng.random(13) < share_of_genes
    expected = values[cells][:, genes].toarray()
    kept = keep_in_place(values, cells, genes)
    kept.check_format(full_check=True)
    np.testing.assert_array_equal(kept.toarray(), expected)


def test_repeated_gene_names_become_unique_with_a_warning(tmp_path: Path) -> None:
    source = atlas()
    source.var_names = ["A", "A", "A-1", "A", *source.var_names[4:]]
    with pytest.warns(UserWarning, match="2 gene names occur again"):
        adata, qc = prepare(source, tmp_path)
    assert adata.var_names.is_unique
    assert adata.var_names[0] == "A"
    assert qc["genes"]["n_repeated_names"] == 2
    assert any("2 gene names" in note for note in qc["notes"])


def test_symbols_are_found_for_ids_and_only_for_them() -> None:
    ids = [f"ENSMUSG{i:011d}.3" for i in range(3)]
    table = pd.DataFrame({"Gene_Symbol": ["Actb", None, ""], "feature_name": ids}, index=ids)
    found = gene_names(table, None, "x", "symbol_column")
    # feature_name comes first by its name, and yet holds ids
    assert list(found.names) == ["Actb", ids[1], ids[2]]
    assert list(found.ids) == ids
    assert (found.symbol_column, found.n_without_symbol) == ("Gene_Symbol", 2)
    symbols = table.set_axis(["ACTB", "B2M", "CD3E"], axis=0)
    assert list(gene_names(symbols, None, "x", "symbol_column").names) == ["ACTB", "B2M", "CD3E"]
    assert gene_names(symbols, "Gene_Symbol", "x", "symbol_column").names[0] == "Actb"
    numbers = table.set_axis(["0", "1", "2"], axis=0)
    assert gene_names(numbers, None, "x", "symbol_column").names[0] == "Actb"
    none = gene_names(table[["feature_name"]], None, "x", "symbol_column")
    assert (list(none.names), none.kind) == (ids, "Ensembl ids")


def test_genes_without_symbols_are_said(tmp_path: Path) -> None:
    source = atlas()
    source.var_names = [f"ENSG{i:011d}" for i in range(40)]
    _, qc = prepare(source, tmp_path)
    assert any("gene sets of symbols" in note for note in qc["notes"])


def test_tables_become_writable(tmp_path: Path) -> None:
    source = atlas()
    n = source.n_obs
    source.obs["mixed"] = [1, "two", None, 3.5] * (n // 4)
    source.obs["date"] = pd.date_range("2020-01-01", periods=n)
    source.obs["interval"] = pd.cut(np.arange(n), 3)
    source.obs["flag"] = [True, None, False, True] * (n // 4)
    source.obs["nullable"] = pd.array([1, None] * (n // 2), dtype="Int64")
    source.obs["a/b"] = "slash"
    source.obs["_index"] = "reserved"
    source.obs[7] = 7
    source.obs["unused"] = pd.Categorical(["x"] * n, categories=["x", "y"])
    source.obs["cell_type"] = "of the authors"
    source.obs["split"] = "theirs"
    source.obs.index.name = "type"
    source.var["mixed"] = [("a", 1)] * 40
    source.uns["anything"], source.obsm["X_pca"] = {1: object()}, np.ones((n, 2))
    adata = read_atlas(source, "type")
    write_atlas(adata, tmp_path / "atlas.h5ad")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_atlas(tmp_path / "atlas.h5ad")
    assert list(loaded.obs["mixed"].astype(object).fillna("?")[:4]) == ["1", "two", "?", "3.5"]
    assert loaded.obs["date"].iloc[1] == "2020-01-02 00:00:00"
    assert list(loaded.obs["flag"].astype(object).fillna("?")[:4]) == ["True", "?", "False", "True"]
    assert loaded.obs["nullable"].isna().sum() == n // 2
    assert {"a_b", "index", "7"} <= set(loaded.obs.columns)
    assert list(loaded.obs["unused"].cat.categories) == ["x"]
    assert set(loaded.obs["cell_type_found"]) == {"of the authors"}
    assert set(loaded.obs["split_found"]) == {"theirs"}
    assert list(loaded.obs["cell_type"]) == list(source.obs["type"])
    assert list(loaded.uns) == ["latentree"]
    assert not loaded.obsm


def test_clean_frame_keeps_the_first_of_equal_columns() -> None:
    frame = pd.DataFrame([[1, 2]], columns=["a", "a"], index=["x"])
    assert clean_frame(frame).to_dict() == {"a": {"x": 1}}


def test_views_and_backed_atlases_are_read(tmp_path: Path) -> None:
    source = atlas()
    view = read_atlas(source[10:110, 5:], "type")
    assert view.n_obs == 100
    source.write_h5ad(tmp_path / "a.h5ad")
    backed = read_atlas(anndata.read_h5ad(tmp_path / "a.h5ad", backed="r"), "type")
    assert abs(backed.X - read_atlas(source, "type").X).max() == 0


def test_what_the_other_stages_look_into(tmp_path: Path) -> None:
    adata, qc = prepare(atlas(), tmp_path, preprocess={"n_genes": 10, "gene_selection": "seurat"})
    x = modelled_matrix(adata)
    assert x.shape == (120, 10)
    np.testing.assert_array_equal(x.toarray(), adata.X.toarray()[:, adata.var["modelled"]])
    rows = [split_rows(adata, side) for side in ("train", "validation", "test")]
    assert sorted(np.concatenate(rows)) == list(range(120))
    assert [len(r) for r in rows] == [qc["split"]["n_cells"][s] for s in ("train", "validation", "test")]
    # plain AnnData: all genes, dense stays dense, and no split is an error
    plain = anndata.AnnData(np.array([[-1.0, 2.0]]))
    np.testing.assert_array_equal(modelled_matrix(plain), np.array([[-1, 2]], dtype=np.float32))
    with pytest.raises(InputError, match="no obs column 'split'"):
        split_rows(plain, "train")
    with pytest.raises(InputError, match="'tset'"):
        split_rows(adata, "tset")


def _without_cells(source: anndata.AnnData) -> anndata.AnnData:
    return source[:0].copy()


def _without_genes(source: anndata.AnnData) -> anndata.AnnData:
    return source[:, :0].copy()


def _with_value(value: float) -> Any:
    def change(source: anndata.AnnData) -> anndata.AnnData:
        source.X = log_values(source.X)
        source.X.data[:3] = value
        return source

    return change


def _with_repeated_cells(source: anndata.AnnData) -> anndata.AnnData:
    source.obs_names = ["twice", "twice", "thrice", "thrice", "thrice", *source.obs_names[5:]]
    return source


def _with_negative_layer(source: anndata.AnnData) -> anndata.AnnData:
    source.layers["scaled"] = source.X - 1.0 * (source.X > 0).astype(np.float32) * 1.5
    return source


def _with_zeros(source: anndata.AnnData) -> anndata.AnnData:
    source.X = source.X * 0
    return source


def _with_text(source: anndata.AnnData) -> anndata.AnnData:
    source.obs["text"] = "many"
    return source


@pytest.mark.parametrize(
    ("change", "settings", "words"),
    [
        (
            None,
            {"cell_type": "tpye"},
            ["atlases.tiny.cell_type", "'tpye'", "nearest: 'type'", "'donor'", "'score'"],
        ),
        (None, {"split_by": "patient"}, ["atlases.tiny.split_by", "'patient'", "'type', 'donor', 'score'"]),
        (None, {"library_size": "total"}, ["atlases.tiny.library_size", "'total'", "'score'"]),
        (_with_text, {"library_size": "text"}, ["library_size", "no number above 0"]),
        (None, {"symbol_column": "symbol"}, ["atlases.tiny.symbol_column", "no var column 'symbol'", "none"]),
        (None, {"matrix": "count"}, ["atlases.tiny.matrix", "no matrix 'count'", "'X'"]),
        (_with_negative_layer, {"matrix": "scaled"}, ["layers['scaled']", "negative values (smallest -0.5)"]),
        (None, {"ignore_cell_types": ODD_TYPES[1:]}, ["one cell type only", ODD_TYPES[0], "30 cells"]),
        (None, {"smallest": 31}, ["0 of 120 cells", "120 cells: cell type with fewer than 31 cells"]),
        (None, {"preprocess": {"min_genes_per_cell": 50}}, ["0 of 120 cells", "fewer than 50 genes"]),
        (None, {"preprocess": {"min_cells_per_gene": 500}}, ["0 of 40 genes", "fewer than 500 cells"]),
        (None, {"cell_type": "score"}, ["0 of 120 cells", "'score'"]),
        (_without_cells, {}, ["0 cells and 40 genes"]),
        (_without_genes, {}, ["120 cells and 0 genes"]),
        (_with_value(np.nan), {}, ["no usable matrix", "X has 3 NaN and 0 infinite values"]),
        (_with_value(np.inf), {"matrix": "X"}, ["X", "0 NaN and 3 infinite values"]),
        (_with_value(-1.0), {}, ["no usable matrix", "3 negative values (smallest -1)"]),
        (_with_zeros, {}, ["no usable matrix", "nothing but zeros"]),
        (_with_repeated_cells, {}, ["2 cell names", "3 cells too many", "'twice', 'thrice'"]),
    ],
)
def test_bad_input_is_told_in_one_message(
    change: Any, settings: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    source = atlas()
    source = source if change is None else change(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError) as caught:
            prepare(source, tmp_path, **settings)
        message = str(caught.value)
        for word in words:
            assert word in message
    if set(settings) <= {"cell_type", "split_by", "library_size", "symbol_column", "matrix"}:
        # the notebook's call says the same, naming its argument
        with pytest.raises(InputError) as caught:
            read_atlas(source, **{"cell_type": "type", **settings})
        assert "atlases." not in str(caught.value)


def test_neither_x_nor_layers_is_an_error() -> None:
    source = atlas()
    source.X = None
    with pytest.raises(InputError, match="neither X nor raw nor layers"):
        read_atlas(source, "type")


def test_read_atlas_checks_its_arguments() -> None:
    with pytest.raises(InputError, match="organism"):
        read_atlas(atlas(), "type", organism="martian")


def test_bad_values_elsewhere_do_no_harm(tmp_path: Path) -> None:
    source = atlas(log_values(counts()))
    source.X.data[0] = np.nan
    source.layers["other"] = counts()
    _, qc = prepare(source, tmp_path)
    assert qc["matrix"]["chosen"] == "layers['other']"
    assert any(note.startswith("X was not used: 1 NaN") for note in qc["notes"])
