"""The matrix with the counts is found and read whatever its format and place."""

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from atlas_fixture import ODD_TYPES, atlas, counts, log_values, prepare, prepare_file, write_old_file
from scipy import sparse

from latentree.atlas import load_atlas, read_atlas, write_atlas
from latentree.builtin_atlases import builtin_path
from latentree.errors import InputError


def _same(adata: anndata.AnnData, x: sparse.csr_matrix) -> None:
    assert sparse.isspmatrix_csr(adata.X)
    assert adata.X.dtype == np.float32
    assert adata.X.has_canonical_format
    np.testing.assert_allclose(adata.X.toarray(), log_values(x).toarray(), rtol=2e-6)
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), x.toarray())
    assert adata.layers["counts"].dtype == np.float32
    assert adata.uns["latentree"]["scale"] == "log1p_cp10k"


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x,
        lambda x: x.astype(np.int64).tocsc(),
        lambda x: x.tocsc(),
        lambda x: x.astype(np.float64),
        lambda x: x.astype(np.uint16),
        lambda x: x.toarray(),
        lambda x: x.toarray().astype(np.float64),
        lambda x: x.toarray().astype(np.int32),
        sparse.csr_array,
    ],
    ids=["csr", "csc-int64", "csc", "float64", "uint16", "dense", "dense-float64", "dense-int32", "array"],
)
def test_every_storage_gives_the_same_atlas(change: Callable[[Any], Any], tmp_path: Path) -> None:
    x = counts()
    source = atlas(change(x))
    adata, qc = prepare(source, tmp_path)
    _same(adata, x)
    assert qc["matrix"]["chosen"] == "X"
    # and from memory, where the source must stay as it is
    before = source.X.copy()
    again = read_atlas(source, "type")
    _same(again, x)
    assert type(source.X) is type(before)
    assert abs(source.X - before).sum() == 0
    pd.testing.assert_frame_equal(again.obs, adata.obs)


def test_blocks_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for matrix in (counts(), counts().tocsc(), counts().toarray()):
        monkeypatch.undo()
        source = atlas(matrix)
        options = {"preprocess": {"n_genes": 10, "min_cells_per_gene": 70}, "smallest": 5}
        whole, qc = prepare(source, tmp_path, **options)
        monkeypatch.setattr("latentree.atlas.stored.BLOCK", 7)
        monkeypatch.setattr("latentree.atlas.filtering.BLOCK", 7)
        parts, qc_of_parts = prepare(source, tmp_path, **options)
        assert whole.n_vars < 40
        assert abs(whole.X - parts.X).max() == 0
        assert qc == qc_of_parts


def test_duplicates_stored_zeros_and_disorder_in_sparse_matrices_are_mended(tmp_path: Path) -> None:
    x = counts()
    coo = x.tocoo()
    order = np.lexsort((-coo.col, coo.row))
    rows, cols, data = coo.row[order], coo.col[order], coo.data[order]
    halves = np.repeat(data, 2)
    halves[0::2], halves[1::2] = 1, halves[1::2] - 1  # each value as 1 and the rest, sometimes 0
    indptr = np.searchsorted(np.repeat(rows, 2), np.arange(x.shape[0] + 1))
    source = atlas(sparse.csr_matrix((halves, np.repeat(cols, 2), indptr), shape=x.shape))
    adata, _ = prepare(source, tmp_path)
    _same(adata, x)
    assert (adata.X.data > 0).all()


def test_counts_are_taken_from_raw_with_its_own_genes(tmp_path: Path) -> None:
    """A CELLxGENE file: Ensembl ids, symbols in feature_name, counts in raw, X normalised."""
    x = counts()
    source = atlas(x)
    source.var_names = [f"ENSG{i:011d}" for i in range(40)]
    source.var["feature_name"] = pd.Categorical([f"SYMBOL{i}" for i in range(40)])
    source.raw = source
    source = source[:, :30].copy()
    source.X = log_values(x)[:, :30]
    adata, qc = prepare(source, tmp_path)
    _same(adata, x)
    assert qc["matrix"]["chosen"] == "raw.X"
    assert list(adata.var_names[:2]) == ["SYMBOL0", "SYMBOL1"]
    assert adata.var["gene_id"].iloc[39] == "ENSG00000000039"
    assert qc["genes"]["symbol_column"] == "feature_name"
    # a raw without symbols of its own takes those of var; the ten genes that var lacks keep their ids
    bare = source.raw.to_adata()
    del bare.var["feature_name"]
    source.raw = bare
    adata, qc = prepare(source, tmp_path)
    assert list(adata.var_names[29:31]) == ["SYMBOL29", "ENSG00000000030"]
    assert qc["genes"]["n_without_symbol"] == 10


def test_layers_are_searched_by_name_then_by_values(tmp_path: Path) -> None:
    x = counts()
    source = atlas(log_values(x))
    source.layers["a_mask"] = (x > 0).astype(np.float32)
    source.layers["unspliced"] = counts(seed=1)
    source.layers["spliced"] = x
    adata, qc = prepare(source, tmp_path)
    assert qc["matrix"]["chosen"] == "layers['spliced']"
    _same(adata, x)
    source.layers["raw_counts"] = counts(seed=2)
    source.layers["log_counts"] = log_values(x)
    adata, qc = prepare(source, tmp_path)
    assert qc["matrix"]["chosen"] == "layers['raw_counts']"
    # two are looked at: the layer whose name says counts but whose values do not comes first
    assert [row["looks_like"] for row in qc["matrix"]["looked_at"]] == [
        "values as small as logarithms",
        "counts",
    ]


def test_an_atlas_without_x_is_read(tmp_path: Path) -> None:
    source = atlas(counts())
    source.layers["counts"] = source.X
    source.X = None
    adata, qc = prepare(source, tmp_path)
    assert qc["matrix"]["chosen"] == "layers['counts']"
    _same(adata, counts())


def test_the_matrix_that_is_named_is_taken(tmp_path: Path) -> None:
    source = atlas(counts())
    source.layers["other"] = counts(seed=1)
    source.layers["log"] = log_values(counts())
    adata, qc = prepare(source, tmp_path, matrix="other")
    _same(adata, counts(seed=1))
    adata, qc = prepare(source, tmp_path, matrix="log")
    assert qc["scale"]["x"] == "as_found"
    np.testing.assert_array_equal(adata.X.toarray(), source.layers["log"].toarray())
    assert "counts" not in adata.layers
    assert "library_size" not in adata.obs


@pytest.mark.filterwarnings("ignore")  # anndata's own about the old format
def test_the_log_values_of_the_builtin_atlas_are_taken_as_they_are() -> None:
    adata, qc = prepare_file("builtin:pbmc68k_reduced", cell_type="bulk_labels")
    assert adata.shape == (700, 765)
    assert qc["matrix"]["chosen"] == "raw.X"
    assert qc["scale"]["x"] == adata.uns["latentree"]["scale"] == "as_found"
    assert any("no counts" in note for note in qc["notes"])
    assert any("397164 negative values" in note for note in qc["notes"])
    assert "counts" not in adata.layers
    source = anndata.read_h5ad(builtin_path("pbmc68k_reduced"))
    np.testing.assert_array_equal(adata.X.toarray(), source.raw.X.toarray())
    assert list(adata.obs["cell_type"].astype(str)) == list(source.obs["bulk_labels"].astype(str))
    assert adata.obs["split"].value_counts().to_dict() == qc["split"]["n_cells"]


def test_values_that_are_neither_counts_nor_logarithms_are_brought_to_logarithms(tmp_path: Path) -> None:
    x = counts()
    per_million = sparse.csr_matrix(x.multiply(1e6 / x.sum(axis=1)))
    adata, qc = prepare(atlas(per_million), tmp_path)
    np.testing.assert_allclose(adata.X.toarray(), log_values(x).toarray(), rtol=1e-5)
    assert "counts" not in adata.layers
    assert qc["matrix"]["values"] == "normalised"
    assert any("too large for logarithms" in note for note in qc["notes"])
    # logarithms beside them are preferred
    source = atlas(per_million)
    source.layers["log"] = log_values(x)
    adata, qc = prepare(source, tmp_path)
    assert qc["matrix"]["chosen"] == "layers['log']"


def test_old_files_are_read(tmp_path: Path) -> None:
    x = counts()
    source = atlas(x, types=ODD_TYPES[:3])
    source.raw = source
    source.X = log_values(x)
    write_old_file(source, tmp_path / "old.h5ad")
    adata, qc = prepare_file(tmp_path / "old.h5ad")
    assert qc["matrix"]["chosen"] == "raw.X"
    _same(adata, x)
    assert list(adata.obs["cell_type"].cat.categories) == sorted(ODD_TYPES[:3])
    # anndata itself reads ASCII only here; that is no damage and should not be called so
    source = atlas(x)
    source.raw = source
    write_old_file(source, tmp_path / "old.h5ad")
    with pytest.raises(InputError, match=r"before 2020 that today's anndata cannot read \('ascii'"):
        prepare_file(tmp_path / "old.h5ad")


def test_library_size_is_the_sum_before_genes_are_dropped(tmp_path: Path) -> None:
    x = counts().tolil()
    x[:, 5] = 0
    x[3, 5] = 1000  # seen in one cell: dropped, and yet part of that cell's library
    x = x.tocsr()
    adata, qc = prepare(atlas(x), tmp_path)
    assert "GENE5" not in adata.var_names
    assert qc["genes"]["dropped"] == {"seen in fewer than 3 cells (min_cells_per_gene)": 1}
    np.testing.assert_array_equal(adata.obs["library_size"], np.asarray(x.sum(axis=1)).ravel())
    expected = np.delete(log_values(x).toarray(), 5, axis=1)
    np.testing.assert_allclose(adata.X.toarray(), expected, rtol=2e-6)


def test_library_size_from_a_column(tmp_path: Path) -> None:
    x = counts()
    source = atlas(x)
    source.obs["total"] = np.asarray(x.sum(axis=1)).ravel() * 3.0
    source.obs.loc["cell 7", "total"] = np.nan
    adata, qc = prepare(source, tmp_path, library_size="total")
    assert qc["cells"]["dropped"] == {"no library size": 1}
    kept = np.delete(np.arange(120), 7)
    expected = np.log1p(x.toarray()[kept] / source.obs["total"].to_numpy()[kept, None] * 1e4)
    np.testing.assert_allclose(adata.X.toarray(), expected, rtol=2e-6)
    assert qc["scale"]["library_size_from"] == "total"


def test_a_library_size_that_means_little_is_said(tmp_path: Path) -> None:
    source = atlas()
    source.obs["total"] = np.asarray(source.X.sum(axis=1)).ravel().astype(np.float64)
    _, qc = prepare(source, tmp_path, library_size="total")
    assert not any("total" in note for note in qc["notes"])
    source.obs.loc[source.obs_names[:9], "total"] -= 1
    _, qc = prepare(source, tmp_path, library_size="total")
    assert "In 9 cells total is smaller than the sum of the counts it should contain." in qc["notes"]
    _, qc = prepare(source, tmp_path)
    assert any("40 genes only; counts are per 10,000 of these" in note for note in qc["notes"])
    source.X = log_values(source.X)
    _, qc = prepare(source, tmp_path, library_size="total")
    assert "library_size (total) was not used: the values are logarithms already." in qc["notes"]


def test_the_same_input_gives_the_same_bytes_and_loads(tmp_path: Path) -> None:
    source = atlas(counts())
    for name in ("one", "two"):
        adata, _ = prepare(source, tmp_path, split_by="donor")
        write_atlas(adata, tmp_path / name / "atlas.h5ad")
    one, two = ((tmp_path / name / "atlas.h5ad").read_bytes() for name in ("one", "two"))
    assert one == two
    loaded = load_atlas(tmp_path / "one" / "atlas.h5ad")
    pd.testing.assert_frame_equal(loaded.obs, adata.obs)
    pd.testing.assert_frame_equal(loaded.var, adata.var)
    assert abs(loaded.X - adata.X).max() == 0
    assert loaded.uns["latentree"]["qc_json"] == adata.uns["latentree"]["qc_json"]


def test_read_atlas_gives_an_atlas_of_ours_back(tmp_path: Path) -> None:
    adata, _ = prepare(atlas(counts()), tmp_path, split_by="donor")
    write_atlas(adata, tmp_path / "atlas.h5ad")
    for source in (tmp_path / "atlas.h5ad", str(tmp_path / "atlas.h5ad"), adata):
        again = read_atlas(source, "cell_type")
        pd.testing.assert_frame_equal(again.obs, adata.obs)
        assert again is not adata
    # what is asked for beside that is done anew, from its counts
    anew = read_atlas(adata, "donor")
    assert set(anew.obs["cell_type"]) == {f"donor {i}" for i in range(6)}
    assert list(anew.obs["cell_type_found"]) == list(adata.obs["cell_type"])
    assert abs(anew.layers["counts"] - adata.layers["counts"]).max() == 0


def _random_bytes(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def _gzipped(path: Path) -> None:
    path.write_bytes(gzip.compress(b"x" * 100))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: path.write_text("cell,gene\n1,2\n"), "is not an h5ad file"),
        (lambda path: path.write_bytes(b""), "is not an h5ad file"),
        (_random_bytes, "is not an h5ad file"),
        (_gzipped, "gunzip"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: None, "no such file"),
    ],
    ids=["text", "empty", "random", "gzip", "folder", "missing"],
)
def test_what_is_not_an_h5ad_is_named(write: Callable[[Path], Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "atlas.h5ad"
    write(path)
    for call in (lambda: prepare_file(path), lambda: read_atlas(path, "cell_type"), lambda: load_atlas(path)):
        with pytest.raises(InputError) as caught:
            call()
        assert words in str(caught.value)
        assert str(path) in str(caught.value)


def test_other_hdf5_files_are_told_apart(tmp_path: Path) -> None:
    for group, words in (("matrix", "10x or loom"), ("mod", "MuData"), ("stuff", "not an h5ad")):
        path = tmp_path / f"{group}.h5"
        with h5py.File(path, "w") as file:
            file.create_group(group)
        with pytest.raises(InputError, match=words):
            prepare_file(path)


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_named_wherever_it_is_cut(
    share: float, compression: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "atlas.h5ad"
    atlas(counts()).write_h5ad(path, compression=compression)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match="truncated or damaged") as caught:
        prepare_file(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("dataset", ["X/data", "X/indptr", "obs/type/codes", "var/_index"])
def test_damage_inside_a_file_is_named(dataset: str, tmp_path: Path) -> None:
    path = tmp_path / "atlas.h5ad"
    atlas().write_h5ad(path, compression="gzip")
    with h5py.File(path, "r") as file:
        chunk = file[dataset].id.get_chunk_info(0)
    with open(path, "r+b") as stream:
        stream.seek(chunk.byte_offset)
        stream.write(b"\xff" * chunk.size)
    with pytest.raises(InputError, match="truncated or damaged") as caught:
        prepare_file(path)
    assert str(path) in str(caught.value)


def test_a_layer_that_leads_nowhere_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "atlas.h5ad"
    atlas().write_h5ad(path)
    with h5py.File(path, "a") as file:
        file["layers/counts"] = h5py.SoftLink("/nowhere")
    _, qc = prepare_file(path)
    assert qc["matrix"]["chosen"] == "X"
    assert "layers['counts'] was not used: no numbers." in qc["notes"]


def test_matrices_that_do_not_fit_their_tables_are_named(tmp_path: Path) -> None:
    path = tmp_path / "atlas.h5ad"
    atlas(counts()).write_h5ad(path)
    with h5py.File(path, "a") as file:
        file["X"].attrs["shape"] = [120, 39]
    with pytest.raises(InputError, match=r"X has shape \(120, 39\), its tables say \(120, 40\)"):
        prepare_file(path)
    with h5py.File(path, "a") as file:
        file["X"].attrs["shape"] = [120, 40]
        file["X/indices"][3] = 77
    with pytest.raises(InputError, match="damaged"):
        prepare_file(path)


def test_sha256_that_differs_shows_both(tmp_path: Path) -> None:
    atlas(counts()).write_h5ad(tmp_path / "a.h5ad")
    right = hashlib.sha256((tmp_path / "a.h5ad").read_bytes()).hexdigest()
    _, qc = prepare_file(tmp_path / "a.h5ad", sha256=right.upper())
    assert qc["sha256"] == right
    with pytest.raises(InputError) as caught:
        prepare_file(tmp_path / "a.h5ad", sha256="1" * 64)
    assert right in str(caught.value)
    assert "1" * 64 in str(caught.value)
    assert "atlases.tiny.sha256" in str(caught.value)


def test_an_unknown_builtin_names_those_known() -> None:
    with pytest.raises(InputError, match=r"no built-in atlas .*'pbmc68k_reduced'"):
        prepare_file("builtin:pbmc68k")


def test_an_address_has_to_be_downloaded_first(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Download it first"):
        prepare_file("https://example.org/a.h5ad", sha256="0" * 64)


def test_load_atlas_refuses_another_h5ad(tmp_path: Path) -> None:
    atlas(counts()).write_h5ad(tmp_path / "other.h5ad")
    with pytest.raises(InputError, match=r"lacks .*obs\['split'\]"):
        load_atlas(tmp_path / "other.h5ad")


@pytest.mark.parametrize("value", ["x", 2.5, 0, True])
def test_a_smallest_type_that_is_no_number_of_cells_is_named(value: Any) -> None:
    with pytest.raises(InputError, match=f"min_cells_per_type: {value!r} is no whole number >= 1"):
        read_atlas(atlas(counts()), "type", min_cells_per_type=value)
