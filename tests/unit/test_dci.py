"""Disentanglement against cases whose score is known."""

import numpy as np
import pytest

from latentree.metrics import dci_16_points, dci_disentanglement, dci_importances


@pytest.fixture
def factors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(300, 3))


def test_permuted_rescaled_and_bent_copies_score_one(factors):
    codes = np.column_stack([-5 * factors[:, 2], np.exp(factors[:, 0]), 1e-3 * factors[:, 1] + 7])
    assert dci_disentanglement(factors, codes) > 0.98


def test_each_code_is_important_for_the_factor_that_it_copies(factors):
    matrix = dci_importances(factors, factors[:, [2, 0, 1]])
    assert np.allclose(matrix.sum(0), 1)
    assert np.allclose(matrix, np.eye(3)[[2, 0, 1]], atol=0.02)


def test_one_code_for_all_factors_scores_zero(factors):
    """Importance is the code's alone, shared evenly: the entropy is that of a fair die."""
    assert dci_disentanglement(factors, factors.sum(1, keepdims=True)) == pytest.approx(0, abs=1e-9)


def test_one_code_for_two_of_three_factors():
    """The trees of either factor know the code alone, and the third one does not vary: 1 - log_3(2)."""
    factors = np.random.default_rng(1).normal(size=(200, 3))
    factors[:, 2] = 0
    codes = factors[:, :1] + factors[:, 1:2]
    assert dci_disentanglement(factors, codes) == pytest.approx(1 - np.log(2) / np.log(3), abs=1e-6)


def test_rotated_factors_score_low():
    factors = np.random.default_rng(2).normal(size=(400, 2))
    rotation = np.array([[1, -1], [1, 1]]) / np.sqrt(2)
    assert dci_disentanglement(factors, factors @ rotation) < 0.2


def test_dead_codes_change_nothing(factors):
    codes = factors + 0.3 * np.random.default_rng(3).normal(size=factors.shape)
    padded = np.column_stack([codes, np.full((len(codes), 2), 4.0)])
    # the order in which trees visit the codes decides ties only
    assert dci_disentanglement(factors, padded) == pytest.approx(
        dci_disentanglement(factors, codes), abs=0.01
    )
    assert (dci_importances(factors, padded)[3:] == 0).all()


def test_without_a_code_that_varies_the_score_is_zero(factors):
    assert dci_disentanglement(factors, np.zeros((len(factors), 4))) == 0


def test_n_points_are_the_first_cells(factors):
    codes = factors[:, ::-1].copy()
    codes[16:] = 0
    expected = dci_disentanglement(factors[:16], codes[:16])
    assert dci_disentanglement(factors, codes, n_points=16) == dci_16_points(factors, codes) == expected


def test_the_same_bits_twice(factors):
    codes = factors @ np.array([[1, 0.2, 0], [0, 1, 0.2], [0.2, 0, 1]])
    assert dci_disentanglement(factors, codes) == dci_disentanglement(factors, codes)


def test_refuses_what_has_no_score(factors):
    with pytest.raises(ValueError, match="same points"):
        dci_disentanglement(factors, factors[:10])
    with pytest.raises(ValueError, match="two true factors"):
        dci_disentanglement(factors[:, :1], factors)
