"""The tables of enriched sets, on fits whose programs are known."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scores_fixture import GENES, N_GENES, make_fit

from latentree.config import DownstreamConfig
from latentree.enrichment import GeneSetMatrix
from latentree.enrichment_tables import (
    ENRICHMENT_COLUMNS,
    SUMMARY_COLUMNS,
    enrich,
    enrichment_note,
    nearly_repeated,
)
from latentree.files import read_table, write_table

SETS = {
    "first": GENES[:10],
    "first, but one": GENES[:9],
    "last": GENES[30:],
    "too large": GENES,
    "middle": GENES[12:20],
    "mixed": GENES[5:35:4],
}


def small(**enrichment) -> DownstreamConfig:
    return DownstreamConfig(min_set_size=5, max_set_size=20, n_top_genes=12, enrichment=enrichment)


def test_the_set_that_a_factor_is_made_of_is_found():
    found = enrich([make_fit(), make_fit(seed=1)], SETS, small(gsea=False)).table
    assert list(found.columns) == ENRICHMENT_COLUMNS
    assert (found["direction"] == "up").all()
    best = found.drop_duplicates(["seed", "factor"])
    assert best[["seed", "factor", "gene_set", "n_overlap", "n_background"]].to_numpy().tolist() == [
        [s, f, g, 10, N_GENES] for s in (0, 1) for f, g in (("f1", "first"), ("f2", "last"))
    ]
    # 2 factors * 5 sets, and the best p-values of the two factors are equal
    assert (best["q_value"] / best["p_value"]).to_numpy() == pytest.approx(5)
    assert found[found["like"] != ""][["gene_set", "like"]].drop_duplicates().to_numpy().tolist() == [
        ["first, but one", "first"]
    ]


def test_the_summary_counts_what_the_table_holds_beside_chance():
    done = enrich([make_fit(), make_fit("pca")], SETS, small(n_permutations=7))
    assert list(done.summary.columns) == SUMMARY_COLUMNS
    assert done.summary[["model", "method"]].to_numpy().tolist() == [
        [model, method] for model in ("pca", "sparse_vae") for method in ("ora", "gsea")
    ]
    for row in done.summary.itertuples():
        mine = done.table[(done.table["model"] == row.model) & (done.table["method"] == row.method)]
        enriched = mine[mine["q_value"] < 0.05]
        assert row.n_enriched == enriched["gene_set"].nunique()
        assert row.n_pairs_enriched == len(enriched.groupby(["factor", "gene_set"]))
        assert row.n_permutations == (7 if row.method == "ora" else 1)
        assert row.control_mean <= row.control_max
        assert row.ratio == row.n_enriched / (1 + row.control_mean)
    sparse = done.summary[done.summary["model"] == "sparse_vae"].set_index("method")
    assert sparse.loc["ora", ["n_factors_tested", "n_sets_tested", "n_enriched"]].tolist() == [2, 5, 3]
    # its factors have 10 genes
    assert sparse.loc["gsea", "n_factors_tested"] == 0
    assert "GSEA could not rank 2 factors: 'sparse_vae k3 seed 0 f1 (10 loadings" in done.notes[0]


def test_the_same_again_and_with_shuffled_genes():
    fits = [make_fit("pca")]
    once = enrich(fits, SETS, small())
    order = np.random.default_rng(0).permutation(N_GENES)
    shuffled = [
        dataclasses.replace(
            fit, genes=tuple(np.array(fit.genes)[order].tolist()), loadings=fit.loadings[order]
        )
        for fit in fits
    ]
    reversed_sets = {name: genes[::-1] for name, genes in reversed(SETS.items())}
    for again in (enrich(fits, SETS, small()), enrich(shuffled, reversed_sets, small())):
        pd.testing.assert_frame_equal(again.table, once.table, check_exact=True)
        pd.testing.assert_frame_equal(again.summary, once.summary, check_exact=True)


def test_no_sets_and_no_permutations():
    done = enrich([make_fit()], {}, small())
    assert (list(done.table.columns), len(done.table)) == (ENRICHMENT_COLUMNS, 0)
    assert (list(done.summary.columns), len(done.summary)) == (SUMMARY_COLUMNS, 0)
    done = enrich([make_fit("pca")], SETS, small(n_permutations=0, n_gsea_permutations=0))
    assert done.summary[["control_mean", "control_max", "ratio"]].isna().all(axis=None)
    done = enrich([make_fit()], {"too large": GENES}, small())
    assert done.summary["n_sets_tested"].tolist() == [0, 0]


def test_tables_survive_being_written(tmp_path):
    done = enrich([make_fit("pca")], SETS, small())
    for table in (done.table, done.summary):
        write_table(table, tmp_path / "table.tsv")
        back = read_table(tmp_path / "table.tsv")
        assert list(back.columns) == list(table.columns)
        for column in table:
            if table[column].dtype == float:
                assert back[column].to_numpy() == pytest.approx(table[column].to_numpy(), nan_ok=True)
            else:
                assert back[column].astype(str).tolist() == table[column].astype(str).tolist()


def test_a_set_repeats_the_best_one_kept_that_it_resembles():
    sets = {"a": GENES[:10], "b": GENES[:8], "c": GENES[2:8], "d": GENES[20:30], "weak": GENES[:10]}
    matrix = GeneSetMatrix(sets, GENES, min_set_size=1, max_set_size=40)
    rows = [
        ("f1", name, p, q) for name, p, q in zip("dcba", (4e-4, 3e-4, 2e-4, 1e-4), [0.01] * 4, strict=True)
    ]
    rows += [("f1", "a", 2e-3, 0.02), ("f1", "weak", 0.04, 0.2), ("f2", "b", 1e-4, 0.01)]
    table = pd.DataFrame(rows, columns=["factor", "gene_set", "p_value", "q_value"])
    # c shares 6 of 10 with a, 6 of 8 with b, which is not kept
    assert nearly_repeated(table, matrix, 0.6) == ["", "a", "a", "", "a", "", ""]
    assert nearly_repeated(table, matrix, 0.7) == ["", "", "a", "", "a", "", ""]
    assert nearly_repeated(table.iloc[:0], matrix, 0.5) == []


def test_how_many_gene_sets_are_tested_is_said():
    settings = DownstreamConfig(min_set_size=3, max_set_size=6)
    sets = {"a": GENES[:2], "b": GENES[:4], "c": GENES[:9]}
    note = enrichment_note([make_fit()], sets, settings)
    assert note.startswith(
        "1 of the 3 gene sets with genes of the atlas hold 3 to 6 of the 40 modelled genes"
    )
    assert enrichment_note([make_fit()], {"a": GENES[:2]}, settings).endswith("nothing is tested")
    assert enrichment_note([make_fit()], {}, settings).startswith("no gene set shares a gene")
