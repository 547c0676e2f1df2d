"""Groups of features that move together, one for each factor: candidates for anchors.

Deterministic, pure numpy and scipy.
"""

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from latentree.models.curves import Curves

# cuts of the tree of features, as mean absolute correlations; below the last one groups are chance
_CUTS = np.arange(0.95, 0.29, -0.05)
# groups, largest first, that are looked at at all, and after those that lines explain are gone
_MOST_GROUPS, _MOST_CURVED = 60, 24
# A group follows from others where lines explain this share of its true variance, or where curves explain
# this share of what lines leave. Correlated normal factors are no curves of each other however correlated.
_LINEAR, _CURVED = 0.85, 0.2
_LEAST_UNCLEAR = 0.05


def anchor_groups(x: np.ndarray, n_factors: int) -> list[np.ndarray]:
    """Features of each factor, largest group first, where no group follows from the others.

    Parameters
    ----------
    x
        (n_cells, n_genes) standardised; constant features are 0.
    n_factors
        Groups at most.
    """
    groups = sorted(_moving_together(x), key=len, reverse=True)[:_MOST_GROUPS]
    if not groups:
        return []
    components, reliabilities = zip(*(group_factor(x[:, group]) for group in groups), strict=True)
    scores, reliability = np.column_stack(components), np.array(reliabilities)
    sizes = np.array([len(group) for group in groups])
    kept = _not_lines_of_others(scores, reliability, sizes)[:_MOST_CURVED]
    kept = _not_curves_of_others(scores, reliability, sizes, kept)
    return [groups[i] for i in kept[:n_factors]]


def _moving_together(x: np.ndarray) -> list[np.ndarray]:
    """Groups of two and more features at the cut of their tree that has the most such groups."""
    if x.shape[1] < 2:
        return []
    # in place: with thousands of features this is the largest array of a fit
    distance = x.T @ x
    np.abs(distance, out=distance)
    distance /= -len(x)
    distance += 1
    np.fill_diagonal(distance, 0)
    np.clip(distance, 0, None, out=distance)
    condensed = squareform(distance, checks=False)
    del distance
    tree = linkage(condensed, "average")
    best: list[np.ndarray] = []
    for cut in _CUTS:
        label = fcluster(tree, 1 - cut, "distance")
        order = np.argsort(label, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
        groups = [part for part in parts if len(part) >= 2]
        if len(groups) > len(best):
            best = groups
    return best


def group_factor(x: np.ndarray) -> tuple[np.ndarray, float]:
    """First principal component (n_cells,) of a group, unit variance, and its reliability.

    Reliability is Cronbach's alpha for the component's weights: the share of its variance that is no noise
    of single features.
    """
    eigenvalues, vectors = np.linalg.eigh(x.T @ x / len(x))
    weights = vectors[:, -1] * np.sign(vectors[np.abs(vectors[:, -1]).argmax(), -1])
    n_members = x.shape[1]
    component = x @ weights
    return component / component.std(), n_members / (n_members - 1) * (1 - 1 / float(eigenvalues[-1]))


def _not_lines_of_others(scores: np.ndarray, reliability: np.ndarray, sizes: np.ndarray) -> list[int]:
    """Indices of the groups that are left when those that lines in others explain are dropped, one by one.

    Any of z1, z2 and z1 + z2 follows from the other two. The one between others goes first: its
    regression weights are small in sum, where an extreme one takes large weights of both signs. And small
    groups go before large ones.
    """
    true = (scores.T @ scores / len(scores)) / np.sqrt(np.outer(reliability, reliability))
    np.fill_diagonal(true, 1)
    kept = list(range(scores.shape[1]))
    while len(kept) > 1:
        correlation = positive_definite(true[np.ix_(kept, kept)], 0.03)
        precision = np.linalg.inv(correlation)
        explained = 1 - 1 / (precision.diagonal() * correlation.diagonal())
        weights = np.abs(precision / precision.diagonal()[:, None]).sum(1) - 1
        if explained.max() <= _LINEAR:
            break
        keenness = np.where(explained > _LINEAR, weights * np.sqrt(sizes[kept]), np.inf)
        kept.pop(int(keenness.argmin()))
    return kept


def _not_curves_of_others(
    scores: np.ndarray, reliability: np.ndarray, sizes: np.ndarray, kept: list[int]
) -> list[int]:
    """Indices of the groups that are left when those that are curves of others are dropped, one by one.

    Lines are taken out first, so that correlated factors are not mistaken for functions of each other.
    """
    kept = list(kept)
    correlation = scores.T @ scores / len(scores)
    known: dict[int, tuple[float, set[int]]] = {}
    while len(kept) > 1:
        # what a dropped group did not tell of stays as it was
        stale = [i for i in kept if i not in known or not known[i][1] <= set(kept)]
        if stale:
            curves = Curves(scores[:, kept])
            for i in stale:
                needs = curves.needs(curves.moments(scores[:, i]), without=kept.index(i))
                others = [k for k in kept if k != i]
                rows = correlation[np.ix_(others, others)] + 1e-6 * np.eye(len(others))
                linear = correlation[i, others] @ np.linalg.solve(rows, correlation[others, i])
                share = (1 - needs.curved - linear) / max(_LEAST_UNCLEAR, reliability[i] - linear)
                known[i] = float(share), {kept[k] for k in needs.factors}
        shares = np.array([known[i][0] for i in kept])
        if shares.max() < _CURVED:
            break
        kept.pop(int(np.where(shares >= _CURVED, shares / np.sqrt(sizes[kept]), -1).argmax()))
    return kept


def positive_definite(matrix: np.ndarray, least: float) -> np.ndarray:
    """The nearest symmetric matrix with eigenvalues of ``least`` or more."""
    eigenvalues, vectors = np.linalg.eigh(matrix)
    return (vectors * np.clip(eigenvalues, least, None)) @ vectors.T
