"""What a Sparse VAE decides where its settings leave it open."""

import numpy as np
import pytest

from latentree.errors import InputError
from latentree.models.scaling import Counts, InputScaling, TrainingData
from latentree.models.sparse_vae_rules import resolve, training_covariance, with_start
from latentree.models.starts import Start, axis_reliability, varimax_start
from latentree.sparse_vae_settings import SparseVAESettings
from latentree.synthetic import paper_data


def _data(n_train: int = 300, *, has_counts: bool = True, seed: int = 0) -> TrainingData:
    rng = np.random.default_rng(seed)
    n_cells = n_train + 20
    means = rng.gamma(1, 1, (n_cells, 2)) @ rng.gamma(0.5, 3, (2, 8))
    counts = rng.poisson(means).astype(np.float32)
    library = counts.sum(1) + 5.0
    x = np.log1p(counts / library[:, None] * 1e4).astype(np.float32)
    rows = rng.permutation(n_cells)
    return TrainingData(
        x, np.sort(rows[:n_train]), np.sort(rows[n_train:]), Counts(counts, library) if has_counts else None
    )


def _resolved(given: dict[str, object] | None = None, **data: object) -> SparseVAESettings:
    return resolve(SparseVAESettings.model_validate(given or {}), _data(**data))  # type: ignore[arg-type]


def test_counts_decide_the_likelihood_and_what_goes_with_it():
    for has_counts, expected in ((True, ("nb", "sqrt")), (False, ("gaussian", "log"))):
        found = _resolved(has_counts=has_counts)
        assert (found.likelihood, found.input) == expected
        assert found.decoder in ("mlp", "linear", "additive")
        assert found.lambda1 is not None
        assert found.lambda1 <= found.lambda0
    # counts that are not wanted
    found = _resolved({"likelihood": "gaussian"})
    assert (found.likelihood, found.input) == ("gaussian", "log")


def test_counts_that_are_not_there_cannot_be_fitted():
    with pytest.raises(InputError, match="likelihood: nb: there are no counts behind these values"):
        _resolved({"likelihood": "nb"}, has_counts=False)


def test_what_is_given_stays():
    given = {
        "likelihood": "nb",
        "input": "log",
        "decoder": "additive",
        "lambda0": 0.5,
        "lambda1": 0.2,
        "batch_size": 7,
        "max_epochs": 3,
        "gene_scaling": 0.25,
    }
    found = _resolved(given).model_dump()
    assert {key: found[key] for key in given} == given


@pytest.mark.parametrize(("has_counts", "fewest", "epochs"), [(False, 1000, 60), (True, 300, 40)])
@pytest.mark.parametrize("n_train", [1, 4, 37, 700, 1281, 5000])
def test_few_cells_get_small_batches_and_as_many_steps_as_others(n_train, has_counts, fewest, epochs):
    found = _resolved(n_train=n_train, has_counts=has_counts)
    n_steps = -(-n_train // found.batch_size)
    assert 1 <= found.batch_size <= 256
    assert found.max_epochs >= epochs
    assert n_steps * found.max_epochs >= fewest
    # and not many more than that, where there are few
    if found.max_epochs > epochs:
        assert n_steps * (found.max_epochs - 1) < fewest
    if n_train >= 1280:
        assert found.batch_size == 256
    elif n_train >= 5:
        assert n_steps in (4, 5)


@pytest.mark.parametrize(("has_counts", "epochs"), [(False, 60), (True, 40)])
def test_large_atlases_are_seen_a_fixed_number_of_times(has_counts, epochs):
    found = _resolved(n_train=20_000, has_counts=has_counts)
    assert (found.batch_size, found.max_epochs) == (256, epochs)


def test_resolved_settings_are_settings_and_resolve_to_themselves():
    for data in (_data(), _data(has_counts=False)):
        once = resolve(SparseVAESettings.model_validate({}), data)
        assert resolve(once, data) == once
        assert SparseVAESettings.model_validate(once.model_dump(mode="json")) == once


def _started(
    data: TrainingData, n_factors: int, given: dict[str, object] | None = None
) -> tuple[SparseVAESettings, Start, dict[str, float]]:
    settings = resolve(SparseVAESettings.model_validate(given or {}), data)
    assert settings.input != "auto"
    scaling = InputScaling.fit(data, settings.input, settings.gene_scaling)
    return with_start(settings, scaling, data, n_factors, np.random.default_rng(0))


def _all_rows(x: np.ndarray) -> TrainingData:
    return TrainingData(x.astype(np.float32), np.arange(len(x)), np.arange(0))


def _cells(n_cells: int = 400, n_genes: int = 40, *, has_counts: bool = False) -> TrainingData:
    """Counts of cells that mix eight programs, most genes with several of them: anchors tell less."""
    rng = np.random.default_rng(3)
    programs = np.exp(rng.standard_normal((8, n_genes)) * (rng.random((8, n_genes)) < 0.7))
    means = rng.dirichlet(np.ones(8), n_cells) @ programs
    counts = rng.poisson(20 * means).astype(np.float32)
    library = counts.sum(1).astype(np.float64)
    x = np.log1p(counts / library[:, None] * 1e4).astype(np.float32)
    cells = np.arange(n_cells)
    return TrainingData(x, cells, cells[:0], Counts(counts, library) if has_counts else None)


DECIDED = ("start", "encoder_mean", "hidden_decoder", "hidden_encoder", "decoder_ridge", "learning_rate")


def _decided(settings: SparseVAESettings) -> tuple[object, ...]:
    return tuple(getattr(settings, key) for key in DECIDED)


def test_the_papers_data_get_anchors_and_curves():
    data = _all_rows(paper_data(0.4, np.random.default_rng(0), n_cells=500).values)
    settings, start, explained = _started(data, 5)
    assert _decided(settings) == ("anchors", "mlp", 32, 50, 0.01, 0.005)
    assert start.support is not None
    assert explained["anchors"] >= 0.9 * explained["varimax"] > 0


def test_cells_get_varimax_and_next_to_no_curves():
    settings, start, explained = _started(_cells(), 5)
    assert _decided(settings) == ("varimax", "linear", 16, 50, 0.3, 0.003)
    assert start.support is None
    assert 0 < explained["anchors"] < 0.9 * explained["varimax"]


def test_counts_keep_the_scores_of_varimax():
    settings, start, explained = _started(_cells(has_counts=True), 5)
    assert settings.likelihood == "nb"
    assert _decided(settings) == ("varimax", "scores", 16, 50, 0.3, 0.01)
    assert start.support is None
    # the rule that compares is not asked
    assert explained == {}


@pytest.mark.parametrize(
    ("has_counts", "expected"),
    [(True, ("random", "mlp", 16, 50, 0.3, 0.01)), (False, ("random", "mlp", 32, 50, 0.01, 0.005))],
)
def test_random_weights_have_no_scores_to_keep(has_counts, expected):
    settings, start, _ = _started(_cells(has_counts=has_counts), 3, {"start": "random"})
    assert _decided(settings) == expected
    assert not start.scores.any()


def test_anchors_that_are_asked_for_and_not_there_are_an_error():
    noise = _all_rows(np.random.default_rng(3).normal(size=(600, 30)))
    assert _started(noise, 3)[0].start == "varimax"
    with pytest.raises(InputError, match="start: anchors: no two features move together"):
        _started(noise, 3, {"start": "anchors"})


def test_anchors_that_are_asked_for_are_taken_from_cells_and_counts():
    # three programs with six genes each
    programs = np.repeat(np.exp(0.7 * np.random.default_rng(5).standard_normal((400, 3))), 6, axis=1)
    counts = np.random.default_rng(6).poisson(8 * programs).astype(np.float32)
    library = np.full(400, float(counts.sum(1).mean()))
    values = np.log1p(counts / library[:, None] * 1e4).astype(np.float32)
    data = TrainingData(values, np.arange(400), np.arange(0), Counts(counts, library))
    for likelihood in ("nb", "gaussian"):
        given = {"start": "anchors", "likelihood": likelihood}
        settings, start, explained = _started(data, 4, given)
        assert settings.start == "anchors"
        assert start.support is not None
        assert start.support.any(0).sum() == 3
        assert explained["anchors"] > 0
        assert settings.encoder_mean == {"nb": "scores", "gaussian": "linear"}[likelihood]


def test_what_is_given_stays_after_the_start():
    given = {
        "start": "varimax",
        "encoder_mean": "mlp",
        "hidden_decoder": 7,
        "hidden_encoder": 9,
        "decoder_ridge": 0.0,
        "learning_rate": 0.02,
    }
    settings, _, _ = _started(_cells(), 3, given)
    assert {key: getattr(settings, key) for key in given} == given


def test_every_start_leaves_nothing_open():
    data = _data(has_counts=False)
    for given in ({}, {"start": "varimax"}, {"start": "random", "encoder_mean": "mlp"}):
        found, start, _ = _started(data, 2, given)
        values = found.model_dump()
        assert "auto" not in values.values()
        left_open = [key for key, value in values.items() if value is None]
        assert left_open == ["patience", "checkpoint_every", "batch"]
        assert found.start == given.get("start", found.start)
        assert start.loadings.shape == start.scores.shape == (8, 2)
        assert start.scores.any() == (found.start != "random")


def test_scores_hear_less_of_axes_that_halves_of_the_cells_do_not_share(monkeypatch):
    rng = np.random.default_rng(1)
    signal = rng.standard_normal((300, 1)) * 2 @ rng.standard_normal((1, 12))
    data = _all_rows(signal + rng.standard_normal((300, 12)))
    settings = resolve(SparseVAESettings.model_validate({"start": "varimax"}), data)
    scaling = InputScaling.fit(data, "log", 0.5)
    # with a normal likelihood all axes are heard alike
    undamped = with_start(settings, scaling, data, 3, np.random.default_rng(0))[1]
    settings = settings.model_copy(update={"likelihood": "nb"})
    found = with_start(settings, scaling, data, 3, np.random.default_rng(0))[1]
    covariance = training_covariance(scaling, data)
    # the axes' reliability told from scores on all axes there are, of which there are fewer than five each
    vectors = np.linalg.eigh(covariance)[1][:, ::-1]
    reliability = axis_reliability(scaling.apply(data.x).astype(np.float64) @ vectors, 3)
    assert reliability[0] > 0.9 > 0.7 > reliability[2]
    expected = varimax_start(covariance, 3, reliability=reliability)
    np.testing.assert_allclose(np.abs(found.scores), np.abs(expected.scores), atol=1e-4)
    alike = varimax_start(covariance, 3).scores
    np.testing.assert_allclose(np.abs(undamped.scores), np.abs(alike), atol=1e-4)
    assert np.linalg.norm(found.scores) < np.linalg.norm(alike)
    # chunks of cells change nothing
    monkeypatch.setattr("latentree.models.scaling.CHUNK_VALUES", 12 * 33)
    again = with_start(settings, scaling, data, 3, np.random.default_rng(0))[1]
    np.testing.assert_allclose(again.scores, found.scores, atol=1e-5)


def test_the_covariance_is_that_of_the_training_cells(monkeypatch):
    monkeypatch.setattr("latentree.models.scaling.CHUNK_VALUES", 8 * 33)
    data = _data()
    scaling = InputScaling.fit(data, "sqrt", 0.5)
    expected = np.cov(scaling.apply(data.x)[data.train].T, ddof=0)
    np.testing.assert_allclose(training_covariance(scaling, data), expected, rtol=1e-3, atol=1e-5)
