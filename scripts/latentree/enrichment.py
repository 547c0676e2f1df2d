"""Over-representation of gene sets among the active genes of factors, and what chance would give."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.special import gammaln

from latentree.files import join_names

COLUMNS = [
    "factor",
    "method",
    "gene_set",
    "n_overlap",
    "n_set",
    "n_background",
    "odds_ratio",
    "p_value",
    "q_value",
    "genes",
    "nes",
    "direction",
]
SIGNIFICANT = 0.05
"""A set is called enriched where its q-value is below this."""


def over_representation(
    active: Mapping[str, Sequence[str]],
    sets: Mapping[str, Sequence[str]],
    background: Sequence[str],
    *,
    min_set_size: int = 5,
    max_set_size: int = 500,
    loadings: Mapping[str, Sequence[float]] | None = None,
) -> pd.DataFrame:
    """Test every gene set for over-representation among the active genes of every factor of one fit.

    See :class:`OverRepresentation`, whose table this is.
    """
    return OverRepresentation(
        active,
        sets,
        background,
        min_set_size=min_set_size,
        max_set_size=max_set_size,
        loadings=loadings,
    ).table()


class GeneSetMatrix:
    """Gene sets cut to a background, those of another size than asked for left out.

    Parameters
    ----------
    sets
        Set name to its genes.
    background
        The genes that could be found, length n_background. Neither their order nor that of the sets matters.
    min_set_size, max_set_size
        Sets with fewer or more genes of the background are left out.

    Attributes
    ----------
    genes
        The background, sorted.
    index
        Gene to its place in ``genes``.
    names
        Names of the sets, sorted.
    members
        1 where a set holds a gene, sparse array of shape (n_sets, n_background).
    sizes
        Genes of each set, shape (n_sets,).
    """

    def __init__(
        self,
        sets: Mapping[str, Sequence[str]],
        background: Sequence[str],
        *,
        min_set_size: int,
        max_set_size: int,
    ) -> None:
        self.genes = sorted(set(background))
        self.index = {gene: i for i, gene in enumerate(self.genes)}
        cut = {
            name: sorted({self.index[g] for g in genes if g in self.index}) for name, genes in sets.items()
        }
        self.names = sorted(name for name, rows in cut.items() if min_set_size <= len(rows) <= max_set_size)
        self.sizes = np.array([len(cut[name]) for name in self.names], dtype=np.int64)
        places = [i for name in self.names for i in cut[name]]
        starts = np.concatenate([[0], np.cumsum(self.sizes)])
        self.members = csr_array(
            (np.ones(len(places), dtype=np.int64), np.array(places, dtype=np.int64), starts),
            shape=(len(self.names), len(self.genes)),
        )

    def positions(self, i: int) -> np.ndarray:
        """Places in ``genes`` of the i-th set, increasing."""
        return self.members.indices[self.members.indptr[i] : self.members.indptr[i + 1]]


class OverRepresentation:
    """The tests of one fit: its factors' active genes against every gene set.

    One-sided hypergeometric tests (Fisher's exact test) against the background. Where a factor's active
    genes have loadings of both signs, three queries are tested: all of them (direction ``both``), those
    that go ``up`` with the factor and those that go ``down``; else one. q-values are Benjamini-Hochberg over
    all queries and sets of the fit at once, so that further directions cost what they should; tests
    without overlap (p = 1) count, although they have no row.

    Parameters
    ----------
    active
        Factor name to its active genes, all of them in the background.
    sets
        Set name to its genes.
    background
        The genes that could have been active: the modelled genes, length n_background.
    min_set_size, max_set_size
        Sets with fewer or more genes of the background are not tested.
    loadings
        Factor name to the loadings of its active genes, in their order; None: direction ``both`` only.
    """

    def __init__(
        self,
        active: Mapping[str, Sequence[str]],
        sets: Mapping[str, Sequence[str]],
        background: Sequence[str],
        *,
        min_set_size: int,
        max_set_size: int,
        loadings: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self.sets = GeneSetMatrix(sets, background, min_set_size=min_set_size, max_set_size=max_set_size)
        self.queries = {
            (factor, direction): list(dict.fromkeys(genes))
            for factor, found in active.items()
            for direction, genes in _by_direction(found, None if loadings is None else loadings[factor])
            if len(genes)
        }
        self._hits = np.zeros((len(self.sets.genes), len(self.queries)), dtype=np.int64)
        for column, genes in enumerate(self.queries.values()):
            self._hits[[self.sets.index[gene] for gene in genes], column] = 1

    @property
    def n_factors(self) -> int:
        """Factors with an active gene."""
        return len({factor for factor, _ in self.queries})

    def table(self) -> pd.DataFrame:
        """One row per query and set that share a gene, factors as given, within one by p-value and set.

        Columns ``COLUMNS``: factor, method (``ora``), gene_set, n_overlap, n_set (in the background),
        n_background, odds_ratio (0.5 added to each of the four counts, so that it is finite;
        Haldane-Anscombe), p_value, q_value, genes (those shared, in the order of the factor's active genes,
        see :func:`join_names`), nes (empty), direction.
        """
        overlaps = self.sets.members @ self._hits
        p_values = self._p_values(overlaps)
        q_values = benjamini_hochberg(p_values.ravel()).reshape(p_values.shape)
        factors = {factor: i for i, factor in enumerate(dict.fromkeys(factor for factor, _ in self.queries))}
        rows = []
        for column, ((factor, direction), genes) in enumerate(self.queries.items()):
            places = [self.sets.index[gene] for gene in genes]
            for i in np.flatnonzero(overlaps[:, column]):
                inside = set(self.sets.positions(int(i)))
                shared = [gene for gene, place in zip(genes, places, strict=True) if place in inside]
                counts = len(shared), int(self.sets.sizes[i]), len(self.sets.genes)
                odds = _odds_ratio(*counts, len(genes))
                tested = p_values[i, column], q_values[i, column]
                name = self.sets.names[i]
                rows.append(
                    (factor, "ora", name, *counts, odds, *tested, join_names(shared), np.nan, direction)
                )
        rows.sort(key=lambda row: (factors[row[0]], row[7], row[2], row[-1]))
        return pd.DataFrame(rows, columns=COLUMNS)

    def by_chance(self, n_permutations: int, seed: int = 0) -> np.ndarray:
        """Numbers of enriched sets once the names of the genes are permuted, shape (n_permutations,).

        All queries of the fit are permuted alike, so that they share as many genes as before.
        """
        rng = np.random.default_rng(seed)
        counts = np.zeros(n_permutations, dtype=np.int64)
        for i in range(n_permutations):
            p_values = self._p_values(self.sets.members @ self._hits[rng.permutation(len(self._hits))])
            enriched = benjamini_hochberg(p_values.ravel()).reshape(p_values.shape) < SIGNIFICANT
            counts[i] = enriched.any(axis=1).sum()
        return counts

    def _p_values(self, overlaps: np.ndarray) -> np.ndarray:
        """P(at least as many shared genes), shape (n_sets, n_queries), as the overlaps."""
        found = np.ones(overlaps.shape)
        for column, genes in enumerate(self.queries.values()):
            of_size, tails = self._tails[len(genes)]
            found[:, column] = tails[of_size, overlaps[:, column]]
        return found

    @cached_property
    def _tails(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """For each size of a query: the row of each set, and tails by row and overlap."""
        sizes, of_size = np.unique(self.sets.sizes, return_inverse=True)
        return {
            n: (of_size, upper_tails(len(self.sets.genes), sizes, n))
            for n in {len(genes) for genes in self.queries.values()}
        }


def upper_tails(n_background: int, set_sizes: np.ndarray, n_query: int) -> np.ndarray:
    """P(X >= k) of the hypergeometric distribution, shape (n_sizes, n_query + 1) for k = 0, 1, ...

    X is the number of genes that a set of each size shares with ``n_query`` genes drawn from the
    background without replacement. scipy's own takes some 50 microseconds a value.
    """
    k = np.arange(n_query + 1)
    sizes = np.asarray(set_sizes, dtype=np.int64)[:, None]
    possible = (k <= sizes) & (n_query - k <= n_background - sizes)
    inside, outside = np.where(possible, k, 0), np.where(possible, n_query - k, 0)
    logs = _log_choose(sizes, inside) + _log_choose(n_background - sizes, outside)
    masses = np.where(possible, np.exp(logs - _log_choose(n_background, n_query)), 0.0)
    # the smallest first, so that no small tail drowns
    tails: np.ndarray = np.minimum(np.cumsum(masses[:, ::-1], axis=1)[:, ::-1], 1.0)
    return tails


def benjamini_hochberg(p_values: np.ndarray) -> np.ndarray:
    """Adjusted p-values, shape (n,)."""
    order = np.argsort(p_values, kind="stable")
    raw = p_values[order] * len(p_values) / np.arange(1, len(p_values) + 1)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(np.minimum.accumulate(raw[::-1])[::-1], 1.0)
    return adjusted


def sets_to_test(
    sets: Mapping[str, Sequence[str]], background: Sequence[str], *, min_set_size: int, max_set_size: int
) -> list[str]:
    """Names of the sets that :func:`over_representation` tests with the same arguments."""
    return GeneSetMatrix(sets, background, min_set_size=min_set_size, max_set_size=max_set_size).names


def _by_direction(
    genes: Sequence[str], loadings: Sequence[float] | None
) -> Iterator[tuple[str, Sequence[str]]]:
    """The queries of one factor."""
    if loadings is None:
        yield "both", genes
        return
    up = [gene for gene, loading in zip(genes, loadings, strict=True) if loading > 0]
    down = [gene for gene, loading in zip(genes, loadings, strict=True) if loading < 0]
    if up and down:
        yield "both", genes
    yield "up", up
    yield "down", down


def _odds_ratio(n_overlap: int, n_set: int, n_background: int, n_query: int) -> float:
    neither = n_background - n_set - n_query + n_overlap
    apart = (n_set - n_overlap + 0.5) * (n_query - n_overlap + 0.5)
    return (n_overlap + 0.5) * (neither + 0.5) / apart


def _log_choose(n: Any, k: Any) -> Any:
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
