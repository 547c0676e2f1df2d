"""fit, save, load: the contract of factors.h5ad, bits, files, the package."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from api_fixture import MODELS, N_CELLS, N_FACTORS, QUICK, example_atlas, quick_fit
from scipy import sparse

import latentree as lt
from latentree.errors import InputError
from latentree.files import sha256_of
from latentree.models.scaling import row_chunks

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def atlas() -> ad.AnnData:
    return example_atlas()


@pytest.fixture(scope="module", params=MODELS)
def fitted(request: pytest.FixtureRequest, atlas: ad.AnnData) -> lt.Fit:
    return quick_fit(atlas, request.param)


# the contract


def test_factors_keep_the_contract(fitted: lt.Fit, atlas: ad.AnnData) -> None:
    factors, model = fitted.factors, fitted.model.name
    assert list(factors.obs_names) == list(atlas.obs_names)
    assert list(factors.obs.columns) == ["cell_type", "split"]
    assert list(factors.var_names) == list(atlas.var_names[:25])
    assert factors.X is None
    latents, loadings = factors.obsm[f"X_{model}"], factors.varm[f"{model}_loadings"]
    assert latents.shape == (N_CELLS, N_FACTORS)
    assert loadings.shape == (25, N_FACTORS)
    assert latents.dtype == loadings.dtype == np.float32
    assert (f"{model}_inclusion" in factors.varm) == (model == "sparse_vae")
    facts = factors.uns["latentree"]
    assert {"model", "settings_json", "seed", "versions_json", "atlas_sha256", "factors"} <= set(facts)
    assert facts["model"] == model
    assert len(facts["atlas_sha256"]) == 64
    assert set(json.loads(facts["versions_json"])) >= {
        "latentree",
        "torch",
        "numpy",
        "scikit-learn",
        "python",
    }
    table = facts["factors"]
    assert list(table["factor"]) == ["f1", "f2", "f3"]
    assert list(table["n_active_genes"]) == list((loadings != 0).sum(axis=0))


def test_factors_are_ordered_and_their_largest_loading_is_positive(fitted: lt.Fit) -> None:
    table = fitted.factors.uns["latentree"]["factors"]
    assert (np.diff(table["variance_share"]) <= 0).all()
    loadings = fitted.loadings.to_numpy()
    largest = loadings[np.abs(loadings).argmax(axis=0), range(N_FACTORS)]
    assert (largest[np.asarray(table["alive"])] > 0).all()
    if fitted.model.name == "nmf":
        assert not table["flipped"].any()
        assert fitted.latents.min() >= 0


def test_a_flipped_factor_is_the_models_own_with_the_other_sign(fitted: lt.Fit, atlas: ad.AnnData) -> None:
    own = fitted.model.transform(atlas[:, :25].X)
    np.testing.assert_array_equal(fitted.arrangement.undo(fitted.latents), own)
    signs = np.where(fitted.factors.uns["latentree"]["factors"]["flipped"], -1, 1)
    np.testing.assert_array_equal(fitted.latents, own[:, fitted.arrangement.order] * signs)


def test_shares_of_variance_of_pca_are_scikit_learns(atlas: ad.AnnData) -> None:
    from sklearn.decomposition import PCA

    fit = quick_fit(atlas, "pca")
    x = atlas[atlas.obs["split"] == "train", :25].X.toarray().astype(np.float64)
    expected = PCA(N_FACTORS).fit(x).explained_variance_ratio_
    shares = fit.factors.uns["latentree"]["factors"]["variance_share"]
    np.testing.assert_allclose(shares, expected, rtol=1e-3)


def test_held_out_r2_is_that_of_the_reconstruction(fitted: lt.Fit, atlas: ad.AnnData) -> None:
    x = atlas[:, :25].X.toarray().astype(np.float64)
    split = atlas.obs["split"].to_numpy()
    mean, sd = x[split == "train"].mean(axis=0), x[split == "train"].std(axis=0)
    given_back = fitted.model.reconstruct(fitted.arrangement.undo(fitted.latents))
    for name in ("train", "validation", "test"):
        rows = split == name
        for key, unit in (("r2", 1.0), ("r2_scaled", sd)):
            error = (((x - given_back) / unit)[rows] ** 2).sum()
            total = (((x - mean) / unit)[rows] ** 2).sum()
            assert fitted.summary[key][name] == pytest.approx(1 - error / total, abs=1e-5)
    assert fitted.summary["n_cells"] == {
        name: (split == name).sum() for name in ("train", "validation", "test")
    }


def test_test_cells_are_never_trained_on(atlas: ad.AnnData) -> None:
    altered = atlas.copy()
    test_cells = np.flatnonzero(altered.obs["split"] == "test")
    altered.X[test_cells] = 0 * altered.X[test_cells]
    altered.X.eliminate_zeros()
    for model in MODELS:
        a, b = quick_fit(atlas, model), quick_fit(altered, model)
        for name, value in a.model.state().items():
            np.testing.assert_array_equal(value, b.model.state()[name], err_msg=f"{model} {name}")


def test_history_has_a_row_per_epoch_and_matrix_models_have_none(fitted: lt.Fit) -> None:
    columns = {"epoch", "loss", "validation_loss", "learning_rate", "cpu_seconds", "wall_seconds"}
    assert columns <= set(fitted.history)
    n_epochs = 6 if fitted.model.name in QUICK else 0
    assert list(fitted.history["epoch"]) == list(range(1, n_epochs + 1))
    assert fitted.summary["n_epochs"] == n_epochs


def test_without_split_a_tenth_validates_and_without_modelled_all_genes_count() -> None:
    rng = np.random.default_rng(0)
    adata = ad.AnnData(rng.normal(size=(80, 9)).astype(np.float32))  # negative values are fine
    fit = quick_fit(adata, "vae", 2)
    assert fit.factors.obs["split"].value_counts().to_dict() == {"train": 72, "validation": 8}
    assert fit.factors.n_vars == 9
    assert fit.summary["scale"] == "as_given"
    assert fit.history["validation_loss"].notna().all()
    again = lt.fit(adata, "vae", 2, seed=1, settings=QUICK["vae"], progress=False)
    assert list(again.factors.obs["split"]) != list(fit.factors.obs["split"])


@pytest.mark.parametrize("form", [sparse.csc_matrix, sparse.csr_array, np.asarray, np.float64])
def test_any_form_of_matrix_gives_the_same_factors(atlas: ad.AnnData, form: object) -> None:
    other = atlas.copy()
    dense = atlas.X.toarray()
    other.X = dense.astype(np.float64) if form is np.float64 else form(dense)  # type: ignore[operator]
    expected = quick_fit(atlas, "pca")
    np.testing.assert_allclose(quick_fit(other, "pca").latents, expected.latents, rtol=1e-3, atol=1e-4)


def test_backed_atlas_is_fitted_and_projected(atlas: ad.AnnData, tmp_path: Path) -> None:
    atlas.write_h5ad(tmp_path / "atlas.h5ad")
    backed = ad.read_h5ad(tmp_path / "atlas.h5ad", backed="r")
    fit = quick_fit(backed, "pca")
    np.testing.assert_array_equal(fit.latents, quick_fit(atlas, "pca").latents)
    np.testing.assert_array_equal(lt.project(fit, backed).obsm["X_pca"], fit.latents)


# files


def test_saved_fit_comes_back_without_the_data(fitted: lt.Fit, atlas: ad.AnnData, tmp_path: Path) -> None:
    fitted.save(tmp_path / "fit")
    files = {"factors.h5ad", "model.safetensors", "fit.json", "history.tsv"}
    assert {file.name for file in (tmp_path / "fit").iterdir()} == files
    again = lt.load(tmp_path / "fit")
    np.testing.assert_array_equal(again.latents, fitted.latents)
    pd.testing.assert_frame_equal(again.loadings, fitted.loadings)
    assert again.summary == json.loads(json.dumps(fitted.summary))
    pd.testing.assert_frame_equal(again.history, fitted.history, check_dtype=False, rtol=1e-8)
    projected = lt.project(again, atlas)
    np.testing.assert_array_equal(projected.obsm[f"X_{fitted.model.name}"], fitted.latents)


def test_same_seed_writes_the_same_bytes(atlas: ad.AnnData, tmp_path: Path) -> None:
    for model in MODELS:
        for run in ("a", "b"):
            quick_fit(atlas, model).save(tmp_path / model / run)
        for name in ("factors.h5ad", "model.safetensors"):
            a, b = (sha256_of(tmp_path / model / run / name) for run in ("a", "b"))
            assert a == b, f"{model} {name}"


KILLED = """
import os, signal, sys
sys.path[:0] = [{scripts!r}, {tests!r}]
import latentree as lt
from latentree import training
from api_fixture import example_atlas

epoch_of = training._Loop._epoch
def dies_in_the_middle(self, done):
    if done == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    return epoch_of(self, done)
training._Loop._epoch = dies_in_the_middle
lt.fit(example_atlas(), "sparse_vae", 3, settings={settings}, checkpoint={folder!r}, progress=False)
"""


def test_killed_and_resumed_fit_writes_the_same_bytes(
    atlas: ad.AnnData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "checkpoint"
    settings = {"max_epochs": 26}
    script = KILLED.format(
        scripts=str(ROOT / "scripts"),
        tests=str(Path(__file__).parent),
        folder=str(folder),
        settings=settings,
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    # how often a fit is saved does not make it another fit
    more_often = {**settings, "checkpoint_every": 1}
    left = shutil.copytree(folder, tmp_path / "left")
    again = lt.fit(atlas, "sparse_vae", 3, settings=more_often, checkpoint=left, progress=False)
    assert again.summary["resumed_from_epoch"] == 12
    resumed = lt.fit(atlas, "sparse_vae", 3, settings=settings, checkpoint=folder, progress=False)
    # a tenth of 26 epochs is 2
    assert resumed.summary["resumed_from_epoch"] == 12
    assert "resuming from epoch 12 of 26" in caplog.text
    undisturbed = lt.fit(atlas, "sparse_vae", 3, settings=settings, progress=False)
    resumed.save(tmp_path / "a")
    undisturbed.save(tmp_path / "b")
    for name in ("factors.h5ad", "model.safetensors"):
        assert sha256_of(tmp_path / "a" / name) == sha256_of(tmp_path / "b" / name), name
    assert not folder.exists()


def test_a_fit_that_was_stopped_before_it_was_saved_is_not_fitted_again(
    atlas: ad.AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(*_: object) -> None:
        raise KeyboardInterrupt

    settings = {**QUICK["vae"], "checkpoint_every": 2}
    folder = tmp_path / "checkpoint"
    first = lt.fit(atlas, "vae", 3, settings=settings, checkpoint=folder, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr("latentree.fitted.write_json", stops)
        with pytest.raises(KeyboardInterrupt):
            first.save(tmp_path / "fit")
    again = lt.fit(atlas, "vae", 3, settings=settings, checkpoint=folder, progress=False)
    assert again.summary["resumed_from_epoch"] == 6
    np.testing.assert_array_equal(again.latents, first.latents)
    again.save(tmp_path / "fit")
    assert not folder.exists()
    again.save(tmp_path / "fit")


def test_a_checkpoint_of_other_code_is_not_used(
    atlas: ad.AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "scripts" / "latentree"
    shutil.copytree(ROOT / "scripts" / "latentree", library, ignore=shutil.ignore_patterns("__pycache__"))
    # the code that is hashed lies beside the module that fits
    monkeypatch.setattr("latentree.api.__file__", str(library / "api.py"))
    settings = {**QUICK["vae"], "checkpoint_every": 2}
    resumed = []
    for module in (None, "report/page.py", "seeds.py"):
        if module is not None:
            (library / module).write_text((library / module).read_text() + "\n# changed\n")
        folder = tmp_path / "checkpoint"
        fit = lt.fit(atlas, "vae", 3, settings=settings, checkpoint=folder, progress=False)
        resumed.append(fit.summary["resumed_from_epoch"])
    assert resumed == [None, 6, None]


@pytest.mark.parametrize(
    ("content", "lacking"),
    [
        ("{}", "'model', 'n_factors', 'resolved'"),
        ("[]", "'model', 'n_factors', 'resolved'"),
        ('{"model": "pca", "n_factors": "3", "resolved": {}}', "'n_factors'"),
    ],
)
def test_a_summary_that_lacks_what_load_needs_is_named(
    atlas: ad.AnnData, tmp_path: Path, content: str, lacking: str
) -> None:
    quick_fit(atlas, "pca").save(tmp_path)
    (tmp_path / "fit.json").write_text(content)
    with pytest.raises(InputError, match=f"fit.json: says nothing usable about {lacking},"):
        lt.load(tmp_path)


def test_a_model_file_without_the_models_arrays_is_named(atlas: ad.AnnData, tmp_path: Path) -> None:
    quick_fit(atlas, "pca").save(tmp_path / "pca")
    quick_fit(atlas, "nmf").save(tmp_path / "nmf")
    (tmp_path / "nmf" / "model.safetensors").replace(tmp_path / "pca" / "model.safetensors")
    with pytest.raises(InputError, match=f"{tmp_path / 'pca'}: a file is damaged .'axes'"):
        lt.load(tmp_path / "pca")


@pytest.mark.parametrize("name", ["factors.h5ad", "model.safetensors", "fit.json", "history.tsv"])
def test_incomplete_or_damaged_fit_is_named(atlas: ad.AnnData, tmp_path: Path, name: str) -> None:
    quick_fit(atlas, "pca").save(tmp_path / "fit")
    file = tmp_path / "fit" / name
    content = file.read_bytes()
    if name != "history.tsv":
        file.write_bytes(content[: len(content) // 2])
        with pytest.raises(InputError, match=str(tmp_path / "fit")):
            lt.load(tmp_path / "fit")
    file.unlink()
    with pytest.raises(InputError, match=f"has no {name}"):
        lt.load(tmp_path / "fit")


# the package


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = "import sys, latentree; print([m for m in ('numpy', 'torch', 'anndata') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT / "scripts")},
    )
    assert done.stdout.strip() == "[]"


def test_public_names_are_there_and_others_are_not() -> None:
    assert {"fit", "load", "project", "read_atlas", "Tree", "fit_tbr", "metrics", "simulate"} <= set(dir(lt))
    for name in lt.__all__:
        assert getattr(lt, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = lt.fitt


def test_a_fit_in_chunks_is_the_fit_at_once(atlas: ad.AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = quick_fit(atlas, "pca")
    monkeypatch.setattr("latentree.models.scaling.CHUNK_VALUES", 25 * 11)
    assert len(list(row_chunks(N_CELLS, 25))) > 10
    chunked = quick_fit(atlas, "pca")
    np.testing.assert_allclose(chunked.latents, whole.latents, rtol=1e-4, atol=1e-5)
    assert chunked.summary["r2"] == pytest.approx(whole.summary["r2"], rel=1e-5)
