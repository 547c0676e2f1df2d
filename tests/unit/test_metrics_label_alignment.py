"""Factor-to-label alignment against scikit-learn's mutual information, plain loops and all permutations."""

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score
from sklearn.preprocessing import KBinsDiscretizer

from latentree.metrics import factor_label_alignment, same_process_neighbours, scaled_mutual_information


def _cells(
    seed: int, n_cells: int = 60, n_factors: int = 3, n_labels: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    code = np.concatenate(
        [np.repeat(np.arange(n_labels), 2), rng.integers(0, n_labels, n_cells - 2 * n_labels)]
    )
    return rng.normal(size=(n_cells, n_factors)) + 2 * np.eye(n_labels)[code][:, :n_factors], code


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_smi_is_scikit_learns_information_over_the_labels_entropy(seed):
    z, code = _cells(seed)
    of_label = np.arange(3) == code[:, None]
    bins = KBinsDiscretizer(10, encode="ordinal", strategy="uniform").fit_transform(z)
    oracle = [
        [mutual_info_score(b, has) / entropy([has.mean(), 1 - has.mean()]) for has in of_label.T]
        for b in bins.T
    ]
    assert scaled_mutual_information(z, of_label) == pytest.approx(np.array(oracle), abs=1e-9)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_spn_counts_neighbours_along_the_factor(seed):
    z, code = _cells(seed)
    of_label = np.arange(3) == code[:, None]
    oracle = np.zeros((3, 3))
    for k in range(3):
        sorted_codes = [code[i] for i in sorted(range(len(z)), key=lambda i: z[i, k])]
        for c in range(3):
            same = sum(a == b == c for a, b in pairwise(sorted_codes))
            n = sorted_codes.count(c)
            share = n / len(z)
            oracle[k, c] = max(0.0, same / (n - 1) - share) / (1 - share)
    found = same_process_neighbours(z, of_label, np.random.default_rng(0))
    assert found == pytest.approx(oracle)


@pytest.mark.parametrize("score", ["smi", "spn"])
@given(seed=st.integers(0, 10_000), n_factors=st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_the_value_is_the_best_over_all_matchings(score, seed, n_factors):
    z, code = _cells(seed)
    z = np.hstack([z, z])[:, :n_factors]
    found = factor_label_alignment(z, code, score, n_permutations=0)
    best = max(
        sum(found.scores[k, c] for c, k in enumerate(order) if k < n_factors)
        for order in permutations(range(max(n_factors, 3)), 3)
    )
    assert found.value == pytest.approx(best / 3)
    matched = [c for c in range(3) if found.factor[c] >= 0]
    assert len(matched) == min(3, n_factors)
    assert sum(found.scores[found.factor[c], c] for c in matched) == pytest.approx(best)
    assert np.isnan(found.chance)


@pytest.mark.parametrize("score", ["smi", "spn"])
def test_a_factor_for_each_type_scores_1_and_a_mixture_less(score):
    code = np.random.default_rng(0).integers(0, 3, 600)
    names = np.array(["B", "NK", "T"])[code]
    own = np.eye(3)[code] * 5 + 0.1 * np.random.default_rng(1).normal(size=(600, 3))
    found = factor_label_alignment(own[:, [2, 0, 1]], names, score)
    assert found.labels == ("B", "NK", "T")
    assert found.factor.tolist() == [1, 2, 0]
    assert found.value == pytest.approx(1, abs=0.01)
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    one_factor = factor_label_alignment((own @ rotation)[:, :1], names, score)
    assert one_factor.value <= 1 / 3
    assert found.chance < 0.1


@pytest.mark.parametrize("score", ["smi", "spn"])
def test_chance_is_what_noise_scores(score):
    rng = np.random.default_rng(0)
    z, code = rng.normal(size=(400, 5)), rng.integers(0, 3, 400)
    noise = [factor_label_alignment(rng.normal(size=(400, 5)), code, score, 0).value for _ in range(20)]
    found = factor_label_alignment(z, code, score, n_permutations=50)
    assert found.chance == pytest.approx(np.mean(noise), rel=0.25)
    assert found.chance > 0
    assert found.chance == factor_label_alignment(z, code, score, n_permutations=50).chance


@pytest.mark.parametrize("score", ["smi", "spn"])
def test_a_dead_factor_says_nothing_even_where_cells_are_sorted_by_type(score):
    code = np.repeat([0, 1], 200)
    assert factor_label_alignment(np.full((400, 2), 0.3), code, score).value < 0.15
    assert factor_label_alignment(np.zeros((400, 0)), code, score).value == 0


@pytest.mark.parametrize("score", ["smi", "spn"])
def test_labels_without_a_score_do_not_count(score):
    z, _ = _cells(0)
    assert np.isnan(factor_label_alignment(z, ["only"] * 60, score).value)
    single = same_process_neighbours(z, np.eye(60, 2, dtype=bool), np.random.default_rng(0))
    assert np.isnan(single).all()
    code = np.array(["rare"] + ["a"] * 30 + ["b"] * 29)
    found = factor_label_alignment(z, code, "spn")
    assert found.labels == ("a", "b", "rare")
    assert found.factor[2] == -1
    assert np.isfinite(found.value)


def test_refuses_another_score_and_other_cells():
    with pytest.raises(ValueError, match="smi or spn"):
        factor_label_alignment(np.zeros((3, 2)), ["a", "b", "b"], "sap")
    with pytest.raises(ValueError, match="one label for each cell"):
        factor_label_alignment(np.zeros((3, 2)), ["a", "b"])
