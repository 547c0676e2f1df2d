"""What a model is told about batches: the obs column, the Sparse VAE's use of it, and projection."""

import numpy as np
import pandas as pd
import pytest
from api_fixture import N_CELLS, example_atlas
from sklearn.linear_model import LinearRegression

import latentree as lt
from latentree.batch_column import KnownBatches
from latentree.errors import InputError
from latentree.models.scaling import InputScaling, TrainingData


def _obs(*labels: object) -> pd.DataFrame:
    return pd.DataFrame({"run": list(labels)}, index=[f"c{i}" for i in range(len(labels))])


def test_covariates_name_each_cells_batch_and_average_over_new_ones():
    known = KnownBatches.of(_obs("b", "a", "b", "b", "z"), "run", np.arange(4))
    assert known.levels == ("a", "b")
    np.testing.assert_allclose(known.covariates(_obs("a", "b", "new")), [[1, 0], [0, 1], [0.25, 0.75]])
    assert known.unknown(_obs("a", "new", "b")) == ["new"]
    assert KnownBatches.from_facts(known.facts()) == known


@pytest.mark.parametrize(
    ("obs", "column", "problem"),
    [
        (_obs("a", "b", "a", "b"), "donor", "is no obs column"),
        (_obs("a", None, "a", "b"), "run", "1 of 4 cells have no value"),
        (_obs("a", "b", "c", "d"), "run", "4 different values"),
    ],
)
def test_columns_that_tell_no_batches_are_refused(obs, column, problem):
    with pytest.raises(InputError, match=problem):
        KnownBatches.of(obs, column, np.arange(4))


def test_one_batch_is_nothing_to_tell(caplog):
    assert KnownBatches.of(_obs("a", "a", "a", "b"), "run", np.arange(3)) is None
    assert "'a' for all 3 training cells" in caplog.text


def test_scaling_centres_each_batch_on_its_training_cells():
    rng = np.random.default_rng(0)
    batch = rng.integers(3, size=60)
    x = (rng.random((60, 4)) + batch[:, None]).astype(np.float32)
    covariates = np.eye(3, dtype=np.float32)[batch]
    data = TrainingData(x, np.arange(40), np.arange(40, 60), covariates=covariates)
    scaling = InputScaling.fit(data, "log", 1.0, by_batch=True)
    scaled = scaling.apply(x, covariates)
    for level in range(3):
        of_level = np.flatnonzero(batch[:40] == level)
        np.testing.assert_allclose(scaled[of_level].mean(0), 0, atol=1e-5)
        expected = (x[of_level] - x[of_level].mean(0)) / x[:40].std(0)
        np.testing.assert_allclose(scaled[of_level], expected, atol=1e-5)
    np.testing.assert_allclose(scaling.invert(scaled, covariates), x, atol=1e-5)
    again = InputScaling.from_state("log", scaling.state())
    np.testing.assert_array_equal(again.apply(x, covariates), scaled)
    # without a batch: as if it were the average one
    np.testing.assert_allclose(scaling.apply(x), (x - x[:40].mean(0)) / x[:40].std(0), atol=1e-5)


def _atlas_of_two_runs():
    """Half of the genes are caught twelve times as often in run b."""
    atlas = example_atlas()
    run = np.resize(["a", "b"], N_CELLS)
    counts = atlas.layers["counts"].toarray()
    counts[np.ix_(run == "b", np.arange(0, counts.shape[1], 2))] *= 12
    atlas.layers["counts"] = counts
    atlas.obs["run"] = run
    atlas.obs["library_size"] = counts.sum(1).astype(np.float64)
    atlas.X = np.log1p(counts / counts.sum(1, keepdims=True) * 1e4).astype(np.float32)
    return atlas, run


@pytest.mark.parametrize("likelihood", ["nb", "gaussian"])
@pytest.mark.parametrize("decoder", ["linear", "mlp"])
def test_a_sparse_vae_that_is_told_runs_needs_no_factor_for_them(likelihood, decoder, tmp_path):
    atlas, run = _atlas_of_two_runs()
    settings = {"likelihood": likelihood, "decoder": decoder, "max_epochs": 20}
    told = lt.fit(atlas, "sparse_vae", 3, settings={**settings, "batch": "run"}, progress=False)
    untold = lt.fit(atlas, "sparse_vae", 3, settings=settings, progress=False)

    def told_by_factors(fit: lt.Fit) -> float:
        return LinearRegression().fit(fit.latents, run == "b").score(fit.latents, run == "b")

    assert told_by_factors(told) < 0.2 < 0.4 < told_by_factors(untold)
    assert told.summary["log_likelihood"]["test"] > untold.summary["log_likelihood"]["test"] - 5
    assert told.summary["batch"]["levels"] == ["a", "b"]
    average = np.tile(np.array(told.summary["batch"]["shares"], np.float32), (5, 1))
    latents = told.model.transform(atlas.X[:5, :25])
    unknown = told.model.reconstruct(latents)
    np.testing.assert_allclose(told.model.reconstruct(latents, average), unknown, rtol=1e-3, atol=1e-3)
    assert np.abs(unknown - told.model.reconstruct(latents, np.eye(2, dtype=np.float32)[[0] * 5])).max() > 0.1
    told.save(tmp_path)
    again = lt.project(lt.load(tmp_path), atlas)
    np.testing.assert_array_equal(again.obsm["X_sparse_vae"], told.latents)


def test_cells_of_new_runs_are_projected_as_of_the_average_one(caplog):
    atlas, _ = _atlas_of_two_runs()
    fit = lt.fit(atlas, "vae", 2, settings={"max_epochs": 3, "hidden": 8, "batch": "run"}, progress=False)
    np.testing.assert_array_equal(lt.project(fit, atlas).obsm["X_vae"], fit.latents)
    other = atlas.copy()
    other.obs["run"] = "c"
    new = lt.project(fit, other)
    assert list(new.uns["latentree"]["projection"]["unknown_batches"]) == ["c"]
    assert "average batch" in caplog.text
    del other.obs["run"]
    np.testing.assert_allclose(lt.project(fit, other).obsm["X_vae"], new.obsm["X_vae"], atol=1e-6)
    assert not np.allclose(new.obsm["X_vae"], fit.latents)


def test_a_column_that_is_not_there_is_refused_before_the_fit():
    with pytest.raises(InputError, match="is no obs column"):
        lt.fit(example_atlas(), "vae", 2, settings={"batch": "lane"}, progress=False)
