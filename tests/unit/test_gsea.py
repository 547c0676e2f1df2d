"""Pre-ranked GSEA against a plain loop, and what breaks gseapy."""

import socket

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from latentree.enrichment import COLUMNS
from latentree.gsea import MIN_RANKED, prerank

N = 120
GENES = [f"GENE{i}" for i in range(N)]
RNG = np.random.default_rng(0)
LOADINGS = np.where(np.arange(N) % 3 == 0, 0, RNG.normal(size=N))
RANKED = [GENES[i] for i in np.argsort(-LOADINGS) if LOADINGS[i]]
SETS = {f"random {i}": list(RNG.choice(GENES, 14, replace=False)) for i in range(12)} | {
    "first": RANKED[:8],
    "last; <b>": RANKED[-9:],
    "elsewhere": [f"OTHER{i}" for i in range(9)],
}


def score(ranked: list[tuple[str, float]], members: set[str]) -> tuple[float, list[str]]:
    """Enrichment score and leading edge by the definition of Subramanian et al., one gene at a time."""
    total = sum(abs(value) for gene, value in ranked if gene in members)
    miss = 1 / (len(ranked) - sum(gene in members for gene, _ in ranked))
    running, best, at = 0.0, 0.0, 0
    for i, (gene, value) in enumerate(ranked):
        running += abs(value) / total if gene in members else -miss
        if abs(running) > abs(best):
            best, at = running, i
    edge = ranked[: at + 1] if best > 0 else ranked[:at:-1]
    return best, [gene for gene, _ in edge if gene in members]


@pytest.fixture(scope="module")
def found():
    return prerank({"f1": LOADINGS, "f2": -LOADINGS}, GENES, SETS)


def test_leading_edges_directions_and_counts_are_those_of_the_definition(found):
    ranked = sorted(((g, v) for g, v in zip(GENES, LOADINGS, strict=True) if v), key=lambda item: -item[1])
    table = found.table[found.table["factor"] == "f1"]
    assert list(table.columns) == COLUMNS
    assert set(table["gene_set"]) == set(SETS) - {"elsewhere"}
    for row in table.itertuples():
        members = set(SETS[row.gene_set])
        best, edge = score(ranked, members)
        assert row.direction == ("up" if best > 0 else "down")
        assert np.sign(row.nes) == np.sign(best)
        assert row.genes.split(";") == edge
        assert (row.n_overlap, row.n_set, row.n_background) == (len(edge), len(members & set(RANKED)), 80)
    assert table["gene_set"].iloc[:2].tolist() in (["first", "last; <b>"], ["last; <b>", "first"])


def test_p_values_are_those_of_random_sets(found):
    ranked = [(gene, LOADINGS[GENES.index(gene)]) for gene in RANKED]
    rng = np.random.default_rng(1)
    table = found.table[(found.table["factor"] == "f1") & (found.table["p_value"] > 0.05)]
    for row in table.head(3).itertuples():
        best, _ = score(ranked, set(SETS[row.gene_set]))
        null = [score(ranked, set(rng.choice(RANKED, row.n_set, replace=False)))[0] for _ in range(400)]
        same = [value for value in null if np.sign(value) == np.sign(best)]
        expected = np.mean([abs(value) >= abs(best) for value in same])
        assert row.p_value == pytest.approx(expected, abs=0.12)
        assert row.nes == pytest.approx(best / abs(np.mean(same)), rel=0.12)


def test_q_values_are_over_all_pairs_of_the_fit(found):
    assert len(found.table) == 2 * (len(SETS) - 1)
    expected = false_discovery_control(found.table["p_value"])
    assert found.table["q_value"].to_numpy() == pytest.approx(expected)
    assert found.n_enriched == 2


def test_another_order_of_genes_and_sets_and_other_threads_give_the_same_bits(found):
    order = np.random.default_rng(2).permutation(N)
    shuffled = prerank(
        {"f1": LOADINGS[order], "f2": -LOADINGS[order]},
        [GENES[i] for i in order],
        {name: genes[::-1] for name, genes in reversed(SETS.items())},
        threads=2,
    )
    assert shuffled.table.equals(found.table)


def test_ties_change_nothing_and_do_not_favour_families_of_genes():
    # by name, the first eight genes would head a ranking of equal loadings
    genes = [f"HLA-{i}" for i in range(8)] + [f"XYZ{i}" for i in range(52)]
    loadings = np.array([1.0] * 59 + [0.5])
    one = prerank({"f": loadings}, genes, {"HLA": genes[:8]})
    other = prerank({"f": loadings[::-1]}, genes[::-1], {"HLA": genes[:8]})
    assert one.table.equals(other.table)
    assert one.table["p_value"].item() > 0.05


@pytest.mark.parametrize("sign", [1, -1])
def test_the_weak_end_of_a_one_sided_ranking_is_no_program(sign):
    strong = sign * np.linspace(3, 0.1, 60)
    genes = GENES[:60]
    found = prerank({"f": strong}, genes, {"strong": genes[:8], "weak": genes[-8:]}).table
    by_set = found.set_index("gene_set")
    assert by_set.loc["strong", "p_value"] < 0.01
    assert by_set.loc["strong", "direction"] == ("up" if sign > 0 else "down")
    assert by_set.loc["weak", "p_value"] == 1


@pytest.mark.parametrize(
    ("loadings", "why"),
    [
        (
            np.r_[np.ones(MIN_RANKED - 1), np.zeros(N)][:N] * np.arange(1, N + 1),
            "14 loadings other than zero",
        ),
        (np.zeros(N), "0 loadings"),
        (np.ones(N), "all loadings are equal"),
        (np.r_[np.zeros(N - 20), np.arange(1, 21)], "no set has 10 to 19 of its 20"),
    ],
)
def test_a_factor_that_cannot_be_ranked_is_skipped_with_a_reason(loadings, why):
    found = prerank({"f": loadings}, GENES, {"set": GENES[:12], "all": GENES}, min_set_size=10)
    assert list(found.table.columns) == COLUMNS
    assert len(found.table) == 0
    assert why in found.skipped["f"]
    assert found.n_enriched == 0


class PanicException(BaseException):
    """As gseapy's, which cannot be imported."""


def test_a_panic_of_gseapy_is_a_note_and_an_interrupt_is_not(monkeypatch):
    def stop(error):
        def prerank_of_gseapy(*_, **__):
            raise error

        monkeypatch.setattr("gseapy.prerank", prerank_of_gseapy)

    stop(PanicException("index out of bounds"))
    assert "index out of bounds" in prerank({"f": LOADINGS}, GENES, SETS).skipped["f"]
    stop(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        prerank({"f": LOADINGS}, GENES, SETS)


def test_it_works_without_a_network(monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("GSEA opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    assert len(prerank({"f": LOADINGS}, GENES, SETS).table)
