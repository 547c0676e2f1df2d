"""Second moments of latents and phenotype in every environment, in one pass over the cells."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from latentree.tbr.disk_inputs import DiskInputs
from latentree.tbr.phi import Phi

_CHUNK = 8192
_CHUNK_BYTES = 2**26  # fewer cells at a time where the inputs are many


@dataclass(frozen=True)
class Moments:
    """Sums over the cells of each environment; all that least squares needs.

    The latents have a constant 1 appended, so that intercepts are weights like the others.

    Parameters
    ----------
    gram
        float64 (n_environments, n_latents + 1, n_latents + 1): sums of z z'.
    cross
        float64 (n_environments, n_latents + 1): sums of z y.
    square
        float64 (n_environments,): sums of y^2.
    n_cells
        float64 (n_environments,).
    """

    gram: np.ndarray
    cross: np.ndarray
    square: np.ndarray
    n_cells: np.ndarray

    def mse(self, weights: np.ndarray) -> float:
        """Mean squared error over all cells; weights are (n_environments, n_latents + 1)."""
        fitted = np.einsum("ei,eij,ej->", weights, self.gram, weights)
        error = self.square.sum() - 2 * (weights * self.cross).sum() + fitted
        return float(max(error, 0.0) / self.n_cells.sum())

    def mean(self) -> np.ndarray:
        """Mean of the latents over all cells, (n_latents,)."""
        mean: np.ndarray = self.gram[:, -1, :-1].sum(axis=0) / self.n_cells.sum()
        return mean

    def covariance(self) -> np.ndarray:
        """Covariance of the latents over all cells, (n_latents, n_latents)."""
        square = self.gram[:, :-1, :-1].sum(axis=0) / self.n_cells.sum()
        covariance: np.ndarray = square - np.outer(self.mean(), self.mean())
        return covariance

    def without_intercept(self) -> "Moments":
        """The same moments for a model whose intercept is 0."""
        gram, cross = self.gram.copy(), self.cross.copy()
        gram[:, -1, :-1] = gram[:, :-1, -1] = cross[:, -1] = 0
        return Moments(gram, cross, self.square, self.n_cells)

    def mixed(self, matrix: np.ndarray, centre: np.ndarray | None = None) -> "Moments":
        """The moments of the latents ``matrix @ (z - centre)``."""
        full = np.eye(len(matrix) + 1)
        full[:-1, :-1] = matrix
        if centre is not None:
            full[:-1, -1] = -matrix @ centre
        return Moments(full @ self.gram @ full.T, self.cross @ full.T, self.square, self.n_cells)


def collect(
    phi: Phi,
    X: np.ndarray | DiskInputs,
    y: np.ndarray,
    codes: np.ndarray,
    cells: np.ndarray,
    n_environments: int,
) -> Moments:
    """Moments of the cells in one streaming pass.

    Parameters
    ----------
    X, y, codes
        Inputs (n_cells, n_inputs) in memory or on disk, phenotype (n_cells,), environment number (n_cells,).
    cells
        int64: rows that count, ascending so that reading is sequential.
    """
    size = phi.last.out_features + 1
    # one row per environment: gram flattened, then cross, then square and count
    sums = np.zeros((n_environments, size * size + size + 2))
    chunk = min(_CHUNK, max(1, _CHUNK_BYTES // (4 * X.shape[1])))
    for start in range(0, len(cells), chunk):
        rows = cells[start : start + chunk]
        z = np.concatenate([phi.latents(X[rows]), np.ones((len(rows), 1))], axis=1)
        target = y[rows].astype(np.float64)[:, None]
        products = (z[:, :, None] * z[:, None, :]).reshape(len(rows), -1)
        values = np.concatenate([products, z * target, target**2, np.ones_like(target)], axis=1)
        # few of many environments have cells here
        present, which = np.unique(codes[rows], return_inverse=True)
        member = sparse.csr_matrix(
            (np.ones(len(rows)), (which, np.arange(len(rows)))), shape=(len(present), len(rows))
        )
        sums[present] += member @ values
    gram, cross, square, n_cells = np.split(sums, np.cumsum([size * size, size, 1]), axis=1)
    return Moments(gram.reshape(-1, size, size), cross, square[:, 0], n_cells[:, 0])
