"""Least squares and the lasso for the weights of all nodes of a tree, from second moments."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import SuperLU, splu

from latentree.tbr.moments import Moments
from latentree.tbr.structure import Branches

_ITERATIONS = 400
_TOLERANCE = 1e-4
_OVER_RELAXATION = 1.6


@dataclass(frozen=True)
class TreeProblem:
    """Least squares for the weights of all nodes of the tree at once.

    With H block diagonal (twice the mean Gram matrix of an environment, times the number of
    environments) and b alike, the mean squared error is ``(w' H w / 2 - b' w) / n_environments``
    up to a constant; w holds the weights of every node, intercept last.

    Parameters
    ----------
    hessian
        CSC (n_nodes * size, n_nodes * size), ``size`` = n_latents + 1.
    linear
        (n_nodes * size,).
    differences
        CSR (n_branches * size, n_nodes * size): child minus parent.
    size
        n_latents + 1.
    """

    hessian: sparse.csc_matrix
    linear: np.ndarray
    differences: sparse.csr_matrix
    size: int
    parents: np.ndarray

    @classmethod
    def build(cls, moments: Moments, branches: Branches) -> "TreeProblem":
        """The problem of the identified branches."""
        size = moments.cross.shape[1]
        n_nodes = branches.reduced.n_nodes
        unit = 2 * len(branches.nodes) / moments.n_cells.sum()
        # block structure: environment e sits at rows nodes[e] * size, ...
        rows = branches.nodes[:, None] * size + np.arange(size)
        hessian = sparse.csc_matrix(
            (
                unit * moments.gram.ravel(),
                (np.repeat(rows, size, axis=1).ravel(), np.tile(rows, (1, size)).ravel()),
            ),
            shape=(n_nodes * size, n_nodes * size),
        )
        linear = np.zeros(n_nodes * size)
        linear[rows] = unit * moments.cross
        parents = branches.reduced.parents
        arcs = np.arange(n_nodes - 1)
        ones = np.ones(n_nodes - 1)
        incidence = sparse.csr_matrix(
            (
                np.concatenate([ones, -ones]),
                (np.concatenate([arcs, arcs]), np.concatenate([arcs + 1, parents[1:]])),
            ),
            shape=(n_nodes - 1, n_nodes),
        )
        return cls(hessian, linear, sparse.kron(incidence, sparse.eye(size), format="csr"), size, parents)

    def sparse_fit(self, penalty: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Minimise the mean squared error plus the penalised L1 norm of the changes.

        Parameters
        ----------
        penalty
            (n_branches, size): infinite where no change is allowed.
        start
            (n_nodes, size): weights to start from.

        Returns
        -------
        bool (n_branches, size): which changes are not zero.
        """
        free = np.isfinite(penalty)
        if not free.any():
            return free
        expand = self._expansion(free)
        differences = (self.differences[free.ravel()] @ expand).tocsr()
        linear = expand.T @ self.linear
        # measured: with this weight of the squared gap some 50 iterations do, with 1 ten times as many
        step = float(np.clip(10 * penalty[free].max(), 3, 10))
        threshold = penalty[free] / step
        factor = _factor(expand.T @ self.hessian @ expand + step * (differences.T @ differences))
        changes = (self.differences @ start.ravel())[free.ravel()]
        dual = np.zeros_like(changes)
        for _ in range(_ITERATIONS):
            raw = differences @ factor.solve(linear + step * (differences.T @ (changes - dual)))
            relaxed = _OVER_RELAXATION * raw + (1 - _OVER_RELAXATION) * changes
            before = changes
            moved = relaxed + dual
            changes = np.sign(moved) * np.maximum(np.abs(moved) - threshold, 0.0)
            dual = moved - changes
            gap = max(np.abs(raw - changes).max(initial=0), np.abs(changes - before).max(initial=0))
            if gap < _TOLERANCE:
                break
        found = np.zeros(penalty.shape, dtype=bool)
        found[free] = changes != 0
        return found

    def refit(self, allowed: np.ndarray, ridge: float, *, root_ridge: float = 0.0) -> np.ndarray:
        """Least squares for all weights where only the allowed changes may differ from zero.

        Parameters
        ----------
        allowed
            bool (n_branches, size).
        ridge
            Small weight of the squared changes, which decides where the cells do not: in
            environments with fewer cells than latents and at unobserved nodes.
        root_ridge
            The same for the root's squared weights, without the intercept.

        Returns
        -------
        float64 (n_nodes, size); equal to the last bit across a branch without change.
        """
        expand = self._expansion(allowed)
        root = np.zeros(len(self.linear))
        root[: self.size - 1] = root_ridge
        curvature = self.hessian + ridge * (self.differences.T @ self.differences) + sparse.diags(root)
        # the last term keeps collinear latents solvable and moves nothing else
        tiny = 1e-9 * self.hessian.diagonal().max() * sparse.eye(expand.shape[1])
        solution = _factor(expand.T @ curvature @ expand + tiny).solve(expand.T @ self.linear)
        return (expand @ solution).reshape(-1, self.size)

    def _expansion(self, allowed: np.ndarray) -> sparse.csr_matrix:
        """CSR (n_nodes * size, n_unknowns): nodes joined by branches without change share one unknown.

        The unknowns are sorted by their highest nodes, children before parents, which is an order in
        which a tree's equations can be solved without new entries.
        """
        n_nodes = len(self.parents)
        own = np.concatenate([np.ones((1, self.size), dtype=bool), allowed])
        # the highest node that each one's weight reaches up to, found by ever longer jumps
        top = np.where(own, np.arange(n_nodes)[:, None], self.parents[:, None])
        columns = np.arange(self.size)
        while not np.array_equal(top, further := top[top, columns]):
            top = further
        n_unknowns = int(own.sum())
        number = n_unknowns - np.cumsum(own.ravel()).reshape(own.shape)
        group = number[top, columns].ravel()
        return sparse.csr_matrix(
            (np.ones(group.size), (np.arange(group.size), group)), shape=(group.size, n_unknowns)
        )


def _factor(matrix: sparse.spmatrix) -> SuperLU:
    """Factors of a symmetric positive definite matrix whose order is good as it is."""
    options = {"SymmetricMode": True}
    return splu(matrix.tocsc(), permc_spec="NATURAL", diag_pivot_thresh=0.0, options=options)
