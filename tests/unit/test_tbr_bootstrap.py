"""Intervals of changes: what is drawn, coverage of true changes, donors whose effects differ at random."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from latentree.errors import InputError
from latentree.plots.tbr_tree import excludes_zero
from latentree.simulate import balanced_tree
from latentree.tbr import TBRFit, fit_tbr
from latentree.tbr.bootstrap import Intervals, _drawing, bootstrap_changes
from latentree.tbr.resolving import solve_again

N_DONORS, PER_DONOR = 8, 80
QUICK = {"phi": "linear", "n_steps": 200, "n_finetune_steps": 60}


@dataclass(frozen=True)
class Study:
    """Donors with cells of eight types; true changes are on four inner branches, one latent each."""

    fit: TBRFit
    true: pd.DataFrame
    Z: np.ndarray
    y: np.ndarray
    environments: np.ndarray
    donors: np.ndarray

    def intervals(self, by_donor: bool, n_replicates: int = 30) -> Intervals:
        """For the true latents, so that nothing but the drawing is judged."""
        return bootstrap_changes(
            self.fit,
            self.Z,
            self.y,
            self.environments,
            donors=self.donors if by_donor else None,
            n_replicates=n_replicates,
        )

    def judged(self, by_donor: bool) -> pd.DataFrame:
        """A row per change that is identified alone: true, change, lower, upper, covered, flagged."""
        found = self.intervals(by_donor)
        tree = self.fit.tree
        alone = [name for i, name in enumerate(tree.arcs) if tree.parents[i + 1] != 0]
        changes = solve_again(self.fit, self.Z, self.y, self.environments).changes
        tables = {"true": self.true, "change": changes, "lower": found.lower, "upper": found.upper}
        table = pd.DataFrame({name: values.loc[alone].to_numpy().ravel() for name, values in tables.items()})
        table["covered"] = (table["lower"] <= table["true"]) & (table["true"] <= table["upper"])
        table["flagged"] = excludes_zero(table)
        return table


def study(seed: int, slope_sd: float) -> Study:
    """``slope_sd``: sd over donors of each effect in each type, which no tree holds."""
    rng = np.random.default_rng(seed)
    tree = balanced_tree(3)
    true = pd.DataFrame(0.0, index=list(tree.arcs), columns=["a", "b"])
    for branch, latent, value in ((2, 0, 0.8), (5, 1, -0.8), (9, 0, -0.6), (12, 1, 0.9)):
        true.iloc[branch, latent] = value
    weights = {tree.root: np.array([1.0, -0.7])}
    for i, name in enumerate(tree.arcs):
        weights[name] = weights[tree.names[tree.parents[i + 1]]] + true.iloc[i].to_numpy()
    n_here = N_DONORS * PER_DONOR
    environments = np.repeat(np.array(tree.leaves, dtype=object), n_here)
    donors = np.tile(np.repeat([f"d{i}" for i in range(N_DONORS)], PER_DONOR), len(tree.leaves))
    Z = rng.normal(size=(len(environments), 2))
    slopes = slope_sd * rng.normal(size=(len(tree.leaves) * N_DONORS, 2))
    effects = np.array([weights[e] for e in environments]) + np.repeat(slopes, PER_DONOR, axis=0)
    y = (effects * Z).sum(axis=1) + 0.3 * rng.normal(size=len(Z))
    fit = fit_tbr(Z, y, environments, tree, 2, "two_stage", seed, QUICK)
    return Study(fit, true, Z, y, environments, donors)


@pytest.fixture(scope="module")
def alike():
    """Donors whose effects are the same."""
    return study(0, 0.0)


@pytest.fixture(scope="module")
def differing():
    """Five sets of donors whose effects differ at random."""
    return [study(seed, 0.4) for seed in range(5)]


@pytest.mark.parametrize("by_donor", [False, True])
def test_true_changes_are_found_and_absent_ones_are_not(alike, by_donor):
    table = alike.judged(by_donor)
    present = table["true"] != 0
    assert table.loc[present, "flagged"].all()
    # the intervals are hundredths wide, and choosing which changes there are is an error of its own
    nearest = table["true"].clip(table["lower"] - 0.03, table["upper"] + 0.03)
    assert (nearest == table["true"])[present].mean() >= 0.75
    # nominally 5% of the 20 absent ones
    assert table.loc[~present, "flagged"].sum() <= 2
    assert table.loc[~present, "covered"].mean() >= 0.9


def test_where_donors_differ_only_drawing_donors_covers(differing):
    cells, donors = (pd.concat([each.judged(by_donor) for each in differing]) for by_donor in (False, True))
    present = cells["true"] != 0
    assert donors.loc[present, "covered"].mean() >= 0.7
    assert cells.loc[present, "covered"].mean() <= 0.5
    assert donors.loc[present, "flagged"].mean() >= 0.5
    # 100 absent changes, nominally 5% of them flagged
    assert donors.loc[~present, "flagged"].mean() <= 0.05
    assert cells.loc[~present, "flagged"].mean() > donors.loc[~present, "flagged"].mean()
    width = (donors["upper"] - donors["lower"])[present] / (cells["upper"] - cells["lower"])[present]
    assert width.median() > 1.5


def test_the_result_has_the_shape_of_the_changes_and_repeats(alike):
    one, two = alike.intervals(True, 10), alike.intervals(True, 10)
    for table in (one.lower, one.upper, one.share_nonzero):
        assert table.index.equals(alike.fit.changes.index)
        assert table.columns.equals(alike.fit.changes.columns)
    assert (one.lower <= one.upper).all(axis=None)
    assert one.share_nonzero.to_numpy().max() <= 1
    pd.testing.assert_frame_equal(one.lower, two.lower)
    assert (one.unit, one.n_units, one.n_replicates) == ("donors", N_DONORS, 10)
    assert alike.intervals(False, 2).n_units == len(alike.y)


def test_whole_donors_are_drawn_within_values_of_a_binary_phenotype():
    donors = np.repeat(["a", "b", "c", "d", "e"], 4)
    y = np.repeat([0.0, 0, 0, 1, 1], 4)
    draw, n_units = _drawing(y, donors.astype(object), donors, binary=True)
    rng = np.random.default_rng(0)
    assert n_units == 5
    seen = set()
    for _ in range(50):
        counts = draw(rng).reshape(5, 4)
        assert (counts == counts[:, :1]).all()
        assert counts[:3, 0].sum() == 3
        assert counts[3:, 0].sum() == 2
        seen.add(tuple(counts[:, 0]))
    assert len(seen) > 10


def test_donors_with_both_values_are_drawn_together():
    donors = np.repeat(["a", "b", "c"], 4)
    draw, _ = _drawing(np.tile([0.0, 1], 6), donors.astype(object), donors, binary=True)
    counts = draw(np.random.default_rng(0)).reshape(3, 4)
    assert counts[:, 0].sum() == 3


def test_cells_are_drawn_within_their_environments():
    environments = np.array(["x"] * 5 + ["y"] * 2, dtype=object)
    draw, n_units = _drawing(np.arange(7.0), environments, None, binary=False)
    rng = np.random.default_rng(0)
    assert n_units == 7
    for _ in range(10):
        counts = draw(rng)
        assert (counts[:5].sum(), counts[5:].sum()) == (5, 2)


def test_a_value_of_one_donor_is_refused_because_every_draw_would_hold_it():
    donors = np.repeat(["a", "b", "c"], 4)
    y = np.repeat([0.0, 0, 1], 4)
    with pytest.raises(InputError, match="all training cells with one of the values are of one donor, 'c'"):
        _drawing(y, donors.astype(object), donors, binary=True)


def test_one_donor_or_one_draw_is_refused(alike):
    z = alike.fit.latents(alike.Z)
    with pytest.raises(InputError, match="are of one donor, 'd'"):
        bootstrap_changes(alike.fit, z, alike.y, alike.environments, donors=np.full(len(z), "d"))
    with pytest.raises(InputError, match="1 draws give no interval"):
        bootstrap_changes(alike.fit, z, alike.y, alike.environments, n_replicates=1)
