"""Principal axes of a sparse matrix without densifying it, for the distances of MAGIC."""

from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse

Matrix = sparse.csr_matrix | np.ndarray

# up to here the whole covariance matrix is cheaper than a subspace, and exact
_EXACT_UP_TO = 3000
_OVERSAMPLING = 10
_KRYLOV_STEPS = 5
_BLOCK = 2000  # rows densified at a time


@dataclass(frozen=True, eq=False)
class PrincipalAxes:
    """Mean and leading principal axes of some cells.

    Parameters
    ----------
    mean
        float32 (n_genes,).
    axes
        float32 (n_genes, n_components), orthonormal, by falling variance.
    """

    mean: np.ndarray
    axes: np.ndarray

    @classmethod
    def fit(cls, x: Matrix, n_components: int, seed: int) -> "PrincipalAxes":
        """Principal axes of ``x`` (n_cells, n_genes).

        Up to 3,000 genes by the eigenvectors of the covariance matrix; beyond that by a randomised
        block Krylov subspace (Musco and Musco, NeurIPS 2015), which ``seed`` starts.
        """
        mean = np.asarray(x.mean(axis=0), dtype=np.float64).ravel()
        if x.shape[1] <= _EXACT_UP_TO:
            axes = _leading_eigenvectors(_covariance(x, mean), n_components)
        else:
            axes = _krylov_axes(x, mean, n_components, np.random.default_rng(seed))
        return cls(mean.astype(np.float32), np.ascontiguousarray(axes, dtype=np.float32))

    def scores(self, x: Matrix) -> np.ndarray:
        """float32 (n_cells, n_components): centred rows along the axes."""
        return np.asarray(x @ self.axes, dtype=np.float32) - self.mean @ self.axes


def _leading_eigenvectors(symmetric: np.ndarray, n: int) -> np.ndarray:
    size = len(symmetric)
    _, vectors = linalg.eigh(symmetric, subset_by_index=[size - n, size - 1])
    return vectors[:, ::-1]


def _covariance(x: Matrix, mean: np.ndarray) -> np.ndarray:
    """float64 (n_genes, n_genes), up to a factor n_cells."""
    total = np.zeros((x.shape[1], x.shape[1]))
    for start in range(0, x.shape[0], _BLOCK):
        rows = x[start : start + _BLOCK]
        dense = np.asarray(rows.toarray() if sparse.issparse(rows) else rows, dtype=np.float32)
        # float32 products of centred rows, summed in float64, keep small axes apart
        dense = dense - mean.astype(np.float32)
        total += dense.T @ dense
    return total


def _krylov_axes(x: Matrix, mean: np.ndarray, n_components: int, rng: np.random.Generator) -> np.ndarray:
    width = n_components + _OVERSAMPLING
    block = rng.standard_normal((x.shape[1], width))
    basis = np.empty((x.shape[1], 0))
    images = np.empty((x.shape[1], 0))
    for _ in range(_KRYLOV_STEPS + 1):
        # twice is enough (Kahan): one pass leaves rounding along the old directions
        for _ in range(2):
            block = linalg.qr(block - basis @ (basis.T @ block), mode="economic")[0]
        image = _covariance_times(x, mean, block)
        basis, images = np.hstack([basis, block]), np.hstack([images, image])
        block = image
    inner = basis.T @ images
    return basis @ _leading_eigenvectors((inner + inner.T) / 2, n_components)


def _covariance_times(x: Matrix, mean: np.ndarray, block: np.ndarray) -> np.ndarray:
    projected = np.asarray(x @ block.astype(np.float32)) - (mean @ block).astype(np.float32)
    image = np.asarray(x.T @ projected, dtype=np.float64)
    return image - np.outer(mean, projected.sum(axis=0, dtype=np.float64))
