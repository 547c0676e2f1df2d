"""Over-representation against scipy's Fisher test and statsmodels-free Benjamini-Hochberg."""

import socket

import numpy as np
import pytest
from scipy.stats import false_discovery_control, fisher_exact, hypergeom

from latentree.enrichment import COLUMNS, over_representation, sets_to_test

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
        assert row.genes.split(";") == [gene for gene in BACKGROUND if gene in members & query]


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
    expected = dict(zip(np.round(p, 12), q, strict=True))
    found = [expected[p_value] for p_value in np.round(table["p_value"], 12)]
    assert table["q_value"].to_numpy() == pytest.approx(np.array(found))
    assert table["q_value"].between(0, 1).all()


def test_rows_are_sorted_by_factor_as_given_then_p_value(active, sets):
    table = over_representation(active, sets, BACKGROUND)
    assert table["factor"].drop_duplicates().tolist() == ["f1", "f10"]
    for _, rows in table.groupby("factor"):
        assert rows["p_value"].is_monotonic_increasing
    shuffled = dict(reversed([(name, genes[::-1]) for name, genes in sets.items()]))
    assert over_representation(active, shuffled, BACKGROUND).equals(table)


def test_names_that_gseapy_would_change_come_through():
    # gseapy upper-cases such queries, reads digits as Entrez ids and joins genes by ';'
    background = ["C1orf43", "H2-Ab1", "101", "102", "a b", "<i>", "nan", "Cd3d", "CD3D", "é"]
    sets = {'CD4+/CD25 T Reg; <b>"x"': ["C1orf43", "101", "Cd3d"], "KEGG_2016": ["CD3D", "nan", "<i>"]}
    table = over_representation({"f1": ["Cd3d", "C1orf43", "nan"]}, sets, background, min_set_size=3)
    assert dict(zip(table["gene_set"], table["genes"], strict=True)) == {
        'CD4+/CD25 T Reg; <b>"x"': "C1orf43;Cd3d",
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


def test_a_factor_without_any_set_is_no_error_in_the_log(capfd):
    over_representation({"f1": BACKGROUND[:3]}, {"no overlap": BACKGROUND[10:20]}, BACKGROUND)
    assert "ERROR" not in capfd.readouterr().err


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
