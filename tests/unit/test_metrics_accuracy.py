"""Accuracy of cell types from latents, against scikit-learn's metrics and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from latentree.metrics import accuracy, balanced_accuracy, chance_reference, fit_probe, majority_reference

TYPES = st.lists(st.sampled_from(["B", "CD4+/CD25 T Reg", "a;b", "<i>"]), min_size=2, max_size=60)


@pytest.fixture
def cells() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    types = rng.choice(["NK", "B", "T"], size=300, p=[0.2, 0.3, 0.5])
    centres = {"NK": [0, 5], "B": [3, 0], "T": [0, 0]}
    return np.array([centres[name] for name in types]) + rng.normal(size=(300, 2)), types


def test_probe_is_logistic_regression_on_standardised_latents(cells):
    z, types = cells
    oracle = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(z[:200], types[:200])
    predicted = fit_probe(z[:200], types[:200]).predict(z[200:])
    assert np.array_equal(predicted, oracle.predict(z[200:]))
    assert accuracy(types[200:], predicted) > 0.9


def test_probe_does_not_depend_on_the_scale_of_a_factor(cells):
    z, types = cells
    predicted = fit_probe(z[:200], types[:200]).predict(z[200:])
    scaled = z * [1e-4, 1e5] + [7, -3]
    assert np.array_equal(fit_probe(scaled[:200], types[:200]).predict(scaled[200:]), predicted)


def test_a_dead_factor_changes_nothing(cells):
    z, types = cells
    dead = np.hstack([z, np.full((300, 1), 0.1, dtype=np.float32)])
    predicted = fit_probe(z[:200], types[:200]).predict(z[200:])
    assert np.array_equal(fit_probe(dead[:200], types[:200]).predict(dead[200:]), predicted)


def test_one_type_among_the_training_cells_is_always_predicted(cells):
    z, _ = cells
    assert set(fit_probe(z[:9], ["only"] * 9).predict(z[9:20])) == {"only"}


@given(TYPES, st.randoms(use_true_random=False))
def test_accuracies_equal_scikit_learns(types, random):
    predicted = [random.choice(types) for _ in types]
    assert accuracy(types, predicted) == pytest.approx(accuracy_score(types, predicted))
    assert balanced_accuracy(types, predicted) == pytest.approx(balanced_accuracy_score(types, predicted))


def test_a_type_that_no_test_cell_has_does_not_count_in_balanced_accuracy():
    assert balanced_accuracy(["B", "B", "T"], ["B", "NK", "T"]) == pytest.approx(0.75)


def test_majority_says_the_most_frequent_training_type():
    train, test = ["B"] * 5 + ["T"] * 3 + ["NK"], ["B", "T", "T", "T", "new"]
    assert majority_reference(train, test) == pytest.approx((1 / 5, 1 / 3))


def test_chance_equals_the_mean_over_simulated_guesses():
    train, test = ["B"] * 6 + ["T"] * 3 + ["NK"], ["B"] * 2 + ["T"] * 5 + ["new"] * 3
    rng = np.random.default_rng(1)
    guesses = rng.choice(train, size=(4000, len(test)))
    simulated = np.array([(accuracy(test, g), balanced_accuracy(test, g)) for g in guesses])
    standard_error = simulated.std(axis=0) / np.sqrt(len(guesses))
    assert np.all(np.abs(chance_reference(train, test) - simulated.mean(axis=0)) < 4 * standard_error)
