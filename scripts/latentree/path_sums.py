"""Sums of changes along the paths of a tree; time and memory grow with its nodes, whatever its shape."""

import numpy as np
import torch
from scipy import sparse


class PathSums:
    """The product of the path matrix with changes, and its transpose, without the matrix.

    In an order of the nodes in which every subtree is a range (preorder), a branch adds its change to
    the environments from the first to the last below it: the weights are running sums of what begins
    minus what has ended, and the gradients of the changes are differences of running sums. A matrix of
    paths would have as many entries as all paths have branches: half of the squared number of nodes in
    a tree that is one long comb. Running sums are kept in float64.

    Parameters
    ----------
    parents
        (n_nodes,) position of each node's parent, -1 for the root, parents before children.
    nodes
        (n_environments,) positions of the nodes whose sums are wanted, in any order.
    """

    def __init__(self, parents: np.ndarray, nodes: np.ndarray) -> None:
        start = preorder_positions(parents)
        end = start + subtree_sizes(parents)
        placed = start[nodes]
        order = np.argsort(placed, kind="stable")
        # environments below a branch: a range of their ranks
        first, last = (np.searchsorted(placed[order], edge[1:]) for edge in (start, end))
        self.n_environments, self.n_branches = len(nodes), len(parents) - 1
        arcs = np.arange(self.n_branches)
        shape = (self.n_environments + 1, self.n_branches)
        entries = np.concatenate([np.ones(self.n_branches), -np.ones(self.n_branches)])
        edges = sparse.csr_matrix(
            (entries, (np.concatenate([first, last]), np.concatenate([arcs, arcs]))), shape=shape
        )
        self._steps = edges[:-1].tocsr()  # what begins and ends at each rank; nothing is needed past the last
        self._back = (-edges.T).tocsr()
        self._sorted = bool((order == np.arange(len(nodes))).all())
        self._order = order
        self._rank = np.argsort(order, kind="stable")

    def forward(self, changes: np.ndarray) -> np.ndarray:
        """Sums of (n_branches, n_latents) changes on each environment's path, (n_environments, n_latents)."""
        steps = self._steps @ changes.astype(np.float64, copy=False)
        sums: np.ndarray = torch.cumsum(torch.from_numpy(steps), dim=0).numpy()
        return sums if self._sorted else sums[self._rank]

    def backward(self, gradient: np.ndarray) -> np.ndarray:
        """The transpose: (n_environments, n_latents) to sums over the environments below each branch."""
        pulled = gradient if self._sorted else gradient[self._order]
        running = np.zeros((self.n_environments + 1, gradient.shape[1]))
        torch.cumsum(torch.from_numpy(pulled), dim=0, dtype=torch.float64, out=torch.from_numpy(running[1:]))
        below: np.ndarray = self._back @ running
        return below


def subtree_sizes(parents: np.ndarray) -> np.ndarray:
    """Nodes at and below each node, int64 (n_nodes,); parents come before children."""
    sizes = [1] * len(parents)
    above = parents.tolist()
    for node in range(len(sizes) - 1, 0, -1):
        sizes[above[node]] += sizes[node]
    return np.array(sizes, dtype=np.int64)


def preorder_positions(parents: np.ndarray) -> np.ndarray:
    """Place of each node in a preorder, int64 (n_nodes,); children keep the order in which they stand."""
    sizes = subtree_sizes(parents).tolist()
    place = [0] * len(parents)
    free = [1] * len(parents)  # the next free place below each node
    for node, parent in enumerate(parents.tolist()):
        if parent >= 0:
            place[node] = free[parent]
            free[parent] += sizes[node]
        free[node] = place[node] + 1
    return np.array(place, dtype=np.int64)
