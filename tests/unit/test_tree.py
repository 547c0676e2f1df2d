"""Trees: text and table round trips, distances against other algorithms, errors."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse.csgraph import shortest_path

from latentree.errors import InputError
from latentree.files import write_table
from latentree.tree import Tree

AWKWARD = [
    "CD4+/CD25 T Reg",
    "a;b",
    "it's",
    "<script>",
    "(x)",
    "Zölle 细胞",
    "a_b",
    "[c]",
    "''",
    " x ",
    "NA",
    "None",
]
NAMES = st.one_of(st.sampled_from(AWKWARD), st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
# what a tab-separated file can hold
TABLE_NAMES = st.one_of(
    st.sampled_from([*AWKWARD, "B\r", "\r\n"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
)
LENGTHS = st.one_of(st.just(np.nan), st.floats(0, 1e300))


@st.composite
def trees(draw: st.DrawFn, names: st.SearchStrategy[str] = NAMES) -> Tree:
    labels = draw(st.lists(names, min_size=1, max_size=12, unique=True))
    rows: list[tuple[str, str | None, float]] = [(labels[0], None, 0.0)]
    for i, label in enumerate(labels[1:]):
        rows.append((label, labels[draw(st.integers(0, i))], draw(LENGTHS)))
    return Tree.from_table(draw(st.permutations(rows)))


def short_tree() -> Tree:
    return Tree.from_newick("((A:1,B:2)ab:3,(C:4)c:5,D:6)root;")


# ---- text and tables


@given(trees())
def test_newick_gives_the_tree_back(tree: Tree) -> None:
    assert Tree.from_newick(tree.to_newick()) == tree


@given(trees())
def test_table_gives_the_tree_back(tree: Tree) -> None:
    assert Tree.from_table(tree.to_table()) == tree
    shuffled = tree.to_table().sample(frac=1, random_state=0)
    assert set(Tree.from_table(shuffled).to_newick()) == set(tree.to_newick())


@given(trees(TABLE_NAMES))
def test_a_table_file_gives_the_names_back(tmp_path_factory: pytest.TempPathFactory, tree: Tree) -> None:
    path = tmp_path_factory.mktemp("tree") / "tree.tsv"
    write_table(tree.to_table(), path)
    back = Tree.from_file(path)
    assert back.names == tree.names
    assert np.array_equal(back.parents, tree.parents)
    np.testing.assert_allclose(back.branch_lengths, tree.branch_lengths, rtol=1e-8)


def test_newick_as_others_write_it() -> None:
    text = "[&R] (\n  A:1e-3 [note [nested]],\n ('B''s':.5, CD4_T cell )90:2\n):7;\n"
    tree = Tree.from_newick(text)
    assert tree.names == ("node1", "A", "90", "B's", "CD4_T cell")
    assert tree.parents.tolist() == [-1, 0, 0, 2, 2]
    np.testing.assert_array_equal(tree.branch_lengths, [0, 1e-3, 2, 0.5, np.nan])
    assert tree.to_newick() == "(A:0.001,('B''s':0.5,'CD4_T cell')90:2.0)node1;"


def test_unnamed_nodes_get_names_that_are_free() -> None:
    assert Tree.from_newick("((node2,B),C);").names == ("_node1", "_node2", "node2", "B", "C")
    assert Tree.from_newick("((A,B),C);").names == ("node1", "node2", "A", "B", "C")


def test_single_children_and_single_nodes() -> None:
    assert Tree.from_newick("((A)b)c;").parents.tolist() == [-1, 0, 1]
    assert Tree.from_newick("A;").leaves == ("A",)


def test_depth_is_no_limit() -> None:
    depth = 20_000
    tree = Tree.from_newick("(" * depth + "leaf" + ")" * depth + ";")
    assert tree.n_nodes == depth + 1
    assert Tree.from_newick(tree.to_newick()) == tree
    assert tree.contracted(["leaf"]).names == ("leaf",)
    assert tree.distance("leaf", tree.root) == depth


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("(A,B", "1 '(' still open"),
        ("((A,B);", "1 '(' still open"),
        ("(A,B));", "a ')' without its '('"),
        ("(A,B)", "ends without a ';'"),
        ("", "ends without a ';'"),
        ("A,B;", "',' cannot stand here"),
        ("(A,,B);", "a leaf without a name"),
        ("();", "a leaf without a name"),
        ("(A,B)r;(C,D)s;", "more text after the ';'"),
        ("(A,B)r; x", "more text after the ';'"),
        ("(A:-1,B);", "the branch length -1 is negative"),
        ("(A:x,B);", "'x' is not a branch length"),
        ("(A:,B);", "',' is not a branch length"),
        ("(A:inf,B);", "'inf' is not a branch length"),
        ("(A:1:2,B);", "':' cannot stand here"),
        ("(A,B)(C,D);", "'(' cannot stand here"),
        ("(A 'b',C);", "'b' cannot stand here"),
        ("('A,B);", "a quote that is never closed"),
        ("(A,[B);", "a comment '[' that is never closed"),
        ("(A,B]);", "a ']' without its '['"),
        ("(A,A);", "1 name(s) used by more than one node: 'A'"),
        ("(A,'');", "1 node(s) with an empty name"),
    ],
)
def test_broken_newick_is_told(text: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        Tree.from_newick(text, "my.nwk")
    assert str(caught.value).startswith("my.nwk: ")
    assert problem in caught.value.problem


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([("A", "B"), ("B", "A"), ("r", None)], "a cycle: 2 node(s) cannot be reached from a root: 'A', 'B'"),
        ([("A", "A")], "a cycle"),
        ([("A", None), ("B", None)], "2 roots: 'A', 'B'"),
        ([("A", "r")], "1 parent(s) without a row of their own: 'r'"),
        ([("A", "r"), ("A", "r"), ("r", None)], "used by more than one node: 'A'"),
        ([("A", "r", -2.0), ("r", None)], "A: -2"),
        ([("A", "r", "long"), ("r", None)], "'long' is not a branch length"),
        ([("", "r"), ("r", None)], "1 node(s) with an empty name"),
        ([("A",)], "a row of 1 values"),
        ([(("x", "y"), None)], "is not a node's name"),
        ([], "no nodes"),
    ],
)
def test_broken_tables_are_told(rows: list[tuple], problem: str) -> None:
    with pytest.raises(InputError) as caught:
        Tree.from_table(rows, "my.tsv")
    assert caught.value.where == "my.tsv"
    assert problem in caught.value.problem


def test_tables_of_cluster_numbers() -> None:
    frame = pd.DataFrame({"node": [7, 0, 1], "parent": [np.nan, 7, 7], "cells": [0, 3, 4]})
    assert Tree.from_table(frame).to_newick() == "(0,1)7;"
    assert Tree.from_table([("B", "r"), ("T", "r"), ("r", None)]).leaves == ("B", "T")


def test_files(tmp_path: Path) -> None:
    def written(name: str, text: bytes) -> Path:
        (tmp_path / name).write_bytes(text)
        return tmp_path / name

    assert Tree.from_file(written("a.nwk", b"\xef\xbb\xbf(A,B)r;\r\n")).to_newick() == "(A,B)r;"
    assert Tree.from_file(written("a.csv", b"node,parent\nNA,r\nr,\n007,r\n")).names == ("r", "NA", "007")
    for name, text, problem in [
        ("b.tsv", b"child\tparent\nA\tr\n", "no column 'node' (columns: 'child', 'parent')"),
        ("b.txt", b"", "is not a table"),
        ("b.nwk", b"(\xff,B);", "is not UTF-8"),
        ("b.nexus", b"#NEXUS", "cannot end in '.nexus'"),
    ]:
        with pytest.raises(InputError) as caught:
            Tree.from_file(written(name, text))
        assert problem in str(caught.value)
        assert name in caught.value.where
    with pytest.raises(InputError, match=r"gone\.nwk: cannot be read \(No such file"):
        Tree.from_file(tmp_path / "gone.nwk")


def test_leaves_must_be_the_types() -> None:
    tree = short_tree()
    tree.require_leaves(["A", "B", "C", "D"], "my.nwk")
    tree.require_leaves(["A", "B", "C", "D", "ab"], "my.nwk")  # types may sit at internal nodes
    with pytest.raises(InputError) as caught:
        tree.require_leaves(["A", "B", "C", "a;b"], "my.nwk")
    assert caught.value.where == "my.nwk"
    assert "lacks 1 cell type(s) of the atlas: 'a;b'" in caught.value.problem
    assert "1 of its leaves are no cell types: 'D'" in caught.value.problem


def test_trees_are_frozen_and_checked() -> None:
    tree = short_tree()
    with pytest.raises(ValueError, match="read-only"):
        tree.branch_lengths[1] = 3
    with pytest.raises(InputError, match="earlier nodes"):
        Tree(("a", "b", "c"), np.array([-1, 2, 0]), np.zeros(3))
    assert tree == short_tree()
    assert hash(tree) == hash(short_tree())
    assert tree != Tree.from_newick("((A:1,B:2)ab:3,(C:4)c:5,D:7)root;")


# ---- paths and distances


def test_paths() -> None:
    tree = short_tree()
    assert tree.path("B") == ("root", "ab", "B")
    assert tree.arcs == ("ab", "A", "B", "c", "C", "D")
    assert tree.leaves == ("A", "B", "C", "D")
    assert tree.distance("A", "C") == 13
    assert tree.nearest("A", ["C", "D", "ab"]) == "ab"
    assert tree.nearest("A", ["A", "ab"]) == "A"
    with pytest.raises(InputError, match="has no node 'E'"):
        tree.path("E")


def test_ties_of_nearest_go_to_fewer_branches_then_to_the_first() -> None:
    assert Tree.from_newick("((A:1,B:1)x:0,C:1)r;").nearest("A", ["C", "B"]) == "B"
    assert Tree.from_newick("((B:1)x:0,A:1,C:1)r;").nearest("A", ["B", "C"]) == "C"
    assert Tree.from_newick("(A:0,B:0)r;").nearest("B", ["A", "B"]) == "B"


@given(trees())
def test_ancestors_and_distances_agree_with_graph_search(tree: Tree) -> None:
    for i, name in enumerate(tree.names):
        row = tree.ancestors()[i].toarray().ravel()
        assert {arc for arc, there in zip(tree.arcs, row, strict=True) if there} == set(tree.path(name)[1:])
    # unknown lengths: every branch counts 1
    steps = tree.branch_lengths if tree.has_lengths else np.ones(tree.n_nodes)
    if not (steps[1:] > 0).all() or steps.max() > 1e6:
        return  # csgraph reads 0 as "no edge", and huge lengths cancel
    graph = sparse.csr_matrix(
        (steps[1:], (tree.parents[1:], np.arange(1, tree.n_nodes))), shape=(tree.n_nodes,) * 2
    )
    expected = shortest_path(graph, directed=False)
    for i, a in enumerate(tree.names):
        for j, b in enumerate(tree.names):
            assert tree.distance(a, b) == pytest.approx(expected[i, j])


@given(trees(), st.data())
def test_contraction_leaves_no_unobserved_single_child_and_keeps_distances(
    tree: Tree, data: st.DataObject
) -> None:
    observed = data.draw(st.sets(st.sampled_from(tree.names)))
    small = tree.contracted(observed)
    assert observed <= set(small.names)
    assert set(tree.leaves) == set(small.leaves)
    n_children = np.bincount(small.parents[1:], minlength=small.n_nodes)
    assert all(name in observed or n != 1 for name, n in zip(small.names, n_children, strict=True))
    if tree.has_lengths and tree.branch_lengths.max() < 1e6:
        for name in small.names:
            assert small.distance(small.root, name) == pytest.approx(tree.distance(small.root, name))
