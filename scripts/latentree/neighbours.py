"""Exact nearest neighbours in tens of dimensions, by blocks of one matrix product each.

With tens of components trees prune nothing, so all distances are computed; single precision and a
bound from group minima spare the sorting that takes most of the time elsewhere.
"""

import numpy as np

_ROWS = 128  # query rows per block, so that a block of distances stays in the cache
_GROUPS = 512  # column groups whose minima bound the k-th distance
_PAIRS = 50_000  # candidate pairs whose distances are computed at a time
# rounding of a float32 product of p terms stays below this share of the squared norms (p ~ 1000)
_ROUNDING = 4e-6


def nearest_neighbours(
    queries: np.ndarray, points: np.ndarray, k: int, *, same: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest points of each query, by Euclidean distance.

    Parameters
    ----------
    queries, points
        float32 (n_queries, n_dimensions) and (n_points, n_dimensions), roughly centred.
    k
        Neighbours per query; at most n_points, or n_points - 1 where ``same``.
    same
        Whether the queries are the points themselves; then no row is its own neighbour.

    Returns
    -------
    Indices int64 and distances float64, both (n_queries, k), nearest first. Distances of the
    candidates are computed in double precision; equal ones are ordered by index.
    """
    squares = np.einsum("ij,ij->i", points, points)
    # with one more dimension the product itself is the squared distance less the query's own square,
    # which is the same along a row and so changes no order
    extended = np.hstack([points, squares[:, None]]).T
    indices = np.empty((len(queries), k), dtype=np.int64)
    distances = np.empty((len(queries), k))
    for start in range(0, len(queries), _ROWS):
        block = queries[start : start + _ROWS]
        approximate = np.hstack([-2 * block, np.ones_like(block[:, :1])]) @ extended
        if same:
            approximate[np.arange(len(block)), np.arange(start, start + len(block))] = np.inf
        slack = _ROUNDING * (np.einsum("ij,ij->i", block, block) + squares.max())
        near = approximate <= (_bounds(approximate, k) + 2 * slack)[:, None]
        rows, columns = np.divmod(np.flatnonzero(near), len(points))
        exact = _distances(block, points, rows, columns)
        order = np.lexsort((columns, exact, rows))
        first = np.searchsorted(rows, np.arange(len(block)))  # the candidates come sorted by row
        kept = order[(first[:, None] + np.arange(k)).ravel()].reshape(len(block), k)
        indices[start : start + _ROWS] = columns[kept]
        distances[start : start + _ROWS] = exact[kept]
    return indices, distances


def _bounds(values: np.ndarray, k: int) -> np.ndarray:
    """(n_rows,): upper bounds of each row's k-th smallest value.

    The k-th smallest of the minima of disjoint groups: k groups hold a value no larger than it.
    """
    n_columns = values.shape[1]
    size = n_columns // max(_GROUPS, 4 * k)
    if size > 1:
        n_groups = n_columns // size
        values = values[:, : size * n_groups].reshape(len(values), size, n_groups).min(axis=1)
    return np.partition(values, k - 1, axis=1)[:, k - 1]


def _distances(queries: np.ndarray, points: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """float64 (n_pairs,): distances of the pairs (queries[rows], points[columns])."""
    result = np.empty(len(rows))
    # many identical cells make many candidates, so pairs come in pieces
    for start in range(0, len(rows), _PAIRS):
        piece = slice(start, start + _PAIRS)
        difference = points[columns[piece]].astype(np.float64) - queries[rows[piece]]
        result[piece] = np.sqrt(np.einsum("ij,ij->i", difference, difference))
    return result
