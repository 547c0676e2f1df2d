"""Simulators with known truth: trees, sparse changes of effects, and cells for tree-based regularisation."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from latentree.tree import Tree


def balanced_tree(depth: int) -> Tree:
    """A balanced binary tree with nodes ``"0"`` (the root), ``"1"``, ... level by level.

    Parameters
    ----------
    depth
        Arcs from the root to every leaf; the tree has ``2 ** (depth + 1) - 1`` nodes.
    """
    nodes = [("0", None), *((str(i), str((i - 1) // 2)) for i in range(1, 2 ** (depth + 1) - 1))]
    return Tree.from_table(nodes)


def sparse_changes(
    n_branches: int,
    n_latents: int,
    rng: np.random.Generator,
    *,
    n_changes: int | None = None,
    probability: float | None = None,
) -> np.ndarray:
    """Changes of effects on the branches of a tree, non-zero entries from N(0, 1).

    Parameters
    ----------
    n_changes
        Latents that change on every branch, drawn at random (all of them where there are fewer).
    probability
        Instead: the probability with which each entry is non-zero.

    Returns
    -------
    Array of shape (n_branches, n_latents).
    """
    drawn = rng.random((n_branches, n_latents))
    if n_changes is not None and probability is None:
        changed = drawn.argsort(axis=1).argsort(axis=1) < n_changes
    elif probability is not None and n_changes is None:
        changed = drawn < probability
    else:
        raise ValueError("give either n_changes or probability")
    return np.where(changed, rng.normal(size=(n_branches, n_latents)), 0.0)


def node_weights(tree: Tree, root: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """Weights of every node: the root's plus the changes on the path to it.

    Parameters
    ----------
    root
        Array of shape (n_latents,).
    changes
        Array of shape (n_nodes - 1, n_latents), in the order of ``tree.arcs``.

    Returns
    -------
    Array of shape (n_nodes, n_latents), in the order of ``tree.names``.
    """
    sums = np.zeros((tree.n_nodes, changes.shape[1]))
    for node in range(1, tree.n_nodes):
        sums[node] = sums[tree.parents[node]] + changes[node - 1]
    return root + sums


@dataclass(frozen=True)
class SimulatedEnvironments:
    """Cells of several environments with their true latents and effects.

    ``X`` (n_cells, n_inputs) float32; ``y`` (n_cells,) float32; ``environments`` (n_cells,) node
    names; ``Z`` (n_cells, n_latents) float32; ``weights`` (n_nodes, n_latents); ``changes``
    (n_nodes - 1, n_latents); ``signal`` (n_cells,) what the best predictor from X knows of y.
    """

    tree: Tree
    X: np.ndarray
    y: np.ndarray
    environments: np.ndarray
    Z: np.ndarray
    weights: np.ndarray
    changes: np.ndarray
    signal: np.ndarray

    @property
    def noise_floor(self) -> float:
        """Mean squared error of the best predictor of y from X."""
        return float(np.mean((self.y - self.signal) ** 2))


def simulate_environments(
    depth: int = 7,
    n_latents: int = 5,
    *,
    n_changes: int | None = 1,
    probability: float | None = None,
    n_inputs: int = 20,
    n_cells: int = 3000,
    observed: Literal["non-root", "leaves"] = "non-root",
    psi: Literal["mlp", "linear"] = "mlp",
    latent_noise: float = 0.1,
    phenotype_noise: float = 0.1,
    seed: int = 0,
) -> SimulatedEnvironments:
    """The simulation of Layne et al. (arXiv 2405.20482); what its text leaves open is in docs/tbr.md.

    ``X ~ N(0, I)``, ``Z = psi(X) + eta``, ``Y = w_e . Z + eps`` with ``psi`` a random map whose
    outputs are standardised, and ``w_e`` on a balanced binary tree with sparse changes.

    Parameters
    ----------
    n_changes, probability
        As in :func:`sparse_changes`.
    n_cells
        Cells in each observed environment.
    observed
        Which nodes have cells.
    latent_noise, phenotype_noise
        Standard deviations of ``eta`` and ``eps``.
    """
    rng = np.random.default_rng(seed)
    tree = balanced_tree(depth)
    n_branches = tree.n_nodes - 1
    changes = sparse_changes(n_branches, n_latents, rng, n_changes=n_changes, probability=probability)
    weights = node_weights(tree, rng.normal(size=(n_latents,)), changes)
    nodes = np.flatnonzero(tree.is_leaf) if observed == "leaves" else np.arange(1, tree.n_nodes)
    node = np.repeat(nodes, n_cells)
    X = rng.standard_normal((len(node), n_inputs), dtype=np.float32)
    mean = _standardised(_random_map(psi, n_inputs, n_latents, rng)(X))
    Z = mean + latent_noise * rng.standard_normal(mean.shape, dtype=np.float32)
    effects = weights.astype(np.float32)[node]
    y = (effects * Z).sum(axis=1)
    y += phenotype_noise * rng.standard_normal(len(y), dtype=np.float32)
    return SimulatedEnvironments(
        tree=tree,
        X=X,
        y=y,
        environments=np.array(tree.names)[node],
        Z=Z,
        weights=weights,
        changes=changes,
        signal=(effects * mean).sum(axis=1),
    )


def _random_map(
    kind: str, n_inputs: int, n_latents: int, rng: np.random.Generator
) -> Callable[[np.ndarray], np.ndarray]:
    """A random function from (n_cells, n_inputs) to (n_cells, n_latents)."""
    sizes = [n_inputs, n_latents] if kind == "linear" else [n_inputs, 32, 32, n_latents]
    layers = [rng.normal(scale=a**-0.5, size=(a, b)).astype(np.float32) for a, b in itertools.pairwise(sizes)]

    def apply(X: np.ndarray) -> np.ndarray:
        hidden = X @ layers[0]
        for layer in layers[1:]:
            hidden = np.where(hidden > 0, hidden, np.float32(0.2) * hidden) @ layer
        return hidden

    return apply


def _standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(axis=0)) / values.std(axis=0)
