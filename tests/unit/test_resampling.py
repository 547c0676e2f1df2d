"""The cells of a refit: shares and halves of the right cells, always the same ones."""

import numpy as np
import pytest

from latentree.resampling import draw_part, refit_pairs

SPLIT = np.array(["train"] * 70 + ["validation"] * 11 + ["test"] * 19)[
    np.random.default_rng(0).permutation(100)
]
DONORS = np.array(["a", "b", "c", "d", "e"])[np.arange(100) % 5]


def count(part, side, split=SPLIT):
    return int((part.kept & (split == side)).sum())


def test_a_resample_has_its_share_of_each_side_and_all_test_cells():
    part = draw_part("r0", SPLIT, 0, fraction=0.8)
    assert [count(part, side) for side in ("train", "validation", "test")] == [56, 9, 19]
    assert part.how == "random 80% of the cells"


def test_the_same_name_and_seed_give_the_same_cells_and_others_give_others():
    kept = [
        draw_part(name, SPLIT, seed, 0.8).kept for name, seed in (("r0", 0), ("r0", 0), ("r1", 0), ("r0", 1))
    ]
    assert (kept[0] == kept[1]).all()
    assert all((kept[0] != other).any() for other in kept[2:])
    # fixed for good: another draw would be another result of the same config
    assert np.flatnonzero(~kept[0])[:5].tolist() == [14, 24, 31, 32, 37]


def test_halves_are_disjoint_and_leave_no_cell_out():
    one, other = (draw_part(f"half{i}", SPLIT, 0) for i in (0, 1))
    drawn = SPLIT != "test"
    assert ((one.kept ^ other.kept) == drawn).all()
    assert [count(one, "train"), count(other, "train")] == [35, 35]
    assert sorted([count(one, "validation"), count(other, "validation")]) == [5, 6]
    assert (one.kept != draw_part("half2", SPLIT, 0).kept).any()


@pytest.mark.parametrize("seed", range(5))
def test_halves_are_of_whole_donors_where_there_are_donors(seed):
    # donors on one side each, as read_atlas splits them
    split = np.array(["train", "train", "train", "validation", "test"])[np.arange(100) % 5]
    one, other = (draw_part(f"half{i}", split, seed, donors=DONORS) for i in (0, 1))
    assert one.how == other.how == "disjoint halves of whole donors"
    of_train = [set(DONORS[part.kept & (split == "train")]) for part in (one, other)]
    assert of_train[0].isdisjoint(of_train[1])
    assert set.union(*of_train) == {"a", "b", "c"}
    assert {len(each) for each in of_train} == {1, 2}
    # a single donor's validation cells are halved by cells
    assert [count(one, "validation", split), count(other, "validation", split)] == [10, 10]


@pytest.mark.parametrize("sizes", [[80], [70, 5, 5]])
def test_donors_that_cannot_be_halved_are_halved_by_cells(sizes):
    donors = np.repeat([f"d{i}" for i in range(len(sizes))], sizes)
    split = np.full(len(donors), "train")
    one, other = (draw_part(f"half{i}", split, 0, donors=donors) for i in (0, 1))
    assert (one.kept != other.kept).all()
    assert one.kept.sum() == 40
    assert one.how == "disjoint halves of the cells, for its donors cannot be halved"


def test_uneven_donors_make_halves_as_even_as_they_can():
    donors = np.repeat(["a", "b", "c", "d"], [50, 20, 20, 10])
    part = draw_part("half0", np.full(100, "train"), 3, donors=donors)
    assert part.kept.sum() in (40, 50, 60)


def test_a_single_cell_is_kept():
    split = np.array(["train", "validation", "test"])
    assert draw_part("r0", split, 0, fraction=0.1).kept.all()


def test_every_two_resamples_and_the_halves_of_each_pair_are_compared():
    assert refit_pairs(["half1", "r2", "half0", "r10", "half2", "r0"]) == {
        "halves": [("half0", "half1")],
        "resamples": [("r0", "r2"), ("r0", "r10"), ("r2", "r10")],
    }
    assert refit_pairs([]) == {"halves": [], "resamples": []}


@pytest.mark.parametrize("name", ["x0", "half", "r-1"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match="no name"):
        draw_part(name, SPLIT, 0, fraction=0.5)
