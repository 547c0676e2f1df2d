"""latentree new: what it guesses of an atlas, and that the config it writes is one."""

import time
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from anndata.io import write_elem
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from latentree.atlas import prepare_atlas
from latentree.atlas.sampling import sampled_atlas
from latentree.atlas.source import open_source
from latentree.atlas.values import choose_matrix
from latentree.cli import main
from latentree.commands.guesses import (
    columns_of,
    guess_batch,
    guess_cell_type,
    guess_condition,
    guess_reference,
    guess_sample,
    guess_split,
)
from latentree.commands.new import _yaml, atlas_name
from latentree.config import load_config
from latentree.input_checks import header_problems

TYPES = ["B cell", "CD4 T cell", "monocyte"]


def cells(n: int = 120, n_genes: int = 60, **columns: object) -> ad.AnnData:
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(columns or {"cell_type": np.resize(TYPES, n)}, index=[f"c{i}" for i in range(n)])
    counts = rng.poisson(1.0, (n, n_genes)).astype(np.float32)
    return ad.AnnData(
        sparse.csr_matrix(counts), obs, pd.DataFrame(index=[f"GENE{i}" for i in range(n_genes)])
    )


def written(adata: ad.AnnData, folder: Path, name: str = "a.h5ad") -> dict:
    """The atlas's part of the config that is written for it; the whole is one that loads."""
    adata.write_h5ad(folder / name)
    assert main(["new", str(folder / name), "--output", str(folder / "a.yaml")]) == 0
    values = yaml.safe_load((folder / "a.yaml").read_text())
    load_config(values)
    return next(iter(values["atlases"].values()))


def test_a_cellxgene_file(tmp_path: Path) -> None:
    n = 240
    donors = np.repeat([f"d{i}" for i in range(8)], n // 8)
    adata = cells(
        n,
        cell_type_ontology_term_id=np.resize(["CL:1", "CL:2", "CL:3", "CL:4"], n),
        cell_type=np.resize([*TYPES, "unknown"], n),
        disease=np.where(donors < "d4", "normal", "COVID-19"),
        donor_id=donors,
        assay=np.resize(["10x 3' v2"] * 5 + ["10x 3' v3"], n),
        organism=["Mus musculus"] * n,
        nCount_RNA=np.arange(n) + 100.0,
    )
    adata.var = pd.DataFrame(
        {"feature_name": adata.var_names.str.capitalize()}, index=[f"ENSMUSG{i:011d}" for i in range(60)]
    )
    adata.raw = adata
    adata.X = adata.X.log1p()
    found = written(adata, tmp_path)
    assert found["cell_type"] == "cell_type"
    assert found["ignore_cell_types"] == ["unknown"]
    assert (found["organism"], found["symbol_column"]) == ("mouse", "feature_name")
    assert (found["split_by"], found["batch"]) == ("donor_id", "assay")
    assert found["library_size"] == "nCount_RNA"
    text = (tmp_path / "a.yaml").read_text()
    assert "auto takes raw.X" in text
    assert "disease" in text
    assert "each of one disease" in text
    assert (found["condition"], found["reference"], found["sample"]) == ("disease", "normal", "donor_id")


@pytest.mark.parametrize("storage", ["csr", "csc", "dense", "log"])
def test_other_shapes_give_a_config_too(tmp_path: Path, storage: str) -> None:
    adata = cells(**{"Annotation: final # v2": np.resize(TYPES, 120)})
    adata.X = {
        "csr": adata.X,
        "csc": sparse.csc_matrix(adata.X),
        "dense": adata.X.toarray(),
        "log": adata.X.log1p(),
    }[storage]
    found = written(adata, tmp_path, "log dense, {1}.h5ad".replace("{1}", "1"))
    assert found["cell_type"] == "Annotation: final # v2"
    assert "library_size" not in found


def test_what_is_not_found_is_said_and_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells(cell_type=["B cell"] * 120, x=np.resize(["a", "b"], 120)).write_h5ad(tmp_path / "a.h5ad")
    config = tmp_path / "a.yaml"
    assert main(["new", str(tmp_path / "a.h5ad"), "--output", str(config)]) == 0
    said = capsys.readouterr().out
    assert "one value only: cell_type ('B cell'); latentree compares cell types" in said
    assert "cell_type was not found" in said
    assert main(["check", str(config)]) == 2
    assert "'atlases.a.cell_type' has no value" in capsys.readouterr().out


@pytest.mark.parametrize("columns", [{"x": np.linspace(0, 1, 120)}, {"cell_type": ["B cell"] * 120}])
def test_an_atlas_without_groups_of_cells_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], columns: dict
) -> None:
    cells(**columns).write_h5ad(tmp_path / "a.h5ad")
    assert main(["new", str(tmp_path / "a.h5ad"), "--output", str(tmp_path / "a.yaml")]) == 2
    assert "none of its 1 obs columns puts the cells into groups. Add" in capsys.readouterr().err
    assert not (tmp_path / "a.yaml").exists()


def test_counts_of_all_genes_are_taken_before_those_of_some(tmp_path: Path) -> None:
    adata = cells()
    some = adata[:, :20].copy()
    some.layers["counts"] = some.X.copy()
    some.raw = adata
    assert written(some, tmp_path)["matrix"] == "raw"
    (tmp_path / "a.yaml").unlink()
    adata.X = adata.X.log1p()
    some.raw = adata
    assert written(some, tmp_path)["matrix"] == "auto"


@pytest.mark.filterwarnings("ignore:Forward slashes")
def test_a_column_with_a_slash_is_found_by_either_name(tmp_path: Path) -> None:
    adata = cells(**{"Cell type/final": np.resize(TYPES, 120)})
    assert written(adata, tmp_path)["cell_type"] == "Cell type_final"
    sampled = sampled_atlas(tmp_path / "a.h5ad", "a")
    assert list(sampled.source.obs) == ["Cell type_final"]
    atlas = {"path": str(tmp_path / "a.h5ad"), "cell_type": "Cell type/final"}
    config = load_config({"atlases": {"a": atlas}, "models": {"pca": {}}})
    assert header_problems("a", config.atlases["a"], config, tmp_path / "a.h5ad") == []
    prepared, _ = prepare_atlas(config.atlases["a"], config.preprocess, 5)
    assert set(prepared.obs["cell_type"]) == set(TYPES)


def test_names_with_their_genome_tell_the_organism(tmp_path: Path) -> None:
    adata = cells()
    adata.var_names = [f"mm10_{name}" for name in adata.var_names]
    assert written(adata, tmp_path)["organism"] == "mouse"


def test_a_name_that_yaml_takes_for_a_number_is_one(tmp_path: Path) -> None:
    assert written(cells(), tmp_path, "2024.h5ad")["cell_type"] == "cell_type"
    assert yaml.safe_load((tmp_path / "a.yaml").read_text())["atlases"].keys() == {"2024"}


def test_no_file_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells().write_h5ad(tmp_path / "a.h5ad")
    (tmp_path / "a.yaml").write_text("mine")
    assert main(["new", str(tmp_path / "a.h5ad"), "--output", str(tmp_path / "a.yaml")]) == 2
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "a.yaml").read_text() == "mine"
    assert main(["new", str(tmp_path / "none.h5ad"), "--output", str(tmp_path / "b.yaml")]) == 2
    assert not (tmp_path / "b.yaml").exists()


def test_clusters_come_after_types_and_numbers_after_names() -> None:
    n = 90
    obs = cells(
        n, leiden=np.resize(["0", "1", "2"], n), label=np.resize(TYPES, n), cell_class=np.arange(n) % 3
    ).obs
    assert guess_cell_type(columns_of(obs)).value == "label"
    assert guess_cell_type(columns_of(obs[["leiden"]])).value == "leiden"
    by_contents = obs[["label"]].rename(columns={"label": "v2"})
    assert guess_cell_type(columns_of(by_contents)).value == "v2"
    named = guess_cell_type(columns_of(obs[["label"]].rename(columns={"label": "cluster"})))
    assert (named.value, "clusters or numbers" in named.why) == ("cluster", False)
    letters = cells(n, x=np.resize(["a", "b"], n)).obs
    assert guess_cell_type(columns_of(letters)).value is None


def test_batches_within_types_or_conditions_are_not_told_to_models() -> None:
    n = 120
    types, condition = np.resize(TYPES, n), np.repeat(["ctrl", "stim"], n // 2)
    obs = cells(n, cell_type=types, condition=condition, batch=np.char.add("b", types)).obs
    columns = columns_of(obs)
    by_name = {column.name: column for column in columns.groups}
    assert guess_condition(columns, []).value == "condition"
    guess = guess_batch(columns, [], by_name["cell_type"], by_name["condition"])
    assert guess.value is None
    assert "batch is within cell_type" in guess.why
    assert guess_batch(columns, [], None, by_name["condition"]).value == "batch"


def test_donors_seen_in_several_conditions_are_samples_to_pair() -> None:
    n = 240
    donor, condition = np.resize(list("abcd"), n), np.repeat(["stim", "ctrl"], n // 2)
    columns = columns_of(cells(n, donor=donor, condition=condition, sample=np.char.add(donor, condition)).obs)
    by_name = {column.name: column for column in columns.groups}
    guess = guess_sample(columns, [], by_name["condition"])
    assert guess.value == "donor"
    assert "4 of them with cells of several values of condition, to pair" in guess.why
    assert guess.others[0].startswith("sample (8 values")
    assert guess_sample(columns, ["donor"], by_name["condition"]).value == "sample"


@pytest.mark.parametrize(
    ("values", "reference"),
    [
        (["COVID-19", "normal"], "normal"),
        (["IFNb", "Ctrl_2h"], "Ctrl_2h"),
        (["T2D", "healthy donor", "T1D"], "healthy donor"),
        ([True, False], "False"),
        (["24h", "6h"], None),
        (["abnormal", "uncontrolled"], None),
    ],
)
def test_conditions_are_compared_with_the_control(values: list, reference: str | None) -> None:
    (column,) = columns_of(cells(condition=np.resize(values, 120)).obs).groups
    assert guess_reference(column).value == reference


def test_of_many_columns_some_are_shown() -> None:
    obs = cells(**{f"cluster_{i}": np.resize(["a", "b"], 120) for i in range(30)}).obs
    assert guess_cell_type(columns_of(obs)).others[7:] == (
        "cluster_8 (2 values, about 60 cells each)",
        "21 more",
    )


def test_few_donors_are_no_reason_to_split_by_them() -> None:
    n = 120
    columns = columns_of(cells(n, cell_type=np.resize(TYPES, n), donor=np.resize(list("abcd"), n)).obs)
    guess = guess_split(columns, [], columns.groups[0], (0.2, 0.1))
    assert guess.value is None
    assert guess.others[0].startswith("donor (4 values")


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.one_of(st.none(), st.integers(-3, 3), st.floats(), st.text(max_size=3)),
        min_size=1,
        max_size=30,
    )
)
def test_any_column_can_be_looked_at(values: list[object]) -> None:
    for column in columns_of(pd.DataFrame({"cell_type": pd.Series(values, dtype=object)})).groups:
        assert column.sizes.sum() == (column.codes >= 0).sum()
        assert column.lies_in(column)
        for value, code in zip(values, column.codes, strict=True):
            assert code < 0 or column.values[code] == str(value) or isinstance(value, float)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=12))
def test_any_file_name_makes_a_name_of_an_atlas(text: str) -> None:
    name = atlas_name(Path("/data") / f"{text.replace('/', '').replace(chr(0), '')}x.h5ad")
    load_config({"atlases": {name: {"path": "a", "cell_type": "b"}}, "models": {"pca": None}})


_NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@settings(max_examples=80, deadline=None)
@given(st.one_of(_NAMES, st.lists(_NAMES, max_size=3)))
def test_any_value_stands_on_one_line_of_yaml(value: object) -> None:
    line = _yaml(value)
    assert len(line.splitlines()) == 1
    assert yaml.safe_load(f"a:\n  b: {line}\n  c: 1\n") == {"a": {"b": value, "c": 1}}


def test_the_sample_of_a_small_file_decides_as_the_whole(tmp_path: Path) -> None:
    adata = cells()
    adata.layers["counts"] = adata.X.copy()
    adata.X = adata.X.log1p()
    adata.write_h5ad(tmp_path / "a.h5ad")
    with open_source(tmp_path / "a.h5ad", "a") as opened:
        whole = choose_matrix(opened.candidates, "auto", "a", str)
        sample = sampled_atlas(tmp_path / "a.h5ad", "a")
        assert choose_matrix(sample.source.candidates, "auto", "a", str).seen == whole.seen
    rows, sums = sample.sums["layers['counts']"]
    np.testing.assert_allclose(sums, np.asarray(adata.layers["counts"].sum(axis=1)).ravel()[rows])


def test_a_large_file_is_looked_at_in_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """12 GB in a file that takes no space: its values are nowhere but at its beginning."""
    n, n_genes, n_stored = 50_000, 30_000, 1_500_000_000
    with h5py.File(tmp_path / "big.h5ad", "w") as file:
        write_elem(file, "obs", pd.DataFrame({"cell_type": pd.Categorical(np.resize(TYPES, n))},
                                             index=[f"c{i}" for i in range(n)]))  # fmt: skip
        write_elem(file, "var", pd.DataFrame(index=[f"GENE{i}" for i in range(n_genes)]))
        x = file.create_group("X")
        x.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": [n, n_genes]})
        x.create_dataset("data", (n_stored,), dtype="f4")[:1000] = np.arange(1, 1001)
        x.create_dataset("indices", (n_stored,), dtype="i4")
        x.create_dataset("indptr", data=np.linspace(0, n_stored, n + 1).astype(np.int64))
    monkeypatch.setattr("latentree.commands.check.planned_jobs", lambda *_: None)
    before = time.process_time()
    assert main(["new", str(tmp_path / "big.h5ad"), "--output", str(tmp_path / "big.yaml")]) == 0
    assert main(["check", str(tmp_path / "big.yaml")]) == 0
    assert time.process_time() - before < 5
