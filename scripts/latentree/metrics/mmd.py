"""How far two samples are from one law: maximum mean discrepancy."""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.spatial.distance import cdist, pdist

from latentree.metrics.sampling import subsample

# rows of a block of distances times columns: 32 MB of float64
_BLOCK = 4_000_000
_MEDIAN_POINTS = 2000


def mmd(
    x: np.ndarray,
    y: np.ndarray,
    scales: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0),
    bandwidth: float | None = None,
) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy (Gretton et al., JMLR 13:723, 2012, Eq. 3).

    Mean over the scales s of Gaussian kernels ``exp(-||a - b||^2 / (2 (s h)^2))``, so that 2 is the largest
    value there can be; 0 in expectation for two samples of one law, and then often below 0.

    Parameters
    ----------
    x, y
        Samples, shape (n, d) and (m, d), at least two points each. ``x`` is the reference, such as the data.
    scales
        Multiples of the bandwidth.
    bandwidth
        h; None: the median distance between points of ``x`` (:func:`median_distance`). It does not depend on
        ``y``, so that several models' samples are compared with the same data by the same kernel.

    Raises
    ------
    ValueError
        With fewer points, another number of dimensions, values that are not finite, or a bandwidth of 0.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(f"two samples of the same dimension are needed, not {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("a sample holds values that are not finite")
    h = median_distance(x) if bandwidth is None else bandwidth
    if not h > 0:
        raise ValueError(f"the bandwidth must be above 0, not {h}; half of the points may be the same")
    rates = 1 / (2 * (h * np.asarray(scales, dtype=np.float64)) ** 2)
    n, m = len(x), len(y)
    # every point's kernel with itself is 1 and does not count
    within = (_kernel_sum(x, x, rates) - n) / (n * (n - 1)) + (_kernel_sum(y, y, rates) - m) / (m * (m - 1))
    return float(within - 2 * _kernel_sum(x, y, rates) / (n * m))


def median_distance(x: np.ndarray) -> float:
    """Median Euclidean distance between the points of a sample; of more than 2,000 points so many are drawn.

    Parameters
    ----------
    x
        Shape (n, d), at least two points.
    """
    points = np.asarray(x, dtype=np.float64)
    return float(np.median(pdist(points[subsample(len(points), _MEDIAN_POINTS, seed=0)])))


def _kernel_sum(a: np.ndarray, b: np.ndarray, rates: np.ndarray) -> float:
    """Sum over all pairs of the kernel averaged over the rates."""
    total = 0.0
    for squared in _blocks(a, b):
        total += sum(float(np.exp(-rate * squared).sum()) for rate in rates)
    return total / len(rates)


def _blocks(a: np.ndarray, b: np.ndarray) -> Iterator[np.ndarray]:
    rows = max(1, _BLOCK // len(b))
    for start in range(0, len(a), rows):
        yield cdist(a[start : start + rows], b, "sqeuclidean")
