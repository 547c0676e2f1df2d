"""Over-representation against scipy's tests and gseapy, and the control of permuted genes."""

import socket

import gseapy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, fisher_exact, hypergeom

from latentree.enrichment import (
    COLUMNS,
    SIGNIFICANT,
    OverRepresentation,
    benjamini_hochberg,
    over_representation,
    sets_to_test,
    upper_tails,
)

BACKGROUND = [f"GENE{i}" for i in range(60)]


@pytest.fixture
def sets() -> dict[str, list[str]]:
    rng = np.random.default_rng(0)
    drawn = {
        f"set {i}": list(rng.choice(BACKGROUND, size=rng.integers(3, 25), replace=False)) for i in range(30)
    }
    # most of a set from a database is not among the modelled genes
    return {name: [*genes, *(f"OTHER{i}" for i in range(40))] for name, genes in drawn.items()}


@pytest.fixture
def active() -> dict[str, list[str]]:
    rng = np.random.default_rng(1)
    return {
        "f1": list(rng.choice(BACKGROUND, 10, replace=False)),
        "f2": [],
        "f10": list(rng.choice(BACKGROUND, 20, replace=False)),
    }


def test_p_values_and_counts_equal_scipys(active, sets):
    table = over_representation(active, sets, BACKGROUND, min_set_size=5, max_set_size=20)
    assert list(table.columns) == COLUMNS
    for row in table.itertuples():
        members, query = set(sets[row.gene_set]) & set(BACKGROUND), set(active[row.factor])
        a = len(members & query)
        counts = [[a, len(members) - a], [len(query) - a, 60 - len(members) - len(query) + a]]
        assert (row.n_overlap, row.n_set, row.n_background, row.method) == (a, len(members), 60, "ora")
        assert row.p_value == pytest.approx(fisher_exact(counts, alternative="greater").pvalue, rel=1e-9)
        assert row.p_value == pytest.approx(hypergeom.sf(a - 1, 60, len(members), len(query)), rel=1e-9)
        (b, c), (d, e) = np.array(counts) + 0.5
        assert row.odds_ratio == pytest.approx(b * e / (c * d))
        assert row.genes.split(";") == [gene for gene in active[row.factor] if gene in members]


def test_q_values_are_over_all_factors_and_sets_of_the_fit(active, sets):
    table = over_representation(active, sets, BACKGROUND, min_set_size=5, max_set_size=20)
    tested = [genes for genes in sets.values() if 5 <= len(set(genes) & set(BACKGROUND)) <= 20]
    assert 0 < len(tested) < len(sets)
    p = [
        hypergeom.sf(len(set(genes) & set(query)) - 1, 60, len(set(genes) & set(BACKGROUND)), len(query))
        for query in (active["f1"], active["f10"])
        for genes in tested
    ]
    q = false_discovery_control(p)
    expected = dict(zip(np.round(p, 9), q, strict=True))
    found = [expected[p_value] for p_value in np.round(table["p_value"], 9)]
    assert table["q_value"].to_numpy() == pytest.approx(np.array(found))
    assert table["q_value"].between(0, 1).all()


def test_rows_are_sorted_by_factor_as_given_then_p_value(active, sets):
    table = over_representation(active, sets, BACKGROUND)
    assert table["factor"].drop_duplicates().tolist() == ["f1", "f10"]
    for _, rows in table.groupby("factor"):
        assert rows["p_value"].is_monotonic_increasing
    shuffled = dict(reversed([(name, genes[::-1]) for name, genes in sets.items()]))
    assert over_representation(active, shuffled, BACKGROUND).equals(table)


def test_names_are_taken_as_they_are():
    background = ["C1orf43", "H2-Ab1", "101", "102", "a b", "<i>", "nan", "Cd3d", "CD3D", "é"]
    sets = {'CD4+/CD25 T Reg; <b>"x"': ["C1orf43", "101", "Cd3d"], "KEGG_2016": ["CD3D", "nan", "<i>"]}
    table = over_representation({"f1": ["Cd3d", "C1orf43", "nan"]}, sets, background, min_set_size=3)
    assert dict(zip(table["gene_set"], table["genes"], strict=True)) == {
        'CD4+/CD25 T Reg; <b>"x"': "Cd3d;C1orf43",
        "KEGG_2016": "nan",
    }
    assert table["n_set"].tolist() == [3, 3]


@pytest.mark.parametrize(
    ("active", "sets"),
    [
        ({}, {"s": BACKGROUND[:6]}),
        ({"f1": []}, {"s": BACKGROUND[:6]}),
        ({"f1": BACKGROUND[:3]}, {}),
        ({"f1": BACKGROUND[:3]}, {"too small": BACKGROUND[:4], "elsewhere": ["X"] * 9}),
        ({"f1": BACKGROUND[:3]}, {"no overlap": BACKGROUND[10:20]}),
    ],
)
def test_nothing_to_test_gives_the_header(active, sets):
    table = over_representation(active, sets, BACKGROUND)
    assert list(table.columns) == COLUMNS
    assert len(table) == 0


def test_joined_genes_can_be_told_apart():
    genes = ["a;b", "c", "d\\", "\\;e", "f"]
    sets = {"s": genes}
    (joined,) = over_representation({"f1": genes}, sets, [*genes, "g", "h"])["genes"]
    # the rule of docs/outputs.md, read by hand
    found, name, characters = [], "", iter(joined)
    for character in characters:
        if character == ";":
            found.append(name)
            name = ""
        else:
            name += next(characters) if character == "\\" else character
    assert [*found, name] == genes
    assert joined.startswith("a\\;b;c;")


def test_the_sets_said_to_be_tested_are_those_that_are(active, sets):
    limits = {"min_set_size": 5, "max_set_size": 8}
    everywhere = {"f1": BACKGROUND}
    tested = over_representation(everywhere, sets, BACKGROUND, **limits)["gene_set"]
    assert sets_to_test(sets, BACKGROUND, **limits) == sorted(tested)


def test_it_works_without_a_network(monkeypatch, active, sets):
    def refuse(*_: object) -> None:
        raise AssertionError("enrichment opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    assert len(over_representation(active, sets, BACKGROUND)) > 0


def test_gseapy_finds_the_same(active, sets):
    table = over_representation(active, sets, BACKGROUND, min_set_size=1)
    theirs = gseapy.enrich(
        gene_list=list(active["f10"]), gene_sets=sets, background=BACKGROUND, outdir=None, no_plot=True
    ).results.set_index("Term")
    ours = table[table["factor"] == "f10"].set_index("gene_set")
    assert sorted(theirs.index) == sorted(ours.index)
    theirs = theirs.loc[ours.index]
    assert ours["p_value"].to_numpy() == pytest.approx(theirs["P-value"].to_numpy(float), rel=1e-9)
    assert ours["odds_ratio"].to_numpy() == pytest.approx(theirs["Odds Ratio"].to_numpy(float))
    assert [f"{a}/{b}" for a, b in zip(ours["n_overlap"], ours["n_set"], strict=True)] == list(
        theirs["Overlap"]
    )


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_tails_are_scipys(data):
    n = data.draw(st.integers(1, 3000))
    size, query = (data.draw(st.integers(0, n)) for _ in range(2))
    tails = upper_tails(n, np.array([size]), query)[0]
    k = data.draw(st.integers(0, query))
    assert tails[k] == pytest.approx(hypergeom.sf(k - 1, n, size, query), rel=1e-8, abs=1e-300)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_p_values_are_scipys(p_values):
    found = benjamini_hochberg(np.array(p_values))
    assert found == pytest.approx(false_discovery_control(p_values))


def test_directions_are_tested_where_signs_differ_and_all_tests_count(sets):
    active = {"f1": BACKGROUND[:12], "f2": BACKGROUND[20:28], "f3": BACKGROUND[40:44]}
    loadings = {"f1": [2.0, -1.0] * 6, "f2": [1.0] * 8, "f3": [-1.0] * 4}
    limits = {"min_set_size": 5, "max_set_size": 20}
    tests = OverRepresentation(active, sets, BACKGROUND, loadings=loadings, **limits)
    assert list(tests.queries) == [("f1", d) for d in ("both", "up", "down")] + [("f2", "up"), ("f3", "down")]
    assert tests.n_factors == 3
    table = tests.table()
    up = table[(table["factor"] == "f1") & (table["direction"] == "up")]
    assert set(";".join(up["genes"]).split(";")) <= set(BACKGROUND[0:12:2])
    alone = over_representation({"f1": BACKGROUND[0:12:2]}, sets, BACKGROUND, **limits)
    assert up.set_index("gene_set")["p_value"].to_dict() == alone.set_index("gene_set")["p_value"].to_dict()
    n_tests = 5 * len(tests.sets.names)
    p_values = [*table["p_value"], *[1.0] * (n_tests - len(table))]
    assert table["q_value"].to_numpy() == pytest.approx(false_discovery_control(p_values)[: len(table)])


def test_the_order_of_genes_and_sets_changes_nothing(active, sets):
    loadings = {factor: np.arange(len(genes)) - 3.5 for factor, genes in active.items()}
    limits = {"min_set_size": 5, "max_set_size": 500}
    one = OverRepresentation(active, sets, BACKGROUND, loadings=loadings, **limits)
    shuffled = dict(reversed([(name, genes[::-1]) for name, genes in sets.items()]))
    other = OverRepresentation(active, shuffled, BACKGROUND[::-1], loadings=loadings, **limits)
    assert one.table().equals(other.table())
    assert one.by_chance(5).tolist() == other.by_chance(5).tolist()


def test_the_control_is_what_a_plain_loop_over_permuted_names_finds(sets):
    active = {"f1": BACKGROUND[:15], "f2": BACKGROUND[10:30]}
    # so few sets, all of one size, that chance enriches some
    few = {name: sorted(set(genes) & set(BACKGROUND))[:6] for name, genes in list(sets.items())[:8]}
    tests = OverRepresentation(active, few, BACKGROUND, min_set_size=2, max_set_size=20)
    rng = np.random.default_rng(3)
    expected = []
    for _ in range(60):
        # the gene at place i gets the name that stood at place order[i]
        order = rng.permutation(60)
        names = dict(zip(np.array(sorted(BACKGROUND))[order], sorted(BACKGROUND), strict=True))
        renamed = {factor: [names[gene] for gene in genes] for factor, genes in active.items()}
        table = over_representation(renamed, few, BACKGROUND, min_set_size=2, max_set_size=20)
        expected.append(table.loc[table["q_value"] < SIGNIFICANT, "gene_set"].nunique())
    assert tests.by_chance(60, seed=3).tolist() == expected
    assert sum(expected) > 0
