"""Consensus factors of fits whose truth is planted, and what is called stable."""

from dataclasses import replace

import numpy as np
import pytest

from latentree.consensus import SeedFit, Stability, build_consensus
from latentree.factor_matching import FactorSet, matched_groups, strength

N_CELLS, N_GENES, N_FACTORS = 300, 60, 4
JUDGED = np.arange(0, N_CELLS, 3)


def planted(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Latents (n_cells, n_factors) and sparse loadings (n_genes, n_factors), the largest positive."""
    rng = np.random.default_rng(seed)
    loadings = np.zeros((N_GENES, N_FACTORS))
    for k in range(N_FACTORS):
        loadings[15 * k : 15 * (k + 1), k] = rng.uniform(0.5, 2, 15)
    return rng.normal(size=(N_CELLS, N_FACTORS)) * [4, 3, 2, 1], loadings


def seed_fit(
    latents: np.ndarray,
    loadings: np.ndarray,
    shares: np.ndarray | None = None,
    alive: np.ndarray | None = None,
) -> SeedFit:
    n_factors = latents.shape[1]
    alive = np.ones(n_factors, dtype=bool) if alive is None else alive
    shares = np.linspace(0.4, 0.1, n_factors) if shares is None else shares
    return SeedFit(FactorSet(loadings, latents[JUDGED], alive), latents, shares, (loadings != 0) * 0.8)


def noisy(seed: int, noise: float = 0.15) -> SeedFit:
    """The planted factors with noise, in another order, some turned round."""
    rng = np.random.default_rng(100 + seed)
    latents, loadings = planted()
    order, sign = rng.permutation(N_FACTORS), rng.choice([-1, 1], N_FACTORS)
    latents = latents + noise * latents.std(axis=0) * rng.normal(size=latents.shape)
    loadings = loadings + (loadings != 0) * noise * rng.normal(size=loadings.shape)
    shares = np.linspace(0.4, 0.1, N_FACTORS)[order]
    return seed_fit((latents * sign)[:, order], (loadings * sign)[:, order], shares)


def replaced(fit: SeedFit, factor: int, seed: int) -> SeedFit:
    """A fit one of whose factors is another, random one."""
    rng = np.random.default_rng(seed)
    latents, loadings = fit.latents.copy(), fit.factors.loadings.copy()
    latents[:, factor] = rng.normal(size=N_CELLS)
    loadings[:, factor] = rng.normal(size=N_GENES)
    return seed_fit(latents, loadings, fit.variance_share)


def test_strength_is_half_of_the_correlations_of_loadings_and_scores_added():
    a, b = noisy(0).factors, noisy(1).factors
    found = strength(a.vectors(), b.vectors())
    for i in range(N_FACTORS):
        for j in range(N_FACTORS):
            of_loadings = np.corrcoef(a.loadings[:, i], b.loadings[:, j])[0, 1]
            of_scores = np.corrcoef(a.scores[:, i], b.scores[:, j])[0, 1]
            assert found[i, j] == pytest.approx(abs(of_loadings + of_scores) / 2, abs=1e-9)


def test_factors_that_agree_in_scores_and_are_opposite_in_loadings_are_not_the_same():
    fit = noisy(0)
    turned = replace(fit.factors, loadings=-fit.factors.loadings)
    assert strength(fit.factors.vectors(), turned.vectors()).diagonal() == pytest.approx(0, abs=1e-9)


def test_planted_factors_come_back_whatever_their_order_and_direction():
    latents, loadings = planted()
    found = build_consensus([noisy(seed) for seed in range(5)])
    assert found.alive.all()
    for k in range(N_FACTORS):
        # closer to the truth than any one seed, whose noise of 15% leaves .989
        assert np.corrcoef(found.latents[:, k], latents[:, k])[0, 1] > 0.994
        assert found.loadings[:, k] == pytest.approx(loadings[:, k], abs=0.25)
    assert (found.loadings[loadings == 0] == 0).all()
    assert not np.signbit(found.loadings).any()
    assert found.latents.std(axis=0) == pytest.approx(latents.std(axis=0), rel=0.05)
    assert found.variance_share == pytest.approx(np.linspace(0.4, 0.1, N_FACTORS))
    assert found.inclusion == pytest.approx((loadings != 0) * 0.8)
    assert found.stability.verdicts == ["yes"] * N_FACTORS
    assert found.stability.half_agreement == pytest.approx(1, abs=0.02)
    assert found.stability.all_half_agreement == pytest.approx(1, abs=0.02)


def test_mean_and_lowest_are_those_of_all_pairs_of_seeds():
    fits = [noisy(seed, 0.3) for seed in range(4)]
    found = build_consensus(fits)
    for k in range(N_FACTORS):
        own = [(fit.factors, found.members[seed, k]) for seed, fit in enumerate(fits)]
        pairs = []
        for i, (a, f) in enumerate(own):
            for b, g in own[:i]:
                of_loadings = np.corrcoef(a.loadings[:, f], b.loadings[:, g])[0, 1]
                of_scores = np.corrcoef(a.scores[:, f], b.scores[:, g])[0, 1]
                pairs.append(abs(of_loadings + of_scores) / 2)
        assert found.stability.mean[k] == pytest.approx(np.mean(pairs))
        assert found.stability.lowest[k] == pytest.approx(np.min(pairs))


def test_a_loading_is_zero_where_most_members_say_so():
    latents, loadings = planted()
    changed = loadings.copy()
    changed[0, 0], changed[59, 0] = 0.0, 1.0
    found = build_consensus([seed_fit(latents, values) for values in (loadings, loadings, changed)])
    assert found.loadings[0, 0] == pytest.approx(loadings[0, 0], rel=1e-6)
    assert found.loadings[59, 0] == 0
    even = build_consensus([seed_fit(latents, values) for values in (loadings, changed)])
    assert even.loadings[0, 0] == even.loadings[59, 0] == 0


def test_a_factor_of_some_seeds_only_is_listed_and_not_stable():
    fits = [noisy(seed) for seed in range(5)]
    last = [int(np.flatnonzero(fit.variance_share == fit.variance_share.min())[0]) for fit in fits]
    # the fourth factor: planted in two seeds, another one in three of them, each its own
    fits[2:] = [replaced(fit, last[i], seed=i) for i, fit in enumerate(fits[2:], start=2)]
    found = build_consensus(fits)
    stability = found.stability
    assert stability.seeds_found.tolist() == [5, 5, 5, 2, 1, 1, 1]
    assert stability.verdicts == ["yes", "yes", "yes", "no", "no", "no", "no"]
    assert found.alive.all()
    # of the fourth, most divisions of the seeds leave one side without it
    assert stability.half_agreement[3] < 0.8 < stability.half_agreement[0]
    assert np.isnan(stability.mean[4:]).all()
    assert [int((group >= 0).sum()) for group in found.members.T] == stability.seeds_found.tolist()


def test_random_factors_of_every_seed_are_not_stable():
    rng = np.random.default_rng(0)
    fits = [
        seed_fit(rng.normal(size=(N_CELLS, N_FACTORS)), rng.normal(size=(N_GENES, N_FACTORS)))
        for _ in range(4)
    ]
    found = build_consensus(fits)
    assert found.stability.verdicts == ["no"] * len(found.stability.verdicts)
    assert len(found.stability.verdicts) == 4 * N_FACTORS
    assert found.stability.all_half_agreement < 0.4


def test_chance_is_what_permuted_genes_and_cells_give():
    found = build_consensus([noisy(seed) for seed in range(3)])
    rng = np.random.default_rng(5)
    strengths = []
    for _ in range(300):
        a, b = noisy(0).factors, noisy(1).factors
        b = replace(b, loadings=rng.permutation(b.loadings), scores=rng.permutation(b.scores))
        matching = strength(a.vectors(), b.vectors())
        strengths.append(matching[0, matched_partner(matching)])
    assert found.stability.chance_95 == pytest.approx(np.quantile(strengths, 0.95), abs=0.04)


def matched_partner(values: np.ndarray) -> int:
    """The first row's column in the best one-to-one matching, by trying all."""
    from itertools import permutations

    best = max(permutations(range(len(values))), key=lambda p: sum(values[i, j] for i, j in enumerate(p)))
    return best[0]


def test_dead_factors_are_left_out_and_fill_the_end():
    latents, loadings = planted()
    fits = []
    for seed, dead in enumerate((3, 0, 1)):
        order = np.roll(np.arange(N_FACTORS), dead - 3)
        alive = np.arange(N_FACTORS) != order.tolist().index(3)
        mine, its = latents[:, order].copy(), loadings[:, order].copy()
        mine[:, ~alive], its[:, ~alive] = np.random.default_rng(seed).normal(size=(N_CELLS, 1)), 0
        fits.append(seed_fit(mine, its, np.linspace(0.4, 0.1, N_FACTORS)[order], alive))
    found = build_consensus(fits)
    assert found.alive.tolist() == [True, True, True, False]
    assert (found.latents[:, 3] == 0).all()
    assert (found.loadings[:, 3] == 0).all()
    assert len(found.stability.mean) == 3
    for seed, fit in enumerate(fits):
        assert fit.factors.alive[found.members[seed]].all()


def test_nothing_alive_is_no_error():
    latents, loadings = planted()
    dead = seed_fit(latents, np.zeros_like(loadings), alive=np.zeros(N_FACTORS, dtype=bool))
    found = build_consensus([dead, dead])
    assert not found.alive.any()
    assert found.stability.verdicts == []
    assert found.loadings.shape == (N_GENES, N_FACTORS)


def test_one_seed_is_its_own_consensus_and_nothing_is_known():
    latents, loadings = planted()
    found = build_consensus([seed_fit(latents, loadings)])
    assert found.latents == pytest.approx(latents, rel=1e-5)
    assert found.loadings == pytest.approx(loadings, rel=1e-5)
    assert np.isnan(found.stability.mean).all()
    assert np.isnan(found.stability.all_half_agreement)
    assert found.stability.verdicts == ["unknown"] * N_FACTORS


def halves(lost: int) -> tuple[FactorSet, FactorSet]:
    """Refits on halves of the cells, one of which has another factor instead of ``lost``."""
    latents, loadings = planted()
    whole = seed_fit(latents, loadings)
    return whole.factors, replaced(whole, lost, seed=9).factors


def test_halves_of_the_cells_contradict_seeds_that_agree_by_construction():
    latents, loadings = planted()
    same = [seed_fit(latents, loadings)] * 3
    alone = build_consensus(same)
    assert alone.stability.by_construction
    assert alone.stability.verdicts == ["unknown"] * N_FACTORS
    tested = build_consensus(same, [halves(lost=2)])
    assert tested.stability.verdicts == ["yes", "yes", "no", "yes"]
    assert tested.stability.halves_of_cells[[0, 1, 3]] == pytest.approx(1)
    one_seed = build_consensus(same[:1], [halves(lost=2)])
    assert one_seed.stability.verdicts == ["unknown", "unknown", "no", "unknown"]


@pytest.mark.parametrize(
    ("mean", "found", "halves_of_cells", "chance", "verdict"),
    [
        (0.95, 4, np.nan, 0.3, "yes"),
        (0.95, 3, 0.9, 0.3, "yes"),
        (0.95, 2, 0.9, 0.3, "no"),
        (0.89, 4, 0.9, 0.3, "no"),
        (0.95, 4, 0.7, 0.3, "no"),
        (0.95, 4, 0.9, 0.96, "no"),
    ],
)
def test_the_rule(mean, found, halves_of_cells, chance, verdict):
    one = np.array([mean])
    stability = Stability(
        one, one, np.array([found]), one, np.array([halves_of_cells]), 1.0, 1.0, chance, n_seeds=5
    )
    assert stability.verdicts == [verdict]


def test_groups_do_not_depend_on_the_order_of_seeds():
    vectors = [noisy(seed, 0.4).factors.vectors() for seed in range(5)]
    groups = {tuple(group) for group in matched_groups(vectors).T}
    backwards = {tuple(group[::-1]) for group in matched_groups(vectors[::-1]).T}
    assert groups == backwards
