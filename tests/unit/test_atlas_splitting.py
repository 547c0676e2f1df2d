"""Sides of the split: stratified, whole donors, tiny types, reproducible."""

from pathlib import Path

import numpy as np
import pytest
from atlas_fixture import atlas, prepare
from hypothesis import given, settings
from hypothesis import strategies as st

from latentree.atlas.splitting import split_cells, split_donors
from latentree.errors import InputError
from latentree.splits import SPLITS

TRAIN, VALIDATION, TEST = range(3)


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    test=st.floats(0.01, 0.6),
    validation=st.floats(0.01, 0.39),
    seed=st.integers(0, 100),
)
def test_every_type_is_split_by_its_share(
    sizes: list[int], test: float, validation: float, seed: int
) -> None:
    types = np.random.default_rng(1).permutation(np.repeat(np.arange(len(sizes)), sizes))
    sides = split_cells(types, test, validation, seed)
    for code, n in enumerate(sizes):
        n_train, n_validation, n_test = np.bincount(sides[types == code], minlength=3)
        assert n_train >= 1
        assert n_test >= (n >= 2)
        assert n_validation >= (n >= 3 and n_test < n - 1)
        assert abs(n_test - n * test) <= 1
        assert n_validation <= max(1, n * validation + 0.5)
    np.testing.assert_array_equal(sides, split_cells(types, test, validation, seed))


def test_three_cells_reach_all_sides() -> None:
    assert sorted(split_cells(np.zeros(3, dtype=np.int64), 0.2, 0.1, 0)) == [TRAIN, VALIDATION, TEST]


def test_the_split_depends_on_the_seed_and_is_fair() -> None:
    types = np.repeat([0, 1], 50)
    draws = np.array([split_cells(types, 0.2, 0.1, seed) == TEST for seed in range(300)])
    # 60 of 300 draws on average and a standard deviation of 7 per cell: 5 of them leave room for chance
    assert np.abs(draws.sum(axis=0) - 60).max() < 35
    assert len(np.unique(draws, axis=0)) > 290


@settings(deadline=None, max_examples=30)
@given(
    n_donors=st.integers(3, 9),
    n_types=st.integers(2, 5),
    seed=st.integers(0, 1000),
)
def test_donors_stay_whole_and_types_keep_training_cells(n_donors: int, n_types: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    donors = np.array([f"d{i}" for i in rng.integers(0, n_donors, 200)])
    donors[:n_donors] = [f"d{i}" for i in range(n_donors)]
    types = rng.integers(0, n_types, 200)
    types[:n_types] = range(n_types)
    sides = split_donors(donors, types, [str(i) for i in range(n_types)], (0.2, 0.1), seed, "split_by")
    for donor in set(donors):
        assert len(set(sides[donors == donor])) == 1
    assert set(sides) == {TRAIN, VALIDATION, TEST}
    assert set(types[sides == TRAIN]) == set(types)


def test_of_many_donors_the_shares_come_near() -> None:
    rng = np.random.default_rng(0)
    donors = np.array([f"d{i}" for i in rng.integers(0, 30, 3000)])
    types = rng.integers(0, 4, 3000)
    sides = split_donors(donors, types, list("abcd"), (0.2, 0.1), 0, "split_by")
    for code in range(4):
        shares = np.bincount(sides[types == code], minlength=3) / np.count_nonzero(types == code)
        np.testing.assert_allclose(shares, [0.7, 0.1, 0.2], atol=0.06)


def test_a_donor_that_alone_holds_a_type_trains() -> None:
    donors = np.repeat(["p", "q", "r", "s"], 10)
    types = np.tile([0, 1], 20)
    types[0] = 2  # only in p
    for seed in range(20):
        sides = split_donors(donors, types, ["a", "b", "rare"], (0.2, 0.1), seed, "split_by")
        assert sides[0] == TRAIN


def test_types_of_single_donors_on_every_side_are_an_error() -> None:
    donors = np.repeat(["p", "q", "r"], 10)
    types = np.repeat([0, 1, 2], 10)
    with pytest.raises(InputError, match="found in one donor only: 'a', 'b', 'c'"):
        split_donors(donors, types, ["a", "b", "c"], (0.2, 0.1), 0, "split_by")
    # no type is of one donor alone, and yet any two donors for testing take one away
    pairs = np.repeat(["p", "q", "r"], 10)
    types = np.concatenate([np.tile([0, 1], 5), np.tile([1, 2], 5), np.tile([0, 2], 5)])
    with pytest.raises(InputError, match="found in one donor only: none"):
        split_donors(pairs, types, ["a", "b", "c"], (0.2, 0.1), 0, "split_by")


def test_a_split_by_donors_in_an_atlas(tmp_path: Path) -> None:
    source = atlas()
    source.obs["donor"] = source.obs["donor"].where(np.arange(120) != 5)
    adata, qc = prepare(source, tmp_path, split_by="donor")
    assert adata.n_obs == 119
    assert qc["cells"]["dropped"] == {"no value in donor (split_by)": 1}
    sides = adata.obs.groupby("donor", observed=True)["split"].nunique()
    assert (sides == 1).all()
    found = {donor: side for side in SPLITS for donor in qc["split"]["donors"][side]}
    assert found == dict(zip(adata.obs["donor"], adata.obs["split"], strict=True))
    assert qc["split"]["method"] == "whole donors"
    table = {row["cell_type"]: row for row in qc["cell_types"]}
    for label, cells in adata.obs.groupby("cell_type", observed=True):
        for side in SPLITS:
            assert table[label][side] == (cells["split"] == side).sum()


def test_types_without_test_cells_are_said(tmp_path: Path) -> None:
    source = atlas(types=["a", "b"])
    source.obs["type"] = source.obs["type"].cat.add_categories(["of one <donor>", "two"])
    source.obs.iloc[[0, 1], 0] = "of one <donor>"
    _, qc = prepare(source, tmp_path, split_by="donor", smallest=2)
    assert "Cell types without test cells: 'of one <donor>'." in qc["notes"]
    source.obs["type"] = source.obs["type"].cat.rename_categories({"of one <donor>": "pair"})
    _, qc = prepare(source, tmp_path, smallest=2)
    assert [row for row in qc["cell_types"] if row["cell_type"] == "pair"] == [
        {"cell_type": "pair", "n_cells": 2, "train": 1, "validation": 0, "test": 1}
    ]
    assert "Cell types without validation cells: 'pair'." in qc["notes"]


def test_fewer_than_three_donors_are_an_error(tmp_path: Path) -> None:
    source = atlas()
    source.obs["sample"] = ["one", "two"] * 60
    with pytest.raises(InputError, match=r"split_by \('sample'\): has 2 donor.*'one', 'two'.*at least 3"):
        prepare(source, tmp_path, split_by="sample")
