"""Recommendation of held-out items: Recall@k and NDCG@k."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp

# users times items of one block: 32 MB of float64
_BLOCK = 4_000_000


def recall_at(scores: np.ndarray, held_out: Any, seen: Any, k: int = 5) -> float:
    """Recall@k of held-out items among those a user has not been seen with, mean over users.

    For one user the held-out items among the k with the highest scores, over min(k, number of held-out
    items), so that 1 can be reached. Items that the model was given as input are masked from the ranking:
    that one's own input comes back is not a recommendation.

    Parameters
    ----------
    scores
        Any scores that order the items of a user, shape (n_users, n_items), such as the model's means. Equal
        scores are ordered at random, the same in every call, because items are often sorted by popularity.
    held_out
        Which items are to be found, not 0 where they are: array or sparse matrix of shape (n_users, n_items).
        A user without any does not count.
    seen
        Which items the model was given, of the same kind.
    k
        Length of the list.

    Returns
    -------
    A number from 0 to 1; nan where no user has a held-out item.

    Raises
    ------
    ValueError
        Where shapes differ, a score is not a number, or an item is both held out and seen.
    """
    return _mean_over_users(_recall, scores, held_out, seen, k)


def ndcg_at(scores: np.ndarray, held_out: Any, seen: Any, k: int = 10) -> float:
    """NDCG@k of held-out items: hits count 1 / log2(rank + 1), relative to having all hits first.

    Parameters, result and errors as for :func:`recall_at`.
    """
    return _mean_over_users(_ndcg, scores, held_out, seen, k)


def recall_at_unmasked(scores: np.ndarray, positives: Any, k: int = 5) -> float:
    """Recall@k as the Sparse VAE's reference code takes it: of the very items that the model was given.

    Nothing is masked, so it measures how well the input comes back (the published 0.98), not prediction.

    Parameters
    ----------
    scores
        Reconstruction of the input, shape (n_users, n_items).
    positives
        The input, not 0 where a user has the item, of the same shape.
    k
        Length of the list.
    """
    return _mean_over_users(_recall, scores, positives, None, k)


def ndcg_at_unmasked(scores: np.ndarray, positives: Any, k: int = 10) -> float:
    """NDCG@k as the Sparse VAE's reference code takes it; see :func:`recall_at_unmasked`."""
    return _mean_over_users(_ndcg, scores, positives, None, k)


def _recall(hits: np.ndarray, n_positive: np.ndarray) -> np.ndarray:
    return hits.sum(axis=1) / np.minimum(hits.shape[1], n_positive)


def _ndcg(hits: np.ndarray, n_positive: np.ndarray) -> np.ndarray:
    gain = 1 / np.log2(np.arange(hits.shape[1]) + 2)
    best = np.cumsum(gain)[np.minimum(hits.shape[1], n_positive) - 1]
    return hits @ gain / best


def _mean_over_users(
    per_user: Callable[[np.ndarray, np.ndarray], np.ndarray],
    scores: np.ndarray,
    positives: Any,
    seen: Any | None,
    k: int,
) -> float:
    if k < 1:
        raise ValueError(f"a list of at least one item is needed, not of {k}")
    total, n_users = 0.0, 0
    for value, positive, given in _blocks(scores, positives, seen):
        if np.isnan(value).any():
            raise ValueError(f"{np.isnan(value).sum()} scores are not numbers")
        if (positive & given).any():
            raise ValueError(f"{(positive & given).sum()} items are held out and seen by the same user")
        asked = positive.any(axis=1)
        hits = np.take_along_axis(positive, _top(np.where(given, -np.inf, value), k), axis=1)[asked]
        total += float(per_user(hits, positive[asked].sum(axis=1)).sum())
        n_users += int(asked.sum())
    return total / n_users if n_users else float("nan")


def _top(scores: np.ndarray, k: int) -> np.ndarray:
    """Items with the highest scores of each user, (n_users, min(k, n_items))."""
    shuffled = np.random.default_rng(0).permutation(scores.shape[1])
    return shuffled[np.argsort(-scores[:, shuffled], axis=1, kind="stable")[:, :k]]


def _blocks(
    scores: np.ndarray, positives: Any, seen: Any | None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Scores, positives and seen items of some users at a time, dense."""
    matrices: list[Any] = [
        sp.csr_matrix(m) if sp.issparse(m) else np.asarray(m) for m in (positives, seen) if m is not None
    ]
    scores = np.asarray(scores)
    if any(m.shape != scores.shape for m in matrices) or scores.ndim != 2:
        shapes = " and ".join(str(m.shape) for m in matrices)
        raise ValueError(f"matrices of users by items are needed, not {shapes} for scores of {scores.shape}")
    users = max(1, _BLOCK // max(1, scores.shape[1]))
    for start in range(0, len(scores), users):
        rows = slice(start, start + users)
        dense = [m[rows].toarray() != 0 if sp.issparse(m) else m[rows] != 0 for m in matrices]
        given = dense[1] if seen is not None else np.zeros_like(dense[0])
        yield np.asarray(scores[rows], dtype=np.float64), dense[0], given
