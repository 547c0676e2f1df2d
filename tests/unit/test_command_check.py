"""latentree check: ten mistakes in one go, and what a run takes."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from test_command_new import TYPES, cells

from latentree.cli import main
from latentree.commands.atlas_checks import AtlasFacts
from latentree.commands.check import ROOT, repeated_keys
from latentree.commands.estimates import estimate, job_counts, rules_memory
from latentree.config import load_config
from latentree.errors import InputError
from latentree.input_checks import beside, in_words, problems, usable_config

BAD = """
seed: [0, 1]
seeds: [0, 0]
atlases:
  good:
    path: a.h5ad
    cell_type: celltype
    batch: lot
    split_by: few
    gene_sets: [none.gmt, broken.gmt, ensembl.gmt]
  good:
    path: a.h5ad
    cell_type: celltype
    batch: lot
    split_by: few
    library_size: words
    gene_sets: [none.gmt, broken.gmt, ensembl.gmt]
  gone: { path: gone.h5ad, cell_type: cell_type }
models:
  pca: { n_factors: 500 }
  sparse_vea: {}
environments: { tree: { file: tree.tsv } }
tbr: { regulators: regulators.tsv, n_latents: 40 }
device: gpu
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("latentree.commands.check.planned_jobs", lambda *_: None)
    n = 120
    few, words = np.resize(["a", "b"], n), np.resize(["x", "y"], n)
    cells(n, cell_type=np.resize(TYPES, n), few=few, words=words).write_h5ad("a.h5ad")
    Path("broken.gmt").write_text("SET_A\tx\tGENE1\tGENE2\nonly one field\n")
    Path("ensembl.gmt").write_text("SET_B\tx\tENSG00000000001\tENSG00000000002\n")
    Path("good.gmt").write_text("SET_A\tx\tGENE1\tGENE2\n")
    Path("tree.tsv").write_text("node\tparent\nB cell\tnowhere\n")
    Path("regulators.tsv").write_text("tf\tgene\nA\tB\n")
    return tmp_path


def checked(config: str | dict, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    Path("my.yaml").write_text(config if isinstance(config, str) else yaml.safe_dump(config))
    code = main(["check", "my.yaml"])
    return code, capsys.readouterr().out


def test_all_planted_mistakes_are_found_in_one_go(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = checked(BAD, capsys)
    assert code == 2
    expected = [
        "key 'good' is there twice (line 11)",
        "unknown key 'seed' (nearest: 'seeds')",
        "unknown key 'models.sparse_vea' (nearest: 'sparse_vae')",
        "key 'device': input should be 'auto', 'cpu' or 'cuda' (got 'gpu')",
        "n_latents (40) is more than the 9 genes",
        "atlases.good.cell_type: a.h5ad has no obs column 'celltype' (nearest: 'cell_type')",
        "atlases.good.batch: a.h5ad has no obs column 'lot'",
        "'words' of a.h5ad holds no number above 0",
        "has 2 donor(s) ('a', 'b')",
        "no such file: none.gmt",
        "broken.gmt, line 2: has 1 field",
        "ensembl.gmt: holds Ensembl ids",
        "atlases.gone.path: no such file: gone.h5ad",
        "models.pca.n_factors: 500 factors are asked for, but there are 60 genes",
        "tree.tsv",
        "has columns 'tf', 'gene', but not tf and target",
    ]
    assert [text for text in expected if text not in said] == []
    lines = [line for line in said.splitlines() if line.startswith("problem: ")]
    assert f"{len(lines)} problems in my.yaml" in said
    assert "remark: seeds: 0 stands there more than once" in said
    assert "Traceback" not in said


def test_what_is_well_is_said_with_what_it_takes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {
        "atlases": {"a": {"path": "a.h5ad", "cell_type": "cell_type", "gene_sets": ["good.gmt"]}},
        "models": {"pca": {"n_factors": 5}},
    }
    code, said = checked(config, capsys)
    assert code == 0
    assert "120 cells x 60 genes (symbols); 3 cell types in 'cell_type', the smallest of 40 cells" in said
    for word in ("jobs: ", "time: about ", "memory: at most about ", "disk: about ", "all well"):
        assert word in said
    Path("results/a").mkdir(parents=True)
    assert "time: at most about " in checked(config, capsys)[1]


@pytest.mark.parametrize(
    ("atlas", "problem"),
    [
        ({"split_by": "few"}, "has 2 donor(s) ('a', 'b')"),
        ({"cell_type": "one"}, "one cell type only, 'same'"),
        ({"matrix": "counts"}, "has no matrix 'counts'"),
        ({"symbol_column": "name"}, "has no var column 'name'"),
        ({"batch": "each"}, "'each' has 120 different values in 120 cells"),
        ({"path": "text.h5ad"}, "is not an h5ad file"),
    ],
)
def test_an_atlas_is_looked_into(
    folder: Path, capsys: pytest.CaptureFixture[str], atlas: dict, problem: str
) -> None:
    Path("text.h5ad").write_text("no HDF5")
    n = 120
    columns = {"cell_type": np.resize(TYPES, n), "few": np.resize(["a", "b"], n), "one": ["same"] * n}
    cells(n, each=[f"x{i}" for i in range(n)], **columns).write_h5ad("a.h5ad")
    config = {
        "atlases": {"a": {"path": "a.h5ad", "cell_type": "cell_type", **atlas}},
        "models": {"pca": {}},
    }
    code, said = checked(config, capsys)
    assert code == 2
    assert problem in said
    assert said.splitlines()[-1].startswith("1 problem ")


@pytest.mark.parametrize(
    ("atlas", "models", "problem"),
    [
        ({"condition": "one"}, {}, "atlases.a.condition: a.h5ad: obs column 'one' has 1 values: 'same'"),
        ({"condition": "few", "reference": "c"}, {}, "reference: a.h5ad: 'c' is no value of 'few'"),
        (
            {"condition": "few", "sample": "each", "reference": "a"},
            {},
            "sample: a.h5ad: obs column 'each' has 120 values",
        ),
        ({"condition": "few", "sample": "each_"}, {}, "no obs column 'each_' (nearest: 'each')"),
        ({}, {"vae": {"batch": "lot"}}, "models.vae.batch: a.h5ad has no obs column 'lot'"),
        ({}, {"vae": {"batch": "gaps"}}, "models.vae.batch: 40 of 120 cells of a.h5ad have no gaps"),
        ({}, {"sparse_vae": {"batch": "each"}}, "sparse_vae.batch: 'each' has 120 different values"),
        ({}, {"dd_vae": {"prior": "clusters", "nu": 5}}, "only prior: student_t reads nu"),
        ({}, {"intel_vae": {"blocks": [4, 6]}}, "only mapping: hierarchy reads blocks"),
    ],
)
def test_conditions_and_models_are_looked_into(
    folder: Path, capsys: pytest.CaptureFixture[str], atlas: dict, models: dict, problem: str
) -> None:
    n = 120
    columns = {"cell_type": np.resize(TYPES, n), "few": np.resize(["a", "b"], n), "one": ["same"] * n}
    columns |= {"each": [f"x{i}" for i in range(n)], "gaps": np.resize(["a", None, "b"], n)}
    cells(n, **columns).write_h5ad("a.h5ad")
    config = {
        "atlases": {"a": {"path": "a.h5ad", "cell_type": "cell_type", **atlas}},
        "models": {"pca": {}, **models},
    }
    code, said = checked(config, capsys)
    assert code == 2
    assert problem in said
    assert said.splitlines()[-1].startswith("1 problem ")


def test_atlases_beside_a_bad_name_keep_theirs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    atlas = {"path": "a.h5ad", "cell_type": "cell_type", "condition": "few", "reference": "z", "sample": "no"}
    config = {
        "atlases": {"my atlas": {"path": ".", "cell_type": "x"}, "good": atlas},
        "models": {"pca": {}},
        "tbr": {"regulators": "list.txt"},
    }
    Path("list.txt").write_text("TP53\nMYC\n")
    code, said = checked(config, capsys)
    assert code == 2
    for problem in (
        "letters, digits, _ and - only, not 'my atlas'",
        "atlases.my_atlas.path: . is a folder, not a file",
        "atlases.good.sample: a.h5ad has no obs column 'no'",
        "atlases.good.reference: a.h5ad: 'z' is no value of 'few'",
        "none of the 2 regulators of list.txt ('TP53', 'MYC') is among the genes of a.h5ad",
    ):
        assert problem in said
    assert said.splitlines()[-1].startswith("5 problems ")


def test_an_atlas_of_a_package_is_looked_into(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    atlas = {"path": "builtin:pbmc68k_reduced", "cell_type": "bulk_label"}
    code, said = checked({"atlases": {"a": atlas}, "models": {"pca": {}}}, capsys)
    assert code == 2
    assert "has no obs column 'bulk_label' (nearest: 'bulk_labels')" in said


def test_what_is_dropped_and_what_has_no_test_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    n = 120
    types = np.array([None] * 5 + ["rare"] * 2 + ["unknown"] * 3 + list(np.resize(TYPES, 110)), dtype=object)
    batch = np.array([*np.resize(["x", "y"], 113), *[None] * 7], dtype=object)
    condition = np.resize(["ctrl", "stim", "stim"], n).astype(object)
    sample = np.where(condition == "ctrl", "c1", np.resize(["s1", "s2", "s3", "s4"], n))
    condition[20:24] = None
    cells(n, cell_type=types, batch=batch, condition=condition, sample=sample).write_h5ad("a.h5ad")
    atlas = {"path": "a.h5ad", "cell_type": "cell_type", "ignore_cell_types": ["unknown"], "batch": "batch"}
    atlas |= {"condition": "condition", "sample": "sample"}
    code, said = checked({"atlases": {"a": atlas}, "models": {"pca": {}}}, capsys)
    assert code == 0
    assert (
        "cells that will be dropped: 7 with no value in batch, 5 with no label in cell_type, 3 with an"
        " ignored label, 2 of types of fewer than 5 cells ('rare')"
    ) in said
    assert "4 cells have no condition or sample and are left out of the comparison" in said
    assert "'stim' compared with 'ctrl' without a test, because the reference has one sample only" in said


def test_what_is_legal_and_hardly_meant_is_remarked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells(cell_type=np.resize([*TYPES, "B  cell "], 120)).write_h5ad("a.h5ad")
    atlas = {"path": "a.h5ad", "cell_type": "cell_type", "ignore_cell_types": ["b cell"]}
    atlas |= {"condition": "cell_type", "batch": "cell_type", "gene_sets": ["good.gmt"]}
    code, said = checked({"atlases": {"a": atlas}, "models": {"pca": {}}}, capsys)
    assert code == 0
    for remark in (
        "labels that differ in blanks or case only are different cell types: 'B  cell ', 'B cell'",
        "ignore_cell_types: no cell has the label 'b cell' (nearest: 'B cell')",
        "every batch in cell_type is of one cell type: models that are told it lose what differs",
        "no cell type has cells of two values of cell_type: none can be compared",
        "conditions are compared without a test, because no column of samples is named",
        "good.gmt: no set has 5 of the genes (downstream.min_set_size): nothing is tested",
    ):
        assert f"  remark: {remark}" in said


def test_other_mistakes_than_those_above_are_found_too(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").touch()
    Path("empty.gmt").touch()
    Path("cut.h5ad").write_bytes(Path("a.h5ad").read_bytes()[:5000])
    n = 120
    cells(n, size=np.linspace(0, 1, n), cell_type=np.resize(TYPES, n)).write_h5ad("b.h5ad")
    atlases = {
        "a": {"path": "a.h5ad", "cell_type": "cell_type", "sha256": "0" * 64, "gene_sets": ["empty.gmt"]},
        "b": {"path": "b.h5ad", "cell_type": "size", "matrix": "raw"},
        "cut": {"path": "cut.h5ad", "cell_type": "cell_type"},
        "web": {"path": "https://example.org/a.h5ad", "cell_type": "cell_type"},
    }
    config = {
        "results": "file",
        "seeds": "0,1",
        "atlases": atlases,
        "preprocess": {"n_genes": "2,000"},
        "environments": {"magic": {"knn": 10, "knn_max": 5}},
        "models": {"pca": {"n_factors": "many"}, "dd_vae": {"prior": "clusters", "n_clusters": 50}},
        "tbr": {"phenotype": {"kind": "measured", "column": "cell_type"}},
        "downstream": {"min_set_size": 5, "max_set_size": 4},
    }
    code, said = checked(config, capsys)
    assert code == 2
    expected = [
        "config key results: file is a file, not a folder",
        "key 'seeds': should be a list, such as [a, b] (got '0,1')",
        "config key atlases.a.sha256: a.h5ad has sha256 ",
        "empty.gmt: holds no gene set",
        "obs column 'size' of b.h5ad holds measurements, such as '0', '0.008403361344537815'",
        "config key atlases.b.matrix: b.h5ad has no matrix 'raw'",
        "cut.h5ad: is a truncated or damaged h5ad",
        "key 'atlases.web': an http(s) address needs sha256",
        "key 'preprocess.n_genes': should be a whole number (got '2,000')",
        "knn_max (5) must not be below knn (10)",
        "n_factors': should be a number, a list of numbers, or auto (got 'many')",
        "50 clusters do not fit in 10 factors",
        "'cell_type' has 3 values that are no numbers",
        "min_set_size (5) is more than max_set_size (4)",
    ]
    assert [text for text in expected if text not in said] == []


def test_one_problem_stands_alone_and_several_in_a_list() -> None:
    one, two = InputError("a", "is wrong", "Mend it"), InputError("b", "is wrong", "Mend it")
    assert in_words([one]) == "a: is wrong. Mend it."
    assert in_words([one, two]) == "2 problems\n- a: is wrong. Mend it.\n- b: is wrong. Mend it."


_JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 3), st.text(max_size=3)),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
_KEYS = ["results", "seeds", "preprocess", "environments", "models", "tbr", "downstream", "device", "x"]


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(_KEYS), _JUNK, max_size=4), _JUNK)
def test_whatever_stands_in_a_config_its_atlas_is_looked_at(values: dict, junk: object) -> None:
    config = {
        "models": {"pca": None},
        **values,
        "atlases": {"a": {"path": "p", "cell_type": "c", "batch": junk}},
    }
    found, usable = usable_config(config)
    assert usable is not None
    assert (found == []) == _loads(config)
    assert any("no such file: p" in str(problem) for problem in problems(config, lambda file: file))


def test_a_misspelt_model_is_one_problem() -> None:
    config = {"atlases": {"a": {"path": "p", "cell_type": "c"}}, "models": {"sparsevae": {"n_factors": 3}}}
    (problem,), usable = usable_config(config)
    assert "(nearest: 'sparse_vae')" in str(problem)
    assert usable is not None


def _loads(config: dict) -> bool:
    try:
        load_config(config)
    except InputError:
        return False
    return True


def test_keys_that_stand_there_twice() -> None:
    text = "a: 1\nb:\n  c: {d: 1, d: 2}\n  e: &x {f: 1}\n  g: *x\na: 2\n"
    assert repeated_keys(text) == [("d", 3), ("a", 6)]
    assert repeated_keys("") == []


def test_estimates_grow_with_the_atlas_and_shrink_with_cores() -> None:
    config = load_config(
        {
            "atlases": {"a": {"path": "a", "cell_type": "c"}},
            "models": {"sparse_vae": {}, "vae": {}, "nmf": {}},
        }
    )

    def atlas(n_cells: int) -> dict[str, AtlasFacts]:
        return {"a": AtlasFacts(n_cells, 10, 20_000, 1000, n_cells * 1000, n_cells * 8000, True, "")}

    small, large = (estimate(config, atlas(n), None, ROOT) for n in (1_000, 1_000_000))
    assert large.cpu_seconds > 20 * small.cpu_seconds
    assert large.disk_mb > 100 * small.disk_mb
    assert large.minutes(8) < large.minutes(2)
    assert small.memory is not None
    assert large.memory is not None
    assert large.memory[1] > small.memory[1]
    assert rules_memory(ROOT)["denoise_cells"] == (2000, 60)
    assert {"prepare_atlas", "fit_torch_model", "score_fits"} <= rules_memory(ROOT).keys()


def test_snakemakes_table_of_jobs_is_read() -> None:
    lines = "Job stats:\njob  count\n---  ---\nfit_model  12\nall  1\ntotal  13\n\nother 3".splitlines()
    assert job_counts(lines) == {"fit_model": 12}
    assert job_counts(["Nothing to be done"]) == {}


def test_files_of_the_repository_are_found_from_any_folder(folder: Path) -> None:
    gmt = "resources/gene_sets/immune_programs.gmt"
    assert beside(ROOT)(gmt) == str(ROOT / gmt)
    assert beside(ROOT)("good.gmt") == "good.gmt"
