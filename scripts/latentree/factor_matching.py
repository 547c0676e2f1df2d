"""Which factors of several fits are the same one.

A factor is seen as one vector: its centred loadings and its centred scores on the judged cells, each of unit
length, side by side. The strength of a match of two factors is half of |r of loadings + r of scores|, so that
a factor that is turned round in both is the same one, and one that agrees in the scores alone is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.optimize import linear_sum_assignment

FOUND = 0.71
"""Two factors are taken for the same from this strength on, where they share half of their variance."""

_ROUNDS = 20


@dataclass(frozen=True)
class FactorSet:
    """Factors of one fit, as far as they are matched.

    Attributes
    ----------
    loadings
        Shape (n_genes, n_factors).
    scores
        On the judged cells, the same ones in all fits that are compared, shape (n_judged, n_factors).
    alive
        Which factors are in use, bool array of shape (n_factors,).
    """

    loadings: np.ndarray
    scores: np.ndarray
    alive: np.ndarray

    @property
    def live(self) -> np.ndarray:
        """Indices of the live factors, (n_live,)."""
        return np.flatnonzero(self.alive)

    def vectors(self) -> np.ndarray:
        """The live factors, (n_live, n_genes + n_judged), of unit length unless a part is constant."""
        parts = [_unit_columns(values[:, self.live]) for values in (self.loadings, self.scores)]
        return np.vstack(parts).T / np.sqrt(2)


def strength(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Strength (n_a, n_b) of matches of factors (n_a, d) with factors (n_b, d), as vectors."""
    return np.minimum(np.abs(a @ b.T), 1.0)


def _unit_columns(values: np.ndarray) -> np.ndarray:
    centred = np.asarray(values, dtype=np.float64) - values.mean(axis=0, dtype=np.float64)
    norms = np.linalg.norm(centred, axis=0)
    return centred / np.where(norms > 0, norms, 1.0)


def matched(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices into both of the one-to-one matching with the largest sum, and the strengths."""
    found = strength(a, b)
    rows, columns = linear_sum_assignment(found, maximize=True)
    return rows, columns, found[rows, columns]


def matched_groups(vectors: Sequence[np.ndarray]) -> np.ndarray:
    """Which live factor of each seed belongs to each group, -1 for none, (n_seeds, n_groups).

    Seeds join one by one, the one that agrees best with all others first; a factor that matches no group
    opens one. Then all are matched with the groups' centres until nothing changes.
    """
    if not any(map(len, vectors)):
        return np.zeros((len(vectors), 0), dtype=np.int64)
    agreement = [sum(matched(own, other)[2].sum() for other in vectors) for own in vectors]
    order = np.argsort(-np.array(agreement), kind="stable")
    centres = vectors[order[0]]
    groups = np.zeros((len(vectors), 0), dtype=np.int64)
    for _ in range(_ROUNDS):
        before, groups = groups, _assigned(vectors, order, centres)
        if np.array_equal(before, groups):
            break
        centres = centres_of(vectors, groups)
    return groups


def _assigned(vectors: Sequence[np.ndarray], order: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Each seed's factors by group, (n_seeds, n_groups); groups without members are left out."""
    groups = np.full((len(vectors), len(centres)), -1, dtype=np.int64)
    for seed in order:
        own, places, strengths = matched(vectors[seed], centres)
        near = strengths >= FOUND
        groups[seed, places[near]] = own[near]
        alone = np.setdiff1d(np.arange(len(vectors[seed])), own[near])
        opened = np.full((len(vectors), len(alone)), -1, dtype=np.int64)
        opened[seed] = alone
        groups = np.hstack([groups, opened])
        centres = np.vstack([centres, vectors[seed][alone]])
    return groups[:, (groups >= 0).any(axis=0)]


def centres_of(vectors: Sequence[np.ndarray], groups: np.ndarray) -> np.ndarray:
    """Sign-aligned mean of each group's members, of unit length, (n_groups, d)."""
    centres = []
    for group in groups.T:
        together = members_of(vectors, group)
        mean = (signs_of(together)[:, None] * together).sum(axis=0)
        centres.append(mean / max(float(np.linalg.norm(mean)), 1e-300))
    return np.array(centres).reshape(len(centres), vectors[0].shape[1])


def members_of(vectors: Sequence[np.ndarray], group: np.ndarray) -> np.ndarray:
    """The vectors (n_members, d) of one group (n_seeds,)."""
    return np.array([vectors[seed][own] for seed, own in enumerate(group) if own >= 0])


def signs_of(together: np.ndarray) -> np.ndarray:
    """1 or -1 (n_members,): how each member is turned against the first."""
    return np.where(together @ together[0] < 0, -1.0, 1.0)


def pair_strengths(vectors: Sequence[np.ndarray], group: np.ndarray) -> list[float]:
    together = members_of(vectors, group)
    found = strength(together, together)
    return [float(found[i, j]) for i, j in combinations(range(len(together)), 2)]
