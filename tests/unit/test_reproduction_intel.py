"""What experiment intel makes and measures: shapes, shares, digits."""

import numpy as np
import pandas as pd
import pytest
from models_fixture import as_data

from latentree.model_settings import IntelVAESettings
from latentree.models.base import RunOptions
from latentree.models.intel_vae import IntelVAEModel
from latentree.reproduction import intel
from latentree.reproduction.held_out import cells_of, fit_on_cpu
from latentree.reproduction.intel_cells import ERROR, HOYER, INTEL, sector_of, share_gap
from latentree.reproduction.intel_digits import judged, with_share_of_zeros
from latentree.reproduction.intel_shapes import MMD, NOISE, SHAPES, share_off, with_noise
from latentree.reproduction.records import Measurement


@pytest.mark.parametrize("name", SHAPES)
def test_points_lie_around_their_outline(name):
    x, y = SHAPES[name].draw(4000, np.random.default_rng(0)).T
    off = {
        "circle": np.abs(np.hypot(x, y) - 1),
        "square": np.abs(np.maximum(np.abs(x), np.abs(y)) - 1),
        # its points are 1 from the middle, the corners between them .4
        "star": np.maximum(np.hypot(x, y) - 1, 0) + np.maximum(0.3 - np.hypot(x, y), 0),
        # y^2 = x^2 (1 - x^2) on the outline, as far as its slopes allow
        "two_holes": np.abs(y**2 - x**2 * (1 - x**2)) / 2,
        "mixture": np.hypot(np.abs(x) - 1, y) / 4,
    }[name]
    assert np.quantile(off, 0.99) < 4 * NOISE
    assert abs(x.mean()) < 0.1
    assert abs(y.mean()) < 0.1


def test_points_off_the_data_are_counted():
    rng = np.random.default_rng(0)
    reference, same = rng.uniform(size=(2, 2000, 2))
    far = same.copy()
    far[:500] += 10
    assert share_off(reference, same) == pytest.approx(0.01, abs=0.01)
    assert share_off(reference, far) == pytest.approx(0.2575, abs=0.01)


def test_new_points_have_the_fits_noise():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(300, 2)) * [2.0, 0.5]).astype(np.float32)
    settings = {"max_epochs": 2, "hidden": 8, "patience": None}
    done = fit_on_cpu(cells_of(x, np.full(300, "train")), "vae", 1, 0, settings)
    noise = with_noise(done, 4000, 0) - done.model.generate(4000, 0)  # type: ignore[attr-defined]
    # nothing is explained yet: all of the data's spread is noise
    np.testing.assert_allclose(noise.std(0), x.std(0), rtol=0.2)


def test_shares_are_compared_by_size():
    assert share_gap(np.array([0.2, 0.8]), np.array([0.8, 0.2])) == pytest.approx(0)
    # .5 .3 .2 against .6 .4: a tenth from each of two, a fifth from the third
    assert share_gap(np.array([0.3, 0.2, 0.5]), np.array([0.4, 0.6])) == pytest.approx(0.2)


def test_sectors_are_those_of_posterior_means():
    rng = np.random.default_rng(0)
    side = np.where(rng.uniform(size=200) < 0.5, -2.0, 2.0)
    x = (side[:, None] + 0.1 * rng.normal(size=(200, 3))).astype(np.float32)
    settings = IntelVAESettings(
        mapping="clusters", n_clusters=2, max_epochs=10, hidden=8, dropout=0.0, learning_rate=1e-2
    )
    model = IntelVAEModel(settings, 1)
    model.fit(as_data(x), 0, RunOptions())
    found = sector_of(model, x)
    assert len(np.unique(found[side > 0])) == len(np.unique(found[side < 0])) == 1
    assert len(np.unique(found)) == 2


@pytest.mark.parametrize("share", [0.5, 0.25, 0.0])
def test_digits_come_in_the_asked_proportion(share):
    pixels, digits = with_share_of_zeros(share, np.random.default_rng(0))
    assert np.mean(digits == 0) == pytest.approx(share, abs=0.01)
    assert pixels.shape == (len(digits), 64)
    assert pixels.min() == 0
    assert pixels.max() == 1


def test_a_classifier_below_its_confidence_is_uncertain():
    class Classifier:
        def predict_proba(self, images):
            return np.stack([1 - images[:, 0], images[:, 0]], axis=1)

    scores = judged(Classifier(), np.array([[0.1], [0.5], [0.7], [0.9]]))  # type: ignore[arg-type]
    assert scores == {"uncertain samples, %": 50.0, "ones among samples, %": 50.0}


def test_learned_shares_are_judged_by_the_true_ones():
    values = {0.5: [0.45, 0.52], 0.2: [0.4, 0.45]}
    table = pd.DataFrame(
        [
            Measurement("intel", f"digits, share of zeros {share:g}", "intel_vae", metric, seed, value)
            for share, its in values.items()
            for seed, value in enumerate(its)
            for metric in ("learned share of zeros", "zeros among samples")
        ]
    )
    rows = [row for row in intel.summarise(table) if row.metric == "learned share of zeros"]
    assert [(row.agrees, row.published) for row in rows] == [
        ("yes", "0.47 (0.01); agrees within 0.1 of the true 0.5"),
        ("no", "0.16 (0.11); agrees within 0.1 of the true 0.2"),
    ]


def test_our_own_bars_are_judged_and_named_as_such():
    values = {
        ("circle", "vae", MMD): [0.02, 0.04],
        ("circle", "intel_vae", MMD): [0.001, 0.003],
        ("sparse selector", "vae", HOYER): [0.2, 0.3],
        ("sparse selector", INTEL, HOYER): [0.3, 0.4],
        ("sparse selector", "vae", ERROR): [1.0, 2.0],
        ("sparse selector", INTEL, ERROR): [1.04, 2.04],
    }
    table = pd.DataFrame(
        [
            Measurement("intel", *place, seed, value)
            for place, its in values.items()
            for seed, value in enumerate(its)
        ]
    )
    bars = [row for row in intel.summarise(table) if row.setting.startswith("bar, ")]
    assert all(row.published.startswith("our own bar") for row in bars)
    assert [row.agrees for row in bars] == ["yes", "no", "yes"]
    np.testing.assert_allclose([row.ours_mean for row in bars], [0.002 / 0.03, 0.1, 0.03])
