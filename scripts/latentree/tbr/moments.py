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

    @classmethod
    def zero(cls, size: int, n_environments: int) -> "Moments":
        """The moments of no cells; size is n_latents + 1."""
        shapes = (size, size), (size,), (), ()
        return cls(*(np.zeros((n_environments, *shape)) for shape in shapes))

    def add(
        self, z: np.ndarray, y: np.ndarray, codes: np.ndarray, importance: np.ndarray | None = None
    ) -> None:
        """Add cells.

        Parameters
        ----------
        z
            (n_cells, n_latents + 1), with the constant.
        y, codes
            (n_cells,).
        importance
            (n_cells,) weight of each cell in the sums; 1 where it is None. ``n_cells`` counts cells.
        """
        n_rows, size = z.shape
        target = y.astype(np.float64)[:, None]
        products = (z[:, :, None] * z[:, None, :]).reshape(n_rows, -1)
        values = np.concatenate([products, z * target, target**2], axis=1)
        if importance is not None:
            values *= importance[:, None]
        # few of many environments have cells here
        present, which = np.unique(codes, return_inverse=True)
        member = sparse.csr_matrix(
            (np.ones(n_rows), (which, np.arange(n_rows))), shape=(len(present), n_rows)
        )
        gram, cross, square = np.split(member @ values, [size * size, size * size + size], axis=1)
        self.gram[present] += gram.reshape(-1, size, size)
        self.cross[present] += cross
        self.square[present] += square[:, 0]
        self.n_cells[present] += member.sum(axis=1).A1 if importance is None else member @ importance

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
    total = Moments.zero(phi.last.out_features + 1, n_environments)
    chunk = min(_CHUNK, max(1, _CHUNK_BYTES // (4 * X.shape[1])))
    for start in range(0, len(cells), chunk):
        rows = cells[start : start + chunk]
        total.add(with_constant(phi.latents(X[rows])), y[rows], codes[rows])
    return total


def with_constant(z: np.ndarray) -> np.ndarray:
    """Latents (n_cells, n_latents) with a constant 1 appended, float64."""
    return np.concatenate([z, np.ones((len(z), 1))], axis=1)
