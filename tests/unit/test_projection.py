"""project and what fit refuses: other cells, other genes, raw counts, bad input."""

import logging
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from api_fixture import MODELS, N_CELLS, N_GENES, example_atlas, example_counts, quick_fit
from scipy import sparse

import latentree as lt
from latentree.errors import InputError


@pytest.fixture(scope="module")
def atlas() -> ad.AnnData:
    return example_atlas()


@pytest.fixture(scope="module", params=MODELS)
def fitted(request: pytest.FixtureRequest, atlas: ad.AnnData) -> lt.Fit:
    return quick_fit(atlas, request.param)


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
    with pytest.raises(InputError, match=r"n_factors: 0 is no whole number >= 1"):
        lt.fit(atlas, "pca", 0)
    for wrong in (2.5, "3", True, np.True_, None):
        with pytest.raises(InputError, match=r"n_factors: .* is no whole number >= 1"):
            lt.fit(atlas, "pca", wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"threads: 0 is no whole number >= 1"):
        lt.fit(atlas, "pca", 2, threads=0)
    with pytest.raises(InputError, match=r"seed: -1 is no whole number >= 0"):
        lt.fit(atlas, "pca", 2, seed=-1)
    with pytest.raises(InputError, match=r"threads: '2' is no whole number >= 1"):
        lt.project(quick_fit(atlas, "pca"), atlas, threads="2")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a DataFrame, not an AnnData"):
        lt.fit(atlas.to_df(), "pca")  # type: ignore[arg-type]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match="device: cuda"):
        lt.fit(atlas, "pca", device="cuda")


def test_a_whole_number_of_numpys_is_one(atlas: ad.AnnData) -> None:
    fit = quick_fit(atlas, "pca", np.int64(2))  # type: ignore[arg-type]
    assert type(fit.summary["n_factors"]) is int
    np.testing.assert_array_equal(fit.latents, quick_fit(atlas, "pca", 2).latents)
