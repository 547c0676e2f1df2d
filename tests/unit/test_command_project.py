"""latentree project on files, and the command line around the verbs."""

import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from api_fixture import example_atlas, example_counts, quick_fit
from scipy import sparse

from latentree.cli import main

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def atlas() -> ad.AnnData:
    return example_atlas()


@pytest.fixture(scope="module")
def fit_folder(atlas: ad.AnnData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fit")
    quick_fit(atlas, "pca").save(folder)
    return folder


def file_of(atlas: ad.AnnData, path: Path, **obs: object) -> str:
    """Counts in raw.X, logarithms in X, Ensembl ids as names: a file as CELLxGENE has them."""
    counts = sparse.csr_matrix(example_counts())
    var = pd.DataFrame(
        {"feature_name": list(atlas.var_names)}, index=[f"ENSG{i:011d}" for i in range(atlas.n_vars)]
    )
    adata = ad.AnnData(counts, pd.DataFrame(obs, index=atlas.obs_names), var)
    adata.raw = adata
    adata.X = adata.X.log1p()
    adata.write_h5ad(path)
    return str(path)


def test_a_file_is_read_as_the_atlas_stage_reads_it(
    atlas: ad.AnnData, fit_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new, out = file_of(atlas, tmp_path / "new.h5ad"), tmp_path / "out" / "o.h5ad"
    assert main(["project", str(fit_folder), new, str(out)]) == 0
    expected = quick_fit(atlas, "pca").latents
    np.testing.assert_allclose(ad.read_h5ad(out).obsm["X_pca"], expected, rtol=1e-3, atol=1e-3)
    said = capsys.readouterr()
    assert "genes: 25 of the fit's 25 matched" in said.out
    assert said.err == ""


def test_a_file_cut_to_few_genes_is_warned_of(
    atlas: ad.AnnData, fit_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    totals = np.asarray(example_counts().sum(axis=1), dtype=float)
    whole = ad.read_h5ad(file_of(atlas, tmp_path / "new.h5ad", my_total=totals))
    cut = ad.AnnData(whole.raw.X[:, :8], whole.obs, whole.var[:8])
    cut.write_h5ad(tmp_path / "cut.h5ad")
    command = ["project", str(fit_folder), str(tmp_path / "cut.h5ad"), str(tmp_path / "out.h5ad")]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "times what they were in the training cells" in said.err
    assert "8 of the fit's 25 matched" in said.out
    assert "missing, set to their training mean: 'GENE8'" in said.out
    assert main([*command, "--library-size", "my_total"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({0: "nofit"}, "is no saved fit"),
        ({1: "none.h5ad"}, "no such file"),
        ({2: "out.txt"}, "is no name of an .h5ad file"),
        ({2: "new.h5ad"}, "is the file of the cells itself"),
        ({1: "strange.h5ad"}, "strange.h5ad: adata.var_names: only 0 of the fit's 25 genes"),
    ],
)
def test_bad_input_writes_nothing(
    atlas: ad.AnnData,
    fit_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: dict[int, str],
    problem: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    file_of(atlas, tmp_path / "new.h5ad")
    ad.AnnData(np.ones((2, 2), dtype="f4"), var=pd.DataFrame(index=["A", "B"])).write_h5ad("strange.h5ad")
    before = sorted(path.name for path in tmp_path.iterdir())
    arguments = [str(fit_folder), "new.h5ad", "out.h5ad"]
    for place, value in change.items():
        arguments[place] = value
    assert main(["project", *arguments]) == 2
    assert problem in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_without_arguments_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    said = capsys.readouterr().out
    for verb in ("new", "check", "project", "verify", "exit codes"):
        assert verb in said


@pytest.mark.parametrize("verb", ["new", "check", "project", "verify", "record", "schema"])
def test_every_verb_has_examples_and_exit_codes(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"latentree {verb}" in said
    assert "examples:" in said
    assert "exit codes:" in said


def test_help_loads_nothing_heavy() -> None:
    heavy = "{'numpy', 'pandas', 'anndata', 'h5py', 'torch', 'pydantic', 'yaml', 'scanpy'}"
    code = (
        f"import sys; from latentree.cli import main; main([]); sys.exit(bool({heavy} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True)
    assert done.returncode == 0
