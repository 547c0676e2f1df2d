"""Which branches of the tree the observed environments can tell apart."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from latentree.path_sums import PathSums
from latentree.tree import Tree


@dataclass(frozen=True)
class Branches:
    """The tree as far as its branches are identified by the environments that have cells.

    Three things are not: branches without any observed environment below them (left out), single
    branches of a chain through unobserved nodes (only their sum is), and the two branches below an
    unobserved root (only their difference is; the second one carries it, and the root has the
    weights of the first child).

    Parameters
    ----------
    tree
        The whole tree.
    reduced
        The tree of the identified branches; a subset of the nodes of ``tree``.
    environments
        The observed nodes, in the order of ``reduced``.
    carried_by
        For each branch of ``tree`` (same order as ``tree.arcs``) the branch of ``reduced`` that
        holds its change, "" where no branch does.
    """

    tree: Tree
    reduced: Tree
    environments: tuple[str, ...]
    carried_by: tuple[str, ...]

    @classmethod
    def identified(cls, tree: Tree, observed: Collection[str]) -> "Branches":
        """Reduce the tree to what the observed nodes identify."""
        known = set(observed)
        pruned = _pruned(tree, known)
        contracted = pruned.contracted(known)
        reduced, first, second = _without_unobserved_root(contracted, known)
        # what lies above the root of the reduced tree moves all weights alike
        carrier = {first: second, contracted.root: ""}
        below = _first_kept(tree, pruned, contracted)
        carried_by = tuple(carrier.get(below[name], below[name]) for name in tree.arcs)
        names = tuple(name for name in reduced.names if name in known)
        return cls(tree, reduced, names, carried_by)

    @cached_property
    def nodes(self) -> np.ndarray:
        """Positions in ``reduced`` of the environments, int64 (n_environments,)."""
        return np.array([self.reduced.index[name] for name in self.environments], dtype=np.int64)

    @cached_property
    def paths(self) -> PathSums:
        """Sums along the paths of the environments."""
        return PathSums(self.reduced.parents, self.nodes)

    def in_whole_tree(self, changes: np.ndarray) -> np.ndarray:
        """Changes of ``reduced`` (n_branches, n_latents) as rows for every branch of ``tree``.

        Rows of branches that another one carries are zero, so that sums along the paths of ``tree``
        give the weights of the environments.
        """
        full = np.zeros((len(self.tree.arcs), changes.shape[1]), dtype=changes.dtype)
        full[[self.tree.index[name] - 1 for name in self.reduced.arcs]] = changes
        return full

    def contrasts(self) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of neighbouring environments, whose weights differ by few changes.

        Every environment is paired with its nearest one above, or, below an unobserved node, with
        its nearest sibling lineage; the pairs join all environments.

        Returns
        -------
        Positions in ``environments``, int64 (n_environments - 1, 2), and the number of branches
        between the two, int64 (n_environments - 1,).
        """
        row = {node: i for i, node in enumerate(self.nodes.tolist())}
        # for each node the nearest environment in its subtree, and how many branches down it is
        nearest: list[tuple[int, int] | None] = [None] * self.reduced.n_nodes
        children: list[list[int]] = [[] for _ in range(self.reduced.n_nodes)]
        for node, parent in enumerate(self.reduced.parents.tolist()):
            if parent >= 0:
                children[parent].append(node)
        pairs, steps = [], []
        for node in reversed(range(self.reduced.n_nodes)):
            below = sorted((nearest[c][1] + 1, nearest[c][0]) for c in children[node])  # type: ignore[index]
            own = (0, row[node]) if node in row else below.pop(0)
            nearest[node] = (own[1], own[0])
            pairs += [(own[1], other) for _, other in below]
            steps += [own[0] + length for length, _ in below]
        return np.array(pairs, dtype=np.int64).reshape(-1, 2), np.array(steps, dtype=np.int64)


def _pruned(tree: Tree, observed: set[str]) -> Tree:
    """The tree without subtrees that hold no observed node."""
    keep = np.array([name in observed for name in tree.names])
    for node in reversed(range(1, tree.n_nodes)):
        keep[tree.parents[node]] |= keep[node]
    rank = np.cumsum(keep) - 1
    parents = np.where(tree.parents >= 0, rank[tree.parents], -1)[keep]
    names = tuple(name for name, kept in zip(tree.names, keep, strict=True) if kept)
    return Tree(names, parents, tree.branch_lengths[keep])


def _without_unobserved_root(tree: Tree, observed: set[str]) -> tuple[Tree, str, str]:
    """Join the two branches below an unobserved root: its first child becomes the root.

    Returns the tree and the names of the first and the second child, "" where nothing was joined.
    """
    children = np.flatnonzero(tree.parents == 0)
    if tree.root in observed or len(children) != 2:
        return tree, "", ""
    # nodes are sorted parents first, but the first child need not be second in the order
    first, second = (int(child) for child in children)
    order = [first, *(node for node in range(1, tree.n_nodes) if node != first)]
    rank = {node: i for i, node in enumerate(order)}
    parents = [rank[int(tree.parents[node])] if tree.parents[node] > 0 else 0 for node in order]
    parents[0] = -1
    lengths = tree.branch_lengths[order].copy()
    lengths[rank[second]] += tree.branch_lengths[first]
    names = tuple(tree.names[node] for node in order)
    return Tree(names, np.array(parents), lengths), tree.names[first], tree.names[second]


def _first_kept(tree: Tree, pruned: Tree, contracted: Tree) -> dict[str, str]:
    """For each node the first node at or below it that contraction kept; "" where it was pruned."""
    below = dict.fromkeys(tree.names, "")
    for node in reversed(range(pruned.n_nodes)):
        name = pruned.names[node]
        if name in contracted.index:
            below[name] = name
        if node > 0:
            parent = pruned.names[pruned.parents[node]]
            # a node that contraction removed has one child only
            below[parent] = parent if parent in contracted.index else below[name]
    return below
