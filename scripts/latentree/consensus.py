"""What the fits of all seeds of one model agree on: matched factors, their consensus, and how stable each is.

What is the same factor, and how strong a match is, says :mod:`latentree.factor_matching`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np

from latentree.factor_matching import (
    FOUND,
    FactorSet,
    centres_of,
    matched,
    matched_groups,
    members_of,
    pair_strengths,
    signs_of,
    strength,
)

STABLE = 0.9
"""Mean strength between seeds from which on a factor may be called stable."""
BY_CONSTRUCTION = 0.99
"""Seeds of which half of the factors agree this much hardly differ, and their agreement says nothing."""

_SPLITS = 10
_CHANCE_PAIRS = 10
_CHANCE_DRAWS = 20


@dataclass(frozen=True)
class SeedFit:
    """The fit of one seed: what is matched, and what the consensus is made of.

    Attributes
    ----------
    factors
        As they are matched.
    latents
        Of all cells, shape (n_cells, n_factors).
    variance_share
        Shape (n_factors,).
    inclusion
        Shape (n_genes, n_factors), or None for models without.
    """

    factors: FactorSet
    latents: np.ndarray
    variance_share: np.ndarray
    inclusion: np.ndarray | None = None


@dataclass(frozen=True)
class Stability:
    """How far a group of matched factors is to be trusted; arrays of shape (n_groups,), nan where unknown.

    Attributes
    ----------
    mean, lowest
        Strength over pairs of the seeds that found it; nan for a single seed.
    seeds_found
        In how many seeds it was found, int.
    half_agreement
        Strength between the consensus of two disjoint halves of the seeds, mean over at most ten divisions;
        0 where a half lacks it.
    halves_of_cells
        Strength between refits on disjoint halves of the cells, mean over the pairs given; 0 where one
        lacks it.
    all_half_agreement, all_halves_of_cells
        The same of all factors together: matched strengths over the larger number of live factors.
    chance_95
        95th percentile of matched strengths where genes and cells of one of two fits are permuted.
    n_seeds
        Number of fits.
    """

    mean: np.ndarray
    lowest: np.ndarray
    seeds_found: np.ndarray
    half_agreement: np.ndarray
    halves_of_cells: np.ndarray
    all_half_agreement: float
    all_halves_of_cells: float
    chance_95: float
    n_seeds: int

    @property
    def by_construction(self) -> bool:
        """Whether the seeds' fits hardly differ, as those from the same start do."""
        if self.n_seeds == 1 or not len(self.mean):
            return False
        return bool(np.median(np.nan_to_num(self.mean)) >= BY_CONSTRUCTION)

    @property
    def verdicts(self) -> list[str]:
        """``yes``, ``no`` or ``unknown`` for each group.

        Yes: found by more than half of the seeds, mean strength at least ``STABLE`` and above ``chance_95``,
        and not contradicted by halves of the cells, which contradict below ``FOUND``. Unknown: nothing speaks
        against it, but there is one seed only, or the seeds agree by construction and there are no refits.
        """
        verdicts = []
        untested = self.n_seeds == 1 or (self.by_construction and np.isnan(self.halves_of_cells).all())
        for mean, found, halves in zip(self.mean, self.seeds_found, self.halves_of_cells, strict=True):
            agrees = 2 * found > self.n_seeds and mean >= STABLE and mean > self.chance_95
            if halves < FOUND or not (agrees or self.n_seeds == 1):
                verdicts.append("no")
            else:
                verdicts.append("unknown" if untested else "yes")
        return verdicts


@dataclass(frozen=True)
class Consensus:
    """Consensus factors of a model with n_factors factors, and the groups that they are made of.

    Factors are ordered by variance share, the largest loading positive, dead ones (all zero) last. The scale
    is that of the median member.

    Attributes
    ----------
    loadings, latents
        Shape (n_genes, n_factors) and (n_cells, n_factors): medians of the matched members.
    inclusion
        Mean over the members, shape (n_genes, n_factors), or None.
    variance_share, alive
        Mean of the members, and whether there are any, shape (n_factors,).
    flipped
        Which factors were turned round against the first seed that has them, bool (n_factors,).
    members
        Of each seed the factor that belongs to each group, -1 for none, shape (n_seeds, n_groups). First the
        live consensus factors, then groups beyond n_factors, found by the fewest seeds.
    stability
        Of each group.
    """

    loadings: np.ndarray
    latents: np.ndarray
    inclusion: np.ndarray | None
    variance_share: np.ndarray
    alive: np.ndarray
    flipped: np.ndarray
    members: np.ndarray
    stability: Stability

    @property
    def n_live(self) -> int:
        return int(self.alive.sum())


def build_consensus(fits: Sequence[SeedFit], halves: Sequence[tuple[FactorSet, FactorSet]] = ()) -> Consensus:
    """Match the factors of all seeds and average those that match.

    Parameters
    ----------
    fits
        One per seed, with the same numbers of factors, on the same cells.
    halves
        Pairs of refits on disjoint halves of the cells, with scores on the same judged cells.
    """
    n_factors, n_genes = len(fits[0].variance_share), len(fits[0].factors.loadings)
    vectors = [fit.factors.vectors() for fit in fits]
    # the best supported groups first, then by variance
    groups = matched_groups(vectors)
    shares = _group_shares(fits, groups)
    strengths = [pair_strengths(vectors, group) for group in groups.T]
    support = [
        (-(group >= 0).sum(), -np.mean(pairs or [0.0]), -share)
        for group, pairs, share in zip(groups.T, strengths, shares, strict=True)
    ]
    ranked = sorted(range(groups.shape[1]), key=lambda g: support[g])
    shown = sorted(ranked[:n_factors], key=lambda g: -shares[g])
    order = np.array(shown + ranked[n_factors:], dtype=np.int64)
    groups, shares = groups[:, order], shares[order]
    n_live = len(shown)
    members = _own_indices(fits, groups)
    averaged = [_averaged(fits, vectors, groups, members, g) for g in range(n_live)]

    def padded(columns: Sequence[np.ndarray], n_rows: int) -> np.ndarray:
        values = np.zeros((n_rows, n_factors), dtype=np.float32)
        for place, column in enumerate(columns):
            values[:, place] = column
        return values

    inclusion = None
    if fits[0].inclusion is not None:
        inclusion = padded([_inclusion(fits, members[:, g]) for g in range(n_live)], n_genes)
    live = np.arange(n_factors) < n_live
    flipped = np.zeros(n_factors, dtype=bool)
    flipped[:n_live] = [turned for _, _, turned in averaged]
    variance_share = np.zeros(n_factors)
    variance_share[:n_live] = shares[:n_live]
    return Consensus(
        loadings=padded([loadings for loadings, _, _ in averaged], n_genes),
        latents=padded([latents for _, latents, _ in averaged], len(fits[0].latents)),
        inclusion=inclusion,
        variance_share=variance_share,
        alive=live,
        flipped=flipped,
        members=members,
        stability=_stability(vectors, groups, n_factors, n_genes, halves),
    )


def _own_indices(fits: Sequence[SeedFit], groups: np.ndarray) -> np.ndarray:
    """Groups (n_seeds, n_groups) in the fits' own numbering of factors instead of the live ones'."""
    members = groups.copy()
    for seed, fit in enumerate(fits):
        there = groups[seed] >= 0
        members[seed, there] = fit.factors.live[groups[seed, there]]
    return members


def _group_shares(fits: Sequence[SeedFit], groups: np.ndarray) -> np.ndarray:
    """Mean variance share of each group's members, (n_groups,)."""
    members = _own_indices(fits, groups)
    return np.array(
        [
            np.mean([fit.variance_share[own] for fit, own in zip(fits, group, strict=True) if own >= 0])
            for group in members.T
        ]
    )


def _averaged(
    fits: Sequence[SeedFit], vectors: Sequence[np.ndarray], groups: np.ndarray, members: np.ndarray, g: int
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Loadings (n_genes,) and latents (n_cells,) of one group's consensus, and whether it was turned round.

    Members are scaled to unit sd of their latents, which their loadings take over, and back to the median sd.
    """
    signs = signs_of(members_of(vectors, groups[:, g]))
    pairs = [(fit, own) for fit, own in zip(fits, members[:, g], strict=True) if own >= 0]
    latents = np.array([fit.latents[:, own] for fit, own in pairs], dtype=np.float64)
    loadings = np.array([fit.factors.loadings[:, own] for fit, own in pairs], dtype=np.float64)
    sd = latents.std(axis=1)
    sd = np.where(sd > 0, sd, 1.0)
    latents *= (signs / sd)[:, None]
    loadings *= (signs * sd)[:, None]
    scale = float(np.median(sd))
    consensus = np.median(loadings, axis=0) / scale
    # of an even number of members the median lies between the two in the middle
    consensus[2 * (loadings == 0).sum(axis=0) >= len(pairs)] = 0.0
    turned = bool(consensus[np.abs(consensus).argmax()] < 0)
    sign = -1.0 if turned else 1.0
    # without a sign of zero
    return sign * consensus + 0.0, sign * np.median(latents, axis=0) * scale + 0.0, turned


def _inclusion(fits: Sequence[SeedFit], group: np.ndarray) -> np.ndarray:
    """Mean inclusion (n_genes,) of one group's members."""
    own = [
        fit.inclusion[:, k]
        for fit, k in zip(fits, group, strict=True)
        if k >= 0 and fit.inclusion is not None
    ]
    return np.mean(own, axis=0)


def _stability(
    vectors: Sequence[np.ndarray],
    groups: np.ndarray,
    n_factors: int,
    n_genes: int,
    halves: Sequence[tuple[FactorSet, FactorSet]],
) -> Stability:
    strengths = [pair_strengths(vectors, group) for group in groups.T]
    centres = centres_of(vectors, groups)
    of_seeds = [
        _between(centres, *(_leading_centres([vectors[seed] for seed in side], n_factors) for side in sides))
        for sides in _seed_halves(len(vectors))
    ]
    of_cells = [_between(centres, first.vectors(), second.vectors()) for first, second in halves]
    half_agreement, all_half_agreement = _mean_of(of_seeds, len(centres))
    halves_of_cells, all_halves_of_cells = _mean_of(of_cells, len(centres))
    return Stability(
        mean=np.array([np.mean(pairs) if pairs else np.nan for pairs in strengths]),
        lowest=np.array([np.min(pairs) if pairs else np.nan for pairs in strengths]),
        seeds_found=(groups >= 0).sum(axis=0),
        half_agreement=half_agreement,
        halves_of_cells=halves_of_cells,
        all_half_agreement=all_half_agreement,
        all_halves_of_cells=all_halves_of_cells,
        chance_95=_chance(vectors, n_genes),
        n_seeds=len(vectors),
    )


def _leading_centres(vectors: Sequence[np.ndarray], n_factors: int) -> np.ndarray:
    """Centres of the n_factors best supported groups of some seeds."""
    groups = matched_groups(vectors)
    most = np.argsort(-(groups >= 0).sum(axis=0), kind="stable")[:n_factors]
    return centres_of(vectors, groups[:, np.sort(most)])


def _seed_halves(n_seeds: int) -> Iterator[tuple[list[int], list[int]]]:
    """Divisions of the seeds into halves (of an odd number one more in the second), at most ten of them."""
    if n_seeds < 2:
        return
    firsts = combinations(range(n_seeds), n_seeds // 2)
    # of an even number every division comes twice
    wanted = (first for first in firsts if n_seeds % 2 or 0 in first)
    for first in islice(wanted, _SPLITS):
        yield list(first), [seed for seed in range(n_seeds) if seed not in first]


def _between(centres: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, float]:
    """Strength (n_groups,) between each factor's partners on two sides, 0 where one lacks it; and of all."""
    direct = strength(first, second)
    per_factor = np.zeros(len(centres))
    own_first, in_first, _ = matched(centres, first)
    own_second, in_second, _ = matched(centres, second)
    places = dict(zip(own_second.tolist(), in_second.tolist(), strict=True))
    for own, place in zip(own_first.tolist(), in_first.tolist(), strict=True):
        if own in places:
            per_factor[own] = direct[place, places[own]]
    n_live = max(len(first), len(second))
    return per_factor, float(matched(first, second)[2].sum() / n_live) if n_live else np.nan


def _mean_of(found: Sequence[tuple[np.ndarray, float]], n_groups: int) -> tuple[np.ndarray, float]:
    if not found:
        return np.full(n_groups, np.nan), np.nan
    return np.mean([own for own, _ in found], axis=0), float(np.mean([overall for _, overall in found]))


def _chance(vectors: Sequence[np.ndarray], n_genes: int) -> float:
    """95th percentile of matched strengths where genes and cells of the second of two fits are permuted.

    Matches are made as between seeds; a single seed is matched with itself. nan without live factors.
    """
    rng = np.random.default_rng(0)
    pairs = list(islice(combinations(range(len(vectors)), 2), _CHANCE_PAIRS)) or [(0, 0)]
    found = []
    for _ in range(_CHANCE_DRAWS):
        for i, j in pairs:
            of_genes, of_cells = np.split(vectors[j], [n_genes], axis=1)
            permuted = np.hstack([rng.permutation(of_genes, axis=1), rng.permutation(of_cells, axis=1)])
            found.append(matched(vectors[i], permuted)[2])
    pooled = np.concatenate(found)
    return float(np.quantile(pooled, 0.95)) if len(pooled) else np.nan
