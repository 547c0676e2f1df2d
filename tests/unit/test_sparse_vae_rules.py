"""What a Sparse VAE decides where its settings leave it open."""

import numpy as np
import pytest

from latentree.errors import InputError
from latentree.models.base import Counts, InputScaling, TrainingData
from latentree.models.sparse_vae_rules import resolve, training_covariance, with_start
from latentree.settings import SparseVAESettings


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


@pytest.mark.parametrize("n_train", [1, 4, 37, 700, 1281, 5000])
def test_few_cells_get_small_batches_and_as_many_steps_as_others(n_train):
    found = _resolved(n_train=n_train)
    n_steps = -(-n_train // found.batch_size)
    assert 1 <= found.batch_size <= 256
    assert found.max_epochs >= 60
    assert n_steps * found.max_epochs >= 1000
    # and not many more than that, where there are few
    if found.max_epochs > 60:
        assert n_steps * (found.max_epochs - 1) < 1000
    if n_train >= 1280:
        assert found.batch_size == 256
    elif n_train >= 5:
        assert n_steps in (4, 5)


def test_large_atlases_are_seen_sixty_times():
    found = _resolved(n_train=20_000)
    assert (found.batch_size, found.max_epochs) == (256, 60)


def test_resolved_settings_are_settings_and_resolve_to_themselves():
    for data in (_data(), _data(has_counts=False)):
        once = resolve(SparseVAESettings.model_validate({}), data)
        assert resolve(once, data) == once
        assert SparseVAESettings.model_validate(once.model_dump(mode="json")) == once


def test_every_start_leaves_nothing_open():
    data = _data(has_counts=False)
    for given in ({}, {"start": "varimax"}, {"start": "random", "encoder_mean": "mlp"}):
        settings = resolve(SparseVAESettings.model_validate(given), data)
        scaling = InputScaling.fit(data, "log", 0.5)
        found, start = with_start(settings, scaling, data, 2, np.random.default_rng(0))[:2]
        assert found.start in ("varimax", "anchors", "random")
        assert found.encoder_mean in ("linear", "mlp")
        assert found.start == given.get("start", found.start)
        assert start.loadings.shape == start.scores.shape == (8, 2)
        assert start.scores.any() == (found.start != "random")


def test_the_covariance_is_that_of_the_training_cells(monkeypatch):
    monkeypatch.setattr("latentree.models.base.CHUNK_VALUES", 8 * 33)
    data = _data()
    scaling = InputScaling.fit(data, "sqrt", 0.5)
    expected = np.cov(scaling.apply(data.x)[data.train].T, ddof=0)
    np.testing.assert_allclose(training_covariance(scaling, data), expected, rtol=1e-3, atol=1e-5)
