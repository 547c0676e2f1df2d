"""Simulators with known truth: trees, sparse changes of effects, cells for tree-based regularisation, and
counts from sparse gene programs."""

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


@dataclass(frozen=True)
class SimulatedPrograms:
    """Counts of cells that use known sparse gene programs.

    ``counts`` (n_cells, n_genes) int32; ``genes`` (n_genes,) names; ``cell_types`` (n_cells,) names;
    ``usage`` (n_cells, n_programs) float64, not negative; ``loadings`` (n_genes, n_programs) float64: log
    fold change of a gene per unit of usage, 0 where the gene is not in the program; ``library_size``
    (n_cells,) int64: a cell's counts of all genes, of which these are a part; ``gene_sets`` by name:
    ``program1``, ``program2``, ... (the planted ones, as a curated list would have them: incomplete and with
    some wrong genes) and ``decoy1``, ``decoy2``, ... (random genes).
    """

    counts: np.ndarray
    genes: np.ndarray
    cell_types: np.ndarray
    usage: np.ndarray
    loadings: np.ndarray
    library_size: np.ndarray
    gene_sets: dict[str, list[str]]

    @property
    def noise_genes(self) -> np.ndarray:
        """(n_genes,) bool: genes of no program."""
        return ~(self.loadings != 0).any(axis=1)


def simulate_programs(
    n_programs: int = 8,
    *,
    n_cells: int = 2000,
    n_genes: int = 400,
    n_types: int = 6,
    noise_share: float = 0.2,
    shared_share: float = 0.1,
    library_size: float = 10000.0,
    panel_share: float = 0.15,
    dispersion: float = 0.2,
    seed: int = 0,
) -> SimulatedPrograms:
    """Negative binomial counts of cells whose types use sparse gene programs differently.

    A gene's mean is the cell's library size times the gene's base rate times exp(usage . loadings). Every
    program is used strongly by some types, at most half of them, and hardly by the others; within a type
    its usage varies from cell to cell (gamma), independently of the other programs.

    Parameters
    ----------
    noise_share
        Share of the genes that belong to no program; the others are spread evenly over the programs.
    shared_share
        Share of the program genes that belong to a second program as well.
    library_size
        Median over cells of the counts of all genes, log-normal with a standard deviation of 0.3.
    panel_share
        Share of these that the genes simulated here have in a cell that uses no program.
    dispersion
        Of the negative binomial: variance = mean + dispersion * mean^2.
    """
    rng = np.random.default_rng(seed)
    genes = np.array([f"GENE{i + 1}" for i in range(n_genes)])
    program = rng.permutation(np.arange(n_genes - round(noise_share * n_genes)) % n_programs)
    member = np.zeros((n_genes, n_programs), dtype=bool)
    used = rng.permutation(n_genes)[: len(program)]
    member[used, program] = True
    for i in rng.permutation(len(used))[: round(shared_share * len(used))]:
        member[used[i], (program[i] + rng.integers(1, max(n_programs, 2))) % n_programs] = True
    loadings = np.where(member, rng.uniform(0.4, 1.2, member.shape), 0.0)

    types = rng.permutation(np.arange(n_cells) % n_types)
    strong = np.zeros((n_types, n_programs), dtype=bool)
    for k in range(n_programs):
        strong[rng.permutation(n_types)[: rng.integers(1, max(n_types // 2, 1) + 1)], k] = True
    # mean 1.5 and sd .87 where a program is used, mean .15 elsewhere
    usage = np.where(
        strong[types], rng.gamma(3.0, 0.5, (n_cells, n_programs)), rng.gamma(0.5, 0.3, (n_cells, n_programs))
    )
    base = np.exp(rng.normal(0.0, 1.0, n_genes))
    totals = np.round(library_size * np.exp(rng.normal(0.0, 0.3, n_cells)))
    means = totals[:, None] * panel_share * base / base.sum() * np.exp(usage @ loadings.T)
    counts = rng.poisson(means * rng.gamma(1 / dispersion, dispersion, means.shape))
    return SimulatedPrograms(
        counts=counts.astype(np.int32),
        genes=genes,
        cell_types=np.array([f"type{i + 1}" for i in range(n_types)])[types],
        usage=usage,
        loadings=loadings,
        library_size=totals.astype(np.int64),
        gene_sets=_planted_sets(genes, member, rng),
    )


def _planted_sets(genes: np.ndarray, member: np.ndarray, rng: np.random.Generator) -> dict[str, list[str]]:
    """Four fifths of each program with a fifth of foreign genes; and as many decoys, of random genes."""
    planted, decoys = {}, {}
    for k, inside in enumerate(member.T, start=1):
        mine, foreign = rng.permutation(genes[inside]), rng.permutation(genes[~inside])
        n_mine, n_foreign = round(0.8 * len(mine)), round(0.2 * len(mine))
        planted[f"program{k}"] = sorted([*mine[:n_mine].tolist(), *foreign[:n_foreign].tolist()])
        decoys[f"decoy{k}"] = sorted(rng.permutation(genes)[: n_mine + n_foreign].tolist())
    return planted | decoys
