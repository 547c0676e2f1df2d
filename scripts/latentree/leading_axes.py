"""Leading axes of a sparse expression matrix without densifying it, for the distances of MAGIC.

Axes about the origin (truncated SVD), as MAGIC's authors take them on sparse matrices: one of
them is mean expression, the rest are principal components in all but name. Distances between cells
do not ask where the origin is, so nothing is centred and sparse and dense input give the same.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import linalg, sparse

Matrix: TypeAlias = sparse.csr_matrix | np.ndarray

# up to here the whole matrix of products between genes is cheaper than a subspace, and exact
_EXACT_UP_TO = 3000
_OVERSAMPLING = 10
_KRYLOV_STEPS = 5
_BLOCK = 2000  # rows densified at a time


def dense(x: Matrix) -> np.ndarray:
    """float32 array of the same shape; the matrix itself where it is one."""
    return np.asarray(x if isinstance(x, np.ndarray) else x.toarray(), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class LeadingAxes:
    """The axes along which some cells have the largest sums of squares.

    Parameters
    ----------
    axes
        float32 (n_genes, n_components), orthonormal, by falling sum of squares.
    """

    axes: np.ndarray

    @classmethod
    def fit(cls, x: Matrix, n_components: int, seed: int) -> "LeadingAxes":
        """Leading axes of ``x`` (n_cells, n_genes).

        Up to 3,000 genes by the eigenvectors of the genes' products; beyond that by a randomised
        block Krylov subspace (Musco and Musco, NeurIPS 2015), which ``seed`` starts, unless so many
        axes are asked for that the subspace would be the whole space.
        """
        n_genes = x.shape[1]
        n_subspace = (n_components + _OVERSAMPLING) * (_KRYLOV_STEPS + 1)
        if n_genes <= _EXACT_UP_TO or n_subspace > n_genes:
            axes = _leading_eigenvectors(_products(x), n_components)
        else:
            axes = _krylov_axes(x, n_components, np.random.default_rng(seed))
        return cls(np.ascontiguousarray(axes, dtype=np.float32))

    def scores(self, x: Matrix) -> np.ndarray:
        """float32 (n_cells, n_components): the rows along the axes."""
        return np.asarray(x @ self.axes, dtype=np.float32)


def _leading_eigenvectors(symmetric: np.ndarray, n: int) -> np.ndarray:
    size = len(symmetric)
    _, vectors = linalg.eigh(symmetric, subset_by_index=[size - n, size - 1])
    return vectors[:, ::-1]


def _products(x: Matrix) -> np.ndarray:
    """float64 (n_genes, n_genes): x.T @ x, in single precision within a block and double between blocks."""
    total = np.zeros((x.shape[1], x.shape[1]))
    for start in range(0, x.shape[0], _BLOCK):
        rows = dense(x[start : start + _BLOCK])
        total += rows.T @ rows
    return total


def _krylov_axes(x: Matrix, n_components: int, rng: np.random.Generator) -> np.ndarray:
    block = rng.standard_normal((x.shape[1], n_components + _OVERSAMPLING))
    basis = np.empty((x.shape[1], 0))
    images = np.empty((x.shape[1], 0))
    for _ in range(_KRYLOV_STEPS + 1):
        # twice is enough (Kahan): one pass leaves rounding along the old directions
        for _ in range(2):
            block = linalg.qr(block - basis @ (basis.T @ block), mode="economic")[0]
        image = np.asarray(x.T @ (x @ block.astype(np.float32)), dtype=np.float64)
        basis, images = np.hstack([basis, block]), np.hstack([images, image])
        block = image
    inner = basis.T @ images
    return basis @ _leading_eigenvectors((inner + inner.T) / 2, n_components)
