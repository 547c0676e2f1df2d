"""MAGIC: denoising by diffusion over a graph of similar cells (van Dijk et al., Cell 174:716, 2018).

Cells are compared along leading axes (see leading_axes.py). Cell i gives its j-th neighbour the affinity
exp(-(d_ij / b_i) ** decay), b_i the distance to its knn-th neighbour; affinities below 1e-4 and
beyond the knn_max nearest are zero, a cell's own is 1. The affinities are made symmetric by
averaging with their transpose, rows scaled to sum 1 (the operator M), and the denoised values
are M ** t times the values: t products of a sparse matrix with a few dense columns at a time.

Held-out cells are no part of the graph (`extend`): each is diffused as if it alone had
joined it. Its row of M holds itself and its nearest training cells, and because no training cell
looks back at it, step s takes M_new times the training cells' values after s - 1 steps plus the
own share times its own value so far. Two things differ from a training cell: the affinities have no
transposed half, and the training cells' values are not changed by it, which is the point.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from latentree.errors import InputError
from latentree.leading_axes import LeadingAxes, Matrix, dense
from latentree.neighbours import nearest_neighbours
from latentree.settings import MagicSettings

_THRESHOLD = 1e-4  # smallest affinity kept, as in the authors' code
_GENES = 128  # dense columns diffused at a time


@dataclass(frozen=True, eq=False)
class MagicGraph:
    """The graph of training cells and its diffusion operator.

    Parameters
    ----------
    settings
        knn, knn_max, decay, t, n_pca and seed are used.
    axes
        What takes expression to the space of distances; None where distances are taken on the values.
    origin
        float32 (n_dimensions,): mean of the training cells in that space.
    positions
        float32 (n_train, n_dimensions): the training cells in that space, less the origin.
    operator
        CSR float32 (n_train, n_train): M, rows sum to 1.
    """

    settings: MagicSettings
    axes: LeadingAxes | None
    origin: np.ndarray
    positions: np.ndarray
    operator: sparse.csr_matrix

    @classmethod
    def fit(cls, x: Matrix, settings: MagicSettings) -> "MagicGraph":
        """Graph of the cells in ``x`` (n_train, n_genes), log scale.

        All genes count for the distances. With ``n_pca: null`` they are taken on the values
        themselves, which makes a dense float32 copy.

        Raises
        ------
        InputError
            With ``knn + 1`` cells or fewer: the knn-th neighbour then says nothing about density.
        """
        n_cells, n_genes = x.shape
        if n_cells < settings.knn + 2:
            raise InputError(
                "environments.magic.knn",
                f"{settings.knn} neighbours of each cell, but there are only {n_cells} training cells",
                f"Lower knn to {max(1, n_cells - 2)} or less, or set t: 0 for no denoising",
            )
        axes = None
        if settings.n_pca is not None and settings.n_pca < n_genes:
            axes = LeadingAxes.fit(x, min(settings.n_pca, n_cells - 1), settings.seed)
        positions = _positions(x, axes)
        # far from the origin float32 distances lose digits
        origin = positions.mean(axis=0)
        positions = positions - origin
        affinities = _affinities(positions, positions, settings, same=True)
        shares, own_share = _normalised((affinities + affinities.T) / 2, own=np.ones(n_cells))
        operator = sparse.csr_matrix(shares + sparse.diags(own_share), dtype=np.float32)
        return cls(settings, axes, origin, positions, operator)

    def denoise(self, genes: Matrix, rows: np.ndarray | None = None) -> np.ndarray:
        """Denoised values of the training cells.

        Parameters
        ----------
        genes
            (n_train, n_chosen): values of the chosen genes in all training cells, any scale.
        rows
            Positions of the cells whose values are wanted; all where None. The others still take
            part, but no memory goes to them.

        Returns
        -------
        float32 (n_rows, n_chosen).
        """
        self._check_rows(genes)
        rows = np.arange(genes.shape[0]) if rows is None else np.asarray(rows, dtype=np.int64)
        last_step = self.operator if len(rows) == genes.shape[0] else self.operator[rows]
        result = np.empty((len(rows), genes.shape[1]), dtype=np.float32)
        for columns, values in _gene_blocks(genes):
            if self.settings.t == 0:
                result[:, columns] = values[rows]
                continue
            for _ in range(self.settings.t - 1):
                values = self.operator @ values
            result[:, columns] = last_step @ values
        return result

    def extend(self, x_new: Matrix, genes_new: Matrix, genes: Matrix) -> np.ndarray:
        """Denoised values of cells that are no part of the graph.

        Parameters
        ----------
        x_new
            (n_new, n_genes): the cells, all genes that the graph was fitted on.
        genes_new
            (n_new, n_chosen): their values of the chosen genes.
        genes
            (n_train, n_chosen): the training cells' values of the same genes.

        Returns
        -------
        float32 (n_new, n_chosen).
        """
        self._check_rows(genes)
        positions = _positions(x_new, self.axes) - self.origin
        shares, own_share = _normalised(
            _affinities(positions, self.positions, self.settings, same=False), own=np.ones(len(positions))
        )
        shares, own_share = shares.astype(np.float32), own_share.astype(np.float32)[:, None]
        result = np.empty(genes_new.shape, dtype=np.float32)
        for (columns, values), (_, values_new) in zip(
            _gene_blocks(genes), _gene_blocks(genes_new), strict=True
        ):
            for step in range(self.settings.t):
                values_new = shares @ values + own_share * values_new
                if step < self.settings.t - 1:
                    values = self.operator @ values
            result[:, columns] = values_new
        return result

    def _check_rows(self, genes: Matrix) -> None:
        if genes.shape[0] != self.operator.shape[0]:
            raise InputError(
                "genes",
                f"{genes.shape[0]} rows for a graph of {self.operator.shape[0]} cells",
                "Give the values of the cells that the graph was fitted on, in their order",
            )


def _positions(x: Matrix, axes: LeadingAxes | None) -> np.ndarray:
    if axes is not None:
        return axes.scores(x)
    return dense(x)


def _affinities(
    positions: np.ndarray, points: np.ndarray, settings: MagicSettings, *, same: bool
) -> sparse.csr_matrix:
    """CSR float64 (n_cells, n_points): affinity of each cell to its nearest points, itself left out."""
    n_points = len(points)
    wanted = settings.knn if settings.decay is None else settings.knn_max or 3 * settings.knn
    k = min(wanted, n_points - same)
    neighbours, distances = nearest_neighbours(positions, points, k, same=same)
    if settings.decay is None:
        values = np.ones_like(distances)
    else:
        bandwidth = distances[:, [settings.knn - 1]]
        # identical cells: 0 / 0 is as near as can be, anything farther is out of reach
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.exp(
                -(np.nan_to_num(distances / bandwidth, nan=0.0, posinf=math.inf) ** settings.decay)
            )
        values[values < _THRESHOLD] = 0.0
    starts = np.arange(0, values.size + 1, k)
    affinities = sparse.csr_matrix(
        (values.ravel(), neighbours.ravel(), starts), shape=(len(positions), n_points)
    )
    affinities.eliminate_zeros()
    return affinities


def _normalised(affinities: sparse.csr_matrix, own: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Rows of the affinities to others and the cell's own (n_cells,), scaled to sum 1 together."""
    total = np.asarray(affinities.sum(axis=1)).ravel() + own
    return sparse.diags(1 / total) @ affinities, own / total


def _gene_blocks(genes: Matrix) -> Iterator[tuple[slice, np.ndarray]]:
    """Slices of columns and their values, dense float32 (n_cells, at most _GENES)."""
    for start in range(0, genes.shape[1], _GENES):
        columns = slice(start, min(start + _GENES, genes.shape[1]))
        yield columns, dense(genes[:, columns])
