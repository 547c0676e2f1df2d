"""Rooted tree of environments (cell types): from a dendrogram, Newick or a table; paths and distances."""

import io
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from latentree.errors import InputError, listed
from latentree.newick import format_newick, parse_newick
from latentree.tree_nodes import check_lengths, check_names, preorder, table_columns, with_names

if TYPE_CHECKING:
    from anndata import AnnData

_NEWICK_SUFFIXES = (".nwk", ".newick", ".nh", ".tree")
_TABLE_SEPARATORS = {".tsv": "\t", ".txt": "\t", ".csv": ","}


@dataclass(frozen=True, eq=False)
class Tree:
    """A rooted tree whose nodes are environments; a branch is named by its child node.

    Parameters
    ----------
    names
        n_nodes different names, root first, every parent before its children.
    parents
        int64 (n_nodes,): position of each node's parent, -1 for the root.
    branch_lengths
        float64 (n_nodes,): length of the branch above each node, nan where unknown, 0 for the root.
        From a dendrogram: difference of the merge heights (1 - Pearson correlation) of its two ends.
    """

    names: tuple[str, ...]
    parents: np.ndarray
    branch_lengths: np.ndarray

    def __post_init__(self) -> None:
        names = tuple(self.names)
        parents = np.array(self.parents, dtype=np.int64)
        lengths = np.array(self.branch_lengths, dtype=np.float64)
        check_names(names, "tree")
        ordered = len(names) == len(parents) == len(lengths) and parents[0] == -1
        if not ordered or not np.all((parents[1:] >= 0) & (parents[1:] < np.arange(1, len(names)))):
            raise InputError(
                "tree",
                "parents are not the positions of earlier nodes, with -1 for the first alone",
                "Build trees with Tree.from_table, which sorts the nodes",
            )
        check_lengths(names, lengths, "tree")
        lengths[0] = 0.0
        for array in (parents, lengths):
            array.setflags(write=False)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "parents", parents)
        object.__setattr__(self, "branch_lengths", lengths)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Tree)
            and self.names == other.names
            and np.array_equal(self.parents, other.parents)
            and np.array_equal(self.branch_lengths, other.branch_lengths, equal_nan=True)
        )

    def __hash__(self) -> int:
        return hash((self.names, self.parents.tobytes()))

    # ---- where trees come from

    @classmethod
    def from_dendrogram(
        cls, adata: "AnnData", key: str, *, linkage: str = "complete", n_pcs: int = 50
    ) -> "Tree":
        """Scanpy's dendrogram of the cell types in ``adata.obs[key]``, leaves = types, last merge = root.

        Training cells only where ``obs["split"]`` is there, modelled genes only where
        ``var["modelled"]`` is; see :func:`latentree.dendrogram.type_linkage`.
        """
        from latentree.dendrogram import type_linkage  # scanpy is heavy, and other trees do not need it

        return cls.from_linkage(*type_linkage(adata, key, linkage=linkage, n_pcs=n_pcs))

    @classmethod
    def from_linkage(cls, Z: np.ndarray, labels: Sequence[str]) -> "Tree":
        """Tree of a SciPy linkage matrix.

        Parameters
        ----------
        Z
            (n_leaves - 1, 4) float: row i merges nodes Z[i, 0] and Z[i, 1] at height Z[i, 2] into node
            n_leaves + i. Ids below n_leaves index ``labels``.
        labels
            Names of the leaves. Merges are named node1 (the root), node2, ... from the root down.
        """
        Z = np.asarray(Z, dtype=np.float64)
        n_leaves = len(labels)
        if n_leaves < 2 or Z.shape != (n_leaves - 1, 4):
            raise InputError(
                "linkage",
                f"a matrix of shape {Z.shape} for {n_leaves} labels",
                "Give at least 2 labels and a matrix of shape (labels - 1, 4)",
            )
        n_nodes = 2 * n_leaves - 1
        parents = np.full(n_nodes, -1, dtype=np.int64)
        parents[Z[:, :2].astype(np.int64)] = np.arange(n_leaves, n_nodes)[:, None]
        heights = np.concatenate([np.zeros(n_leaves), Z[:, 2]])
        lengths = np.where(parents >= 0, heights[parents] - heights, 0.0)
        # rounding inside SciPy can make a child a hair higher than its parent
        lengths[(lengths < 0) & (lengths > -1e-9)] = 0.0
        names: list[str | None] = [*(str(label) for label in labels), *([None] * (n_leaves - 1))]
        return cls._sorted(names, parents.tolist(), lengths.tolist(), "linkage")

    @classmethod
    def from_newick(cls, text: str, source: str = "Newick") -> "Tree":
        """Tree of a Newick text; internal nodes without a name get one. ``source`` is for messages."""
        return cls._sorted(*parse_newick(text, source), source)

    @classmethod
    def from_table(cls, rows: Iterable[Sequence[Any]] | pd.DataFrame, source: str = "tree table") -> "Tree":
        """Tree of (node, parent) or (node, parent, branch_length) rows in any order.

        Rows are tuples, or a DataFrame with columns node, parent and perhaps branch_length (others are
        ignored). The root's parent is None, nan or "". ``source`` is for messages.
        """
        names, parent_names, lengths = table_columns(rows, source)
        check_names(names, source)
        position = {name: i for i, name in enumerate(names)}
        unknown = sorted({parent for parent in parent_names if parent and parent not in position})
        if unknown:
            raise InputError(
                source,
                f"{len(unknown)} parent(s) without a row of their own: {listed(unknown)}",
                "Add a row for each of them; the root's row has an empty parent",
            )
        parents = [position[parent] if parent else -1 for parent in parent_names]
        return cls._sorted(names, parents, lengths, source)

    @classmethod
    def from_file(cls, path: str | Path) -> "Tree":
        """Tree of a Newick file (.nwk, .newick) or of a table with a header (.tsv, .csv)."""
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in _NEWICK_SUFFIXES and suffix not in _TABLE_SEPARATORS:
            raise InputError(
                path, f"a tree's file cannot end in {suffix!r}", "Use .nwk for Newick or .tsv for a table"
            )
        try:
            # bytes, because text mode would change line ends inside quoted names
            text = path.read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise InputError(path, f"cannot be read ({error.strerror})", "Check the tree's path") from error
        except UnicodeDecodeError as error:
            raise InputError(path, f"is not UTF-8 text ({error.reason})", "Save it as UTF-8") from error
        if suffix in _NEWICK_SUFFIXES:
            return cls.from_newick(text, str(path))
        try:
            # names such as "NA" or "None" are names; only an empty parent marks the root
            table = pd.read_csv(
                io.StringIO(text, newline=""), sep=_TABLE_SEPARATORS[suffix], dtype=str, keep_default_na=False
            )
        except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            raise InputError(
                path, f"is not a table ({error})", "Give columns node, parent and perhaps branch_length"
            ) from error
        return cls.from_table(table, str(path))

    @classmethod
    def _sorted(
        cls, names: Sequence[str | None], parents: Sequence[int], lengths: Sequence[float], source: str
    ) -> "Tree":
        """Check that the nodes make one rooted tree, sort them (preorder) and name the unnamed."""
        order = preorder(names, parents, source)
        rank = {node: i for i, node in enumerate(order)}
        full_names = with_names([names[node] for node in order])
        check_names(full_names, source)
        ordered_lengths = np.array([lengths[node] for node in order], dtype=np.float64)
        check_lengths(full_names, ordered_lengths, source)
        sorted_parents = [rank[parents[node]] if parents[node] >= 0 else -1 for node in order]
        return cls(tuple(full_names), np.array(sorted_parents, dtype=np.int64), ordered_lengths)

    # ---- what trees are written as

    def to_newick(self) -> str:
        """One line of Newick, every node named, lengths in full precision."""
        return format_newick(self.names, self.parents.tolist(), self.branch_lengths.tolist())

    def to_table(self) -> pd.DataFrame:
        """One row per node: node, parent ("" for the root), branch_length, is_leaf."""
        parents = ["" if parent < 0 else self.names[parent] for parent in self.parents]
        return pd.DataFrame(
            {
                "node": list(self.names),
                "parent": parents,
                "branch_length": self.branch_lengths.copy(),
                "is_leaf": self.is_leaf,
            }
        )

    # ---- what is asked of them

    @property
    def n_nodes(self) -> int:
        return len(self.names)

    @property
    def root(self) -> str:
        return self.names[0]

    @property
    def arcs(self) -> tuple[str, ...]:
        """The branches, named by their child nodes; arc i lies above node i + 1."""
        return self.names[1:]

    @cached_property
    def is_leaf(self) -> np.ndarray:
        """bool (n_nodes,): nodes without children."""
        leaf = np.ones(self.n_nodes, dtype=bool)
        leaf[self.parents[1:]] = False
        leaf.setflags(write=False)
        return leaf

    @property
    def leaves(self) -> tuple[str, ...]:
        return tuple(name for name, leaf in zip(self.names, self.is_leaf, strict=True) if leaf)

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each node by its name."""
        return {name: i for i, name in enumerate(self.names)}

    @property
    def has_lengths(self) -> bool:
        """Whether the length of every branch is known."""
        return not bool(np.isnan(self.branch_lengths).any())

    def require_leaves(self, types: Collection[str], source: str) -> None:
        """Check that the tree fits the cell types: each type is a node, each leaf is a type.

        Types may also sit at internal nodes. Raises :class:`InputError` that names both the types that
        the tree lacks and its leaves that are no types; ``source`` is the tree's file or key.
        """
        known = {str(name) for name in types}
        lacking = sorted(known - set(self.names))
        strange = [leaf for leaf in self.leaves if leaf not in known]
        problems = []
        if lacking:
            problems.append(f"the tree lacks {len(lacking)} cell type(s) of the atlas: {listed(lacking)}")
        if strange:
            problems.append(f"{len(strange)} of its leaves are no cell types: {listed(strange)}")
        if problems:
            raise InputError(
                source,
                "; ".join(problems),
                "Make the tree's leaves and the atlas's cell types the same names",
            )

    def path(self, name: str) -> tuple[str, ...]:
        """Names of the nodes from the root to the node, both included."""
        return tuple(self.names[i] for i in self._path(name))

    def distance(self, a: str, b: str) -> float:
        """Length of the way between two nodes; every branch counts 1 where any length is unknown."""
        between = set(self._path(a)) ^ set(self._path(b))
        return float(self._steps[sorted(between)].sum())

    def nearest(self, name: str, observed: Collection[str]) -> str:
        """The observed node at the smallest distance; the node itself where it is observed.

        Ties go to the way with fewer branches, then to the node that comes first in ``names``.
        """
        return self.names[self.nearest_of_all(observed)[self._position(name)]]

    def nearest_of_all(self, observed: Collection[str]) -> np.ndarray:
        """For each node the position of its :meth:`nearest` observed one, int64 (n_nodes,)."""
        if not observed:
            raise InputError("observed", "no node is given", "Give at least one observed node")
        # (distance, branches, node) of the best so far: first among the nodes below, then among all
        nothing = (np.inf, self.n_nodes, self.n_nodes)
        best: list[tuple[float, int, int]] = [nothing] * self.n_nodes
        for position in map(self._position, observed):
            best[position] = (0.0, 0, position)
        steps, parents = self._steps.tolist(), self.parents.tolist()

        def one_further(node: int, step: float) -> tuple[float, int, int]:
            distance, n_branches, nearest = best[node]
            return distance + step, n_branches + 1, nearest

        for node in range(self.n_nodes - 1, 0, -1):
            best[parents[node]] = min(best[parents[node]], one_further(node, steps[node]))
        for node in range(1, self.n_nodes):
            best[node] = min(best[node], one_further(parents[node], steps[node]))
        return np.array([nearest for _, _, nearest in best], dtype=np.int64)

    def ancestors(self) -> sparse.csr_matrix:
        """CSR float64 (n_nodes, n_nodes - 1): 1 where an arc lies on the node's path from the root.

        A node's weights are the root's plus this matrix times the changes on the arcs.
        """
        # ancestor rows: a node's arcs are its parent's and its own, which has the highest number
        rows: list[np.ndarray] = [np.empty(0, dtype=np.int64)]
        for node in range(1, self.n_nodes):
            rows.append(np.append(rows[self.parents[node]], node - 1))
        indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
        indices = np.concatenate(rows)
        return sparse.csr_matrix(
            (np.ones(len(indices)), indices, indptr), shape=(self.n_nodes, self.n_nodes - 1)
        )

    def contracted(self, observed: Collection[str]) -> "Tree":
        """The tree without unobserved single-child nodes, whose two branches become one.

        Along such a chain only the sum of the changes is identified. An unobserved root with one
        child gives way to that child.
        """
        keep = set(observed)
        for name in keep:
            self._position(name)
        n_children = np.bincount(self.parents[1:], minlength=self.n_nodes)
        kept = [i for i, name in enumerate(self.names) if name in keep or n_children[i] != 1]
        rank = {node: i for i, node in enumerate(kept)}
        parents, lengths = [], []
        for node in kept:
            length, parent = self.branch_lengths[node], int(self.parents[node])
            while parent >= 0 and parent not in rank:
                length, parent = length + self.branch_lengths[parent], int(self.parents[parent])
            parents.append(rank.get(parent, -1))
            lengths.append(length)
        return Tree(tuple(self.names[i] for i in kept), np.array(parents), np.array(lengths))

    @cached_property
    def _steps(self) -> np.ndarray:
        if self.has_lengths:
            return self.branch_lengths
        return np.where(self.parents >= 0, 1.0, 0.0)

    def _position(self, name: str) -> int:
        if name not in self.index:
            raise InputError("tree", f"has no node {name!r}", f"Its nodes are {listed(self.names)}")
        return self.index[name]

    def _path(self, name: str) -> list[int]:
        node, path = self._position(name), []
        while node >= 0:
            path.append(node)
            node = int(self.parents[node])
        return path[::-1]
