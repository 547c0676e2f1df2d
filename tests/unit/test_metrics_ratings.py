"""Recall and NDCG against loops over users and scikit-learn."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from latentree.metrics import ndcg_at, ndcg_at_unmasked, recall_at, recall_at_unmasked

Ratings = tuple[np.ndarray, np.ndarray, np.ndarray]


def _ratings(seed: int, n_users: int = 8, n_items: int = 12) -> Ratings:
    """Scores, held-out and seen items; some users hold nothing out."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, size=(n_users, n_items), p=[0.6, 0.2, 0.2])
    kind[0, 0] = 1
    # scikit-learn has no NDCG of one item
    kind[:, -2:] = 0
    return rng.normal(size=kind.shape), kind == 1, kind == 2


@given(st.integers(0, 10_000), st.integers(1, 15))
@settings(max_examples=40, deadline=None)
def test_recall_is_a_loop_over_users(seed, k):
    scores, held_out, seen = _ratings(seed)
    recalls = []
    for u in range(len(scores)):
        if not held_out[u].any():
            continue
        unseen = [i for i in range(12) if not seen[u, i]]
        best = sorted(unseen, key=lambda i: -scores[u, i])[:k]
        recalls.append(sum(held_out[u, i] for i in best) / min(k, held_out[u].sum(), 12))
    assert recall_at(scores, held_out, seen, k) == pytest.approx(np.mean(recalls))


@given(st.integers(0, 10_000), st.integers(1, 15))
@settings(max_examples=40, deadline=None)
def test_ndcg_is_scikit_learns_on_unseen_items(seed, k):
    scores, held_out, seen = _ratings(seed)
    oracle = [
        ndcg_score([held_out[u][~seen[u]]], [scores[u][~seen[u]]], k=k)
        for u in range(len(scores))
        if held_out[u].any()
    ]
    assert ndcg_at(scores, held_out, seen, k) == pytest.approx(np.mean(oracle))
    whole = [ndcg_score([held_out[u]], [scores[u]], k=k) for u in range(len(scores)) if held_out[u].any()]
    assert ndcg_at_unmasked(scores, held_out, k) == pytest.approx(np.mean(whole))


def test_masking_separates_prediction_from_giving_the_input_back():
    _, held_out, seen = _ratings(0, 200, 100)
    copied = seen + 1e-3 * np.random.default_rng(1).random(seen.shape)
    assert recall_at_unmasked(copied, seen) == 1
    assert ndcg_at_unmasked(copied, seen) == pytest.approx(1)
    # 20 of about 80 unseen items are held out
    assert recall_at(copied, held_out, seen) == pytest.approx(0.25, abs=0.05)
    assert recall_at(held_out + 0.0, held_out, seen) == 1
    assert ndcg_at(held_out + 0.0, held_out, seen) == pytest.approx(1)
    # ten times the score for what was seen changes nothing
    assert ndcg_at(copied + 10 * seen, held_out, seen) == ndcg_at(copied, held_out, seen)


def test_equal_scores_favour_no_place_in_the_matrix():
    popular = np.tile(np.arange(200) < 20, (50, 1))
    nothing = np.zeros_like(popular)
    first = recall_at(np.zeros(popular.shape), popular, nothing, k=20)
    assert first < 0.4
    assert first == recall_at(np.zeros(popular.shape), popular, nothing, k=20)


def test_sparse_matrices_blocks_and_users_without_held_out_items(monkeypatch):
    scores, held_out, seen = _ratings(3)
    held_out[4] = False
    whole = recall_at(scores, held_out, seen), ndcg_at(scores, held_out, seen)
    kept = np.delete(np.arange(8), 4)
    assert recall_at(scores[kept], held_out[kept], seen[kept]) == pytest.approx(whole[0])
    sparse = sp.csr_matrix(held_out.astype(float)), sp.coo_matrix(5 * seen)
    monkeypatch.setitem(recall_at.__globals__, "_BLOCK", 24)
    assert (recall_at(scores, *sparse), ndcg_at(scores, *sparse)) == pytest.approx(whole)
    assert np.isnan(recall_at(scores, np.zeros_like(held_out), seen))


def test_refuses_what_has_no_score():
    scores, held_out, seen = _ratings(0)
    with pytest.raises(ValueError, match="held out and seen"):
        recall_at(scores, held_out, seen | held_out)
    with pytest.raises(ValueError, match="users by items"):
        ndcg_at(scores, held_out[:3], seen)
    with pytest.raises(ValueError, match="not numbers"):
        recall_at(np.where(seen, np.nan, scores), held_out, seen)
    with pytest.raises(ValueError, match="at least one item"):
        recall_at(scores, held_out, seen, k=0)
