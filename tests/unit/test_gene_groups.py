"""The partition of genes into groups, against a plain loop that follows its rule word by word."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentree.models.gene_groups import EXEMPT, GeneGroups, partition, permuted

GENES = [f"g{j}" for j in range(12)]


def _partition_by_the_rule(sets, genes, min_size):
    """Groups as a dict of lists, all genes shared out from scratch after every set that is dropped."""
    left = dict(sets)
    while True:
        owned = {name: [] for name in sorted(left, key=lambda name: (len(set(left[name])), name))}
        for gene in genes:
            holder = next((name for name in owned if gene in left[name]), None)
            if holder is not None:
                owned[holder].append(gene)
        small = [name for name in owned if len(owned[name]) < min_size]
        if not small:
            return owned
        del left[small[0]]


@given(
    sets=st.dictionaries(
        st.text("abc", min_size=1, max_size=3),
        st.lists(st.sampled_from([*GENES, "elsewhere1", "elsewhere2"]), max_size=9),
        max_size=9,
    ),
    min_size=st.integers(1, 4),
)
def test_partition_is_what_its_rule_says(sets, min_size):
    groups = partition(sets, GENES, min_size)
    expected = _partition_by_the_rule(sets, GENES, min_size)
    assert groups.names == (*expected, EXEMPT)
    for group, name in enumerate(groups.names[:-1]):
        assert [GENES[j] for j in np.flatnonzero(groups.member == group)] == expected[name]
    assert (groups.sizes[:-1] >= min_size).all()
    assert groups.sizes.sum() == len(GENES)


def test_a_gene_goes_to_its_smallest_set():
    sets = {"broad": GENES[:9], "narrow": GENES[:3]}
    groups = partition(sets, GENES, min_size=3)
    assert groups.names == ("narrow", "broad", EXEMPT)
    assert groups.member.tolist() == [0] * 3 + [1] * 6 + [2] * 3


def test_genes_of_a_dropped_set_go_to_its_parent():
    groups = partition({"broad": GENES[:9], "narrow": GENES[:3]}, GENES, min_size=4)
    assert groups.names == ("broad", EXEMPT)
    assert groups.sizes.tolist() == [9, 3]


def test_a_broad_set_waits_for_the_genes_of_small_ones_that_are_dropped():
    sets = {"broad": GENES[:6], **{f"small{i}": GENES[2 * i : 2 * i + 2] for i in range(3)}}
    groups = partition(sets, GENES, min_size=5)
    assert groups.names == ("broad", EXEMPT)
    assert groups.sizes.tolist() == [6, 6]


def test_without_sets_all_genes_are_exempt():
    groups = partition({}, GENES)
    assert groups.n_sets == 0
    assert groups.sizes.tolist() == [12]


def test_thousands_of_sets_take_little_time():
    rng = np.random.default_rng(0)
    genes = [f"g{j}" for j in range(5000)]
    sets = {
        f"s{i}": [genes[j] for j in rng.choice(5000, rng.integers(1, 200), replace=False)]
        for i in range(3000)
    }
    before = time.process_time()
    groups = partition(sets, genes)
    assert time.process_time() - before < 3
    assert groups.n_sets > 100


def test_the_control_keeps_sizes_and_the_exempt_genes():
    groups = partition({"a": GENES[:4], "b": GENES[4:9]}, GENES, min_size=2)
    control = permuted(groups, np.random.default_rng(0))
    assert control.names == groups.names
    np.testing.assert_array_equal(control.sizes, groups.sizes)
    np.testing.assert_array_equal(control.member[9:], groups.member[9:])
    assert (control.member != groups.member).any()


def test_groups_come_back_from_their_arrays():
    groups = GeneGroups(("T-cell α", EXEMPT), np.array([0, 1, 0]))
    again = GeneGroups.from_state(groups.state())
    assert again.names == groups.names
    np.testing.assert_array_equal(again.member, groups.member)


@pytest.mark.parametrize(
    ("names", "member"), [((), []), (("a",), [0]), ((EXEMPT,), [1]), (("a", EXEMPT), [-1])]
)
def test_groups_that_cannot_be_are_refused(names, member):
    with pytest.raises(ValueError):
        GeneGroups(names, np.array(member, dtype=np.int64))
