"""fit, save, load, project: the contract of factors.h5ad, bits, other cells, bad input."""

import json
import logging
import signal
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import latentree as lt
from latentree.errors import InputError
from latentree.files import sha256_of
from latentree.models.base import row_chunks

ROOT = Path(__file__).resolve().parents[2]
N_CELLS, N_GENES, N_FACTORS = 150, 30, 3
MODELS = ["pca", "ica", "nmf", "vae", "sparse_vae"]
QUICK = {"vae": {"max_epochs": 6, "hidden": 10}, "sparse_vae": {"max_epochs": 6}}


def example_counts(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    means = rng.gamma(1, 1, (N_CELLS, N_FACTORS)) @ rng.gamma(0.5, 2, (N_FACTORS, N_GENES))
    counts = rng.poisson(means).astype(np.float32)
    counts[:, 0] += 1  # no cell is empty
    return counts


def example_atlas() -> ad.AnnData:
    """As atlas.h5ad: log1p of counts per 10k, split, modelled genes."""
    counts = example_counts()
    library = counts.sum(axis=1, keepdims=True)
    rng = np.random.default_rng(5)
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(rng.choice(["CD4+/CD25 T Reg", "a;b", "<i>"], N_CELLS)),
            "split": pd.Categorical(np.resize(["train"] * 7 + ["validation"] + ["test"] * 2, N_CELLS)),
            "library_size": library[:, 0].astype(np.float64),
            "donor": "d1",
        },
        index=[f"cell{i}" for i in range(N_CELLS)],
    )
    var = pd.DataFrame({"modelled": np.arange(N_GENES) < 25}, index=[f"GENE{i}" for i in range(N_GENES)])
    adata = ad.AnnData(sparse.csr_matrix(np.log1p(counts / library * 1e4), dtype=np.float32), obs, var)
    adata.layers["counts"] = sparse.csr_matrix(counts)
    adata.uns["latentree"] = {"scale": "log1p_cp10k", "organism": "human", "qc_json": "{}"}
    return adata


def quick_fit(adata: ad.AnnData, model: str, n_factors: int = N_FACTORS, **more: object) -> lt.Fit:
    return lt.fit(adata, model, n_factors, settings=QUICK.get(model), progress=False, **more)  # type: ignore[arg-type]


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
from test_api import QUICK, example_atlas

save = training.Checkpoints.save
def save_then_die(*arguments):
    save(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
training.Checkpoints.save = save_then_die
settings = dict(QUICK["sparse_vae"], checkpoint_every=2)
lt.fit(example_atlas(), "sparse_vae", 3, settings=settings, checkpoint={folder!r}, progress=False)
"""


def test_killed_and_resumed_fit_writes_the_same_bytes(
    atlas: ad.AnnData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "checkpoint"
    script = KILLED.format(
        scripts=str(ROOT / "scripts"), tests=str(Path(__file__).parent), folder=str(folder)
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    settings = {**QUICK["sparse_vae"], "checkpoint_every": 2}
    resumed = lt.fit(atlas, "sparse_vae", 3, settings=settings, checkpoint=folder, progress=False)
    assert resumed.summary["resumed_from_epoch"] == 2
    assert "resuming from epoch 2 of 6" in caplog.text
    undisturbed = lt.fit(atlas, "sparse_vae", 3, settings=settings, progress=False)
    resumed.save(tmp_path / "a")
    undisturbed.save(tmp_path / "b")
    for name in ("factors.h5ad", "model.safetensors"):
        assert sha256_of(tmp_path / "a" / name) == sha256_of(tmp_path / "b" / name), name
    assert not folder.exists()


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


# other cells


def test_projection_follows_gene_names_not_places(fitted: lt.Fit, atlas: ad.AnnData) -> None:
    shuffled = atlas[::-1, np.random.default_rng(0).permutation(N_GENES)].copy()
    projected = lt.project(fitted, shuffled)
    assert list(projected.var_names) == list(fitted.factors.var_names)
    assert list(projected.obs["donor"]) == ["d1"] * N_CELLS
    np.testing.assert_allclose(
        projected.obsm[f"X_{fitted.model.name}"], fitted.latents[::-1], rtol=1e-4, atol=1e-5
    )
    assert projected.uns["latentree"]["projection"]["n_genes_missing"] == 0


def test_missing_genes_stand_at_their_training_mean_and_are_counted(
    fitted: lt.Fit, atlas: ad.AnnData, caplog: pytest.LogCaptureFixture
) -> None:
    fewer = atlas[:, [0, 1, 2, 3, *range(6, N_GENES)]].copy()
    projected = lt.project(fitted, fewer)
    facts = projected.uns["latentree"]["projection"]
    assert (facts["n_genes_matched"], facts["n_genes_missing"]) == (23, 2)
    assert list(facts["missing_genes"]) == ["GENE4", "GENE5"]
    said = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "2 of the fit's 25 genes are missing" in said[0].message
    assert "'GENE4', 'GENE5'" in said[0].message

    filled = atlas[:, :25].copy()
    dense = filled.X.toarray()
    train = (atlas.obs["split"] == "train").to_numpy()
    dense[:, 4:6] = dense[train, 4:6].mean(axis=0)
    filled.X = dense
    expected = lt.project(fitted, filled).obsm[f"X_{fitted.model.name}"]
    np.testing.assert_allclose(projected.obsm[f"X_{fitted.model.name}"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("is_sparse", [True, False])
@pytest.mark.parametrize("has_library", [True, False])
def test_raw_counts_are_normalised_like_the_fits(
    atlas: ad.AnnData, is_sparse: bool, has_library: bool
) -> None:
    fit = quick_fit(atlas, "pca")
    counts = example_counts()
    raw = ad.AnnData(sparse.csr_matrix(counts) if is_sparse else counts, var=atlas.var[[]].copy())
    if has_library:
        raw.obs["library_size"] = atlas.obs["library_size"].to_numpy()
    np.testing.assert_allclose(lt.project(fit, raw).obsm["X_pca"], fit.latents, rtol=1e-3, atol=1e-3)


def test_projection_can_be_written(atlas: ad.AnnData, tmp_path: Path) -> None:
    fit = quick_fit(atlas, "pca")
    for cells in (atlas, atlas[:, 3:].copy()):
        lt.project(fit, cells).write_h5ad(tmp_path / "projected.h5ad")
        again = ad.read_h5ad(tmp_path / "projected.h5ad")
        n_missing = again.uns["latentree"]["projection"]["n_genes_missing"]
        assert n_missing == len(again.uns["latentree"]["projection"]["missing_genes"])


def test_projection_refuses_strangers(atlas: ad.AnnData) -> None:
    fit = quick_fit(atlas, "pca")
    mouse = atlas.copy()
    mouse.var_names = [name.capitalize() for name in mouse.var_names]
    with pytest.raises(InputError, match=r"only 0 of the fit's 25 genes .*'GENE0'.*'Gene0'"):
        lt.project(fit, mouse)
    log_values = atlas.X.toarray()
    for x, problem in ((log_values - 1, "negative"), (log_values * 3, "no counts")):
        scaled = ad.AnnData(x, var=atlas.var[[]].copy())
        with pytest.raises(InputError, match=problem):
            lt.project(fit, scaled)


# bad input


def broken(atlas: ad.AnnData, how: str) -> ad.AnnData:
    adata = atlas.copy()
    if how == "nan":
        adata.X.data[:3] = np.nan
    elif how == "names":
        adata.var_names = ["A", "A", *adata.var_names[2:]]
    elif how == "modelled":
        adata.var["modelled"] = False
    elif how == "split":
        adata.obs["split"] = "holdout"
    elif how == "no train":
        adata.obs["split"] = "test"
    elif how == "no X":
        adata = ad.AnnData(obs=adata.obs, var=adata.var)
    elif how == "no cells":
        adata = adata[:0].copy()
    return adata


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nan", r"adata.X: 3 values are NaN or infinite"),
        ("names", r"adata.var_names: 1 gene names occur twice: 'A'"),
        ("modelled", r'var\["modelled"\]: marks none of 30 genes'),
        ("split", r"""obs\["split"\]: has values 'holdout'"""),
        ("no train", r"marks no cell 'train'"),
        ("no X", r"adata.X: is None"),
        ("no cells", r"has no cells"),
    ],
)
def test_bad_data_are_named(atlas: ad.AnnData, how: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        quick_fit(broken(atlas, how), "pca")


def test_bad_arguments_are_named(atlas: ad.AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"'sparse_vea' is not a model .*'sparse_vae'"):
        lt.fit(atlas, "sparse_vea")
    with pytest.raises(InputError, match=r"settings of vae: unknown key 'max_epoch'.*'max_epochs'"):
        lt.fit(atlas, "vae", settings={"max_epoch": 3})
    with pytest.raises(InputError, match=r"n_factors: 26 factors .* 25 modelled genes"):
        lt.fit(atlas, "pca", 26)
    with pytest.raises(InputError, match=r"n_factors: 0 factors"):
        lt.fit(atlas, "pca", 0)
    with pytest.raises(InputError, match="a DataFrame, not an AnnData"):
        lt.fit(atlas.to_df(), "pca")  # type: ignore[arg-type]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match="device: cuda"):
        lt.fit(atlas, "pca", device="cuda")


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
    monkeypatch.setattr("latentree.models.base.CHUNK_VALUES", 25 * 11)
    assert len(list(row_chunks(N_CELLS, 25))) > 10
    chunked = quick_fit(atlas, "pca")
    np.testing.assert_allclose(chunked.latents, whole.latents, rtol=1e-4, atol=1e-5)
    assert chunked.summary["r2"] == pytest.approx(whole.summary["r2"], rel=1e-5)
