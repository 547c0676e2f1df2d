"""Tree-based regularisation in pictures and report: a measured phenotype's changes, genes and warnings."""

import numpy as np
import pandas as pd
import pytest
from report_fixture import ATTACK, make_config, make_tbr, write_results

from latentree.files import join_names, write_table
from latentree.plots.tbr import draw_tbr
from latentree.plots.tbr_tree import draw_tbr_tree, excludes_zero, shown_fit
from latentree.report import write_report
from latentree.report.tbr_tables import (
    _below,
    changes_table,
    genes_table,
    identifiability_table,
    measured_table,
    transfer_table,
    warnings,
)
from latentree.report.tbr_verdicts import measured_verdicts, tbr_sentences
from latentree.simulate import balanced_tree
from latentree.tree import Tree

TREE = Tree.from_table([("root", None), ("n", "root"), (ATTACK, "n"), ("b;c", "n"), ("d", "root")])


def changes(tree: Tree = TREE, n_latents: int = 2, intervals: bool = True) -> pd.DataFrame:
    """tables/tbr_changes.tsv: two changes, one of them sure; joint and a second seed differ."""
    rows = []
    for estimator in ("joint", "two_stage"):
        for seed in ("0", "1"):
            for i, branch in enumerate(tree.arcs):
                for j in range(n_latents):
                    here = i == j and estimator == "two_stage" and seed == "0"
                    change = (0.8 - 1.2 * j) if here else 0.0
                    rows.append(
                        (estimator, seed, branch, "a;b\\;c", f"latent{j + 1}", change, 0.5 if here else 0)
                    )
    table = pd.DataFrame(
        rows, columns=["estimator", "seed", "branch", "cell_types_below", "latent", "change", "lower"]
    )
    table["upper"] = np.where(table["change"] > 0, 1.0, 0.1)
    table["lower"] = np.where(table["change"] > 0, 0.5, -0.9)
    table["share_nonzero"] = (table["change"] != 0) * 0.9
    if not intervals:
        table[["lower", "upper", "share_nonzero"]] = np.nan
    return table.assign(bootstrap_unit="donors", n_units=6, carried_by=table["branch"], note="")


def scores(two_stage: float = 0.3, baseline: float = 0.5, types: float = 0.7) -> pd.DataFrame:
    """tables/tbr.tsv of a binary phenotype."""
    rows = [
        (estimator, "0", metric, value)
        for estimator, own in {"baseline": baseline, "two_stage": two_stage}.items()
        for metric, value in {
            "log_loss": own,
            "log_loss_baseline": baseline,
            "log_loss_types": types,
            "auroc": 0.9,
            "n_changes_found": 2,
        }.items()
    ]
    table = pd.DataFrame(rows, columns=["estimator", "seed", "metric", "value"])
    return table.assign(
        phenotype="condition (1: 'stim', 0: 'ctrl')",
        n_latents=2,
        n_changes="",
        latent_source="found",
        note="",
    ).assign(input_source="50 principal components")


def known() -> pd.DataFrame:
    """tables/tbr_identifiability.tsv."""
    rows = [
        ("baseline", "0", "warning", np.nan, "a baseline tells nothing apart"),
        ("two_stage", "0", "rank", 2.0, "of the weights"),
        ("two_stage", "1", "rank", 1.0, "of the weights"),
        ("two_stage", "0", "warning", np.nan, "5 environments are few"),
        ("two_stage", "1", "warning", np.nan, "5 environments are few"),
    ]
    table = pd.DataFrame(rows, columns=["estimator", "seed", "quantity", "value", "note"])
    return table.assign(n_latents=2, n_changes="")


def genes() -> pd.DataFrame:
    rows = [
        ("two_stage", "0", "latent1", g, w, abs(w), i + 1)
        for i, (g, w) in enumerate([("<i>", 0.5), ("B", -0.2)])
    ]
    return pd.DataFrame(rows, columns=["estimator", "seed", "latent", "gene", "weight", "importance", "rank"])


def types() -> pd.DataFrame:
    return pd.DataFrame(
        {"cell_type": [ATTACK], "n_cells": 10, "n_train": 8, "n_donors": 4, "mean": 0.5, "sd": 0.5}
    ).assign(n_smallest=4, note="")


def transfer() -> pd.DataFrame:
    rows = [
        ("two_stage", "1", held_out, shots, method, nmse)
        for held_out in ("a", "b")
        for shots, method, nmse in ((0, "nearest", 0.5), (5, "sparse", 0.1))
    ]
    return pd.DataFrame(rows, columns=["estimator", "n_changes", "held_out", "shots", "method", "nmse"])


def test_the_picture_is_of_two_stage_and_the_first_seed():
    fit = shown_fit(changes())
    assert set(fit["estimator"]) == {"two_stage"}
    assert set(fit["seed"]) == {"0"}
    assert (fit["change"] != 0).sum() == 2
    assert shown_fit(fit.iloc[:0]).empty
    assert set(shown_fit(changes().query("estimator == 'joint'"))["estimator"]) == {"joint"}


def test_an_interval_excludes_0_only_on_the_side_of_its_change():
    table = pd.DataFrame(
        {
            "change": [1, 1, -1, -1, 0, 1],
            "lower": [0.1, -0.1, -2, -2, 0.1, np.nan],
            "upper": [2, 2, -1, 0.1, 1, np.nan],
        }
    )
    assert excludes_zero(table).tolist() == [True, False, True, False, False, False]


@pytest.mark.parametrize("tree", [TREE, balanced_tree(5)])
@pytest.mark.parametrize("kind", ["intervals", "none", "no change"])
def test_trees_of_any_size_are_drawn(tmp_path, tree, kind):
    table = shown_fit(changes(tree, 8, intervals=kind != "none"))
    if kind == "no change":
        table = table.assign(change=0.0)
    draw_tbr_tree(tree, table, tmp_path / "t.svg", n_cells={"d": 5})
    draw_tbr_tree(tree, table, tmp_path / "again.svg", n_cells={"d": 5})
    assert (tmp_path / "t.svg").read_bytes() == (tmp_path / "again.svg").read_bytes()


def test_scores_of_a_measured_phenotype_are_drawn(tmp_path):
    draw_tbr(scores(), tmp_path / "t.svg")
    assert (tmp_path / "t.svg").stat().st_size > 5000


def test_changes_are_listed_by_size_with_their_intervals():
    table = changes_table(changes())
    assert [row[:4] for row in table.rows] == [
        ("n", "a, b;c", "latent1", "+0.8"),
        (ATTACK, "a, b;c", "latent2", "−0.4"),
    ]
    assert table.rows[0][4:] == ("0.5", "1", "90%", "excludes 0")
    assert table.rows[1][4:] == ("−0.9", "0.1", "90%", "")
    assert "two_stage, seed 0" in table.caption
    none = changes_table(changes().assign(change=0.0, share_nonzero=0.0))
    assert none.rows == ()
    assert "No effect changes" in none.caption
    assert changes_table(changes(intervals=False)).rows[0][4:6] == ("–", "–")


def test_genes_are_listed_with_their_signs():
    assert genes_table(genes()).rows == (("latent1", "<i> +0.5, B −0.2"),)


def test_identifiability_is_a_mean_over_seeds_and_warnings_stand_apart():
    table = identifiability_table(known())
    assert table.columns == ("quantity", "two_stage", "meaning")
    assert table.rows == (("rank", "1.50 ±\u00a00.71", "of the weights"),)
    assert warnings(known()) == ("5 environments are few",)
    by_changes = pd.concat([known().assign(n_changes=c) for c in (0, 1)])
    assert warnings(by_changes)[0] == "0 simulated changes per branch: 5 environments are few"
    assert identifiability_table(by_changes).columns[1:3] == (
        "two_stage, changes per branch: 0",
        "two_stage, changes per branch: 1",
    )


def test_measured_scores_stand_beside_their_references():
    rows = {row[0]: row[1:] for row in measured_table(scores()).rows}
    assert rows["log loss"] == ("0.500", "0.300")
    assert rows["log loss, type alone"] == ("0.700", "0.700")
    assert "accuracy" not in rows


def test_transfer_is_a_mean_over_types():
    assert transfer_table(transfer()).rows[0] == ("1", "two_stage", "nearest", "0", "2", "0.500")


def said(**values) -> str:
    return " ".join(v.text for v in measured_verdicts(scores(**values), changes(), known()))


def test_warnings_come_before_the_result():
    verdicts = measured_verdicts(scores(), changes(), known())
    assert verdicts[0].kind == "caution"
    assert verdicts[0].text == "5 environments are few."
    assert "log loss: baseline 0.5, two_stage 0.3; the cell type alone 0.7." in verdicts[1].text
    assert verdicts[2].text == (
        "Effects change 2 time(s), on 2 branch(es) (two_stage, seed 0); the interval over donors excludes 0"
        " for"
        " 1 of them: latent1 to n +0.8."
    )


def test_a_tree_that_adds_nothing_and_latents_that_say_nothing_are_cautions():
    assert "two_stage predicts no better than one set of effects" in said(two_stage=0.49)
    assert "they are no evidence of a difference" in said(two_stage=0.6)
    assert "no better" not in said(two_stage=0.4)
    assert "No better than the cell type alone" in said(two_stage=0.71, baseline=0.8)
    assert "No better than the cell type alone" in said(types=np.nan)


def test_no_change_and_no_interval_are_told():
    def last(table):
        return measured_verdicts(scores(), table, known())[-1].text

    assert last(changes().assign(change=0.0)) == "No effect changes on any branch (two_stage, seed 0)."
    assert "no interval was drawn" in last(changes(intervals=False))


def test_no_stage_no_sentence():
    assert tbr_sentences(None, {}) == {}
    assert len(tbr_sentences(make_tbr(), {})) == 2


def measured_results(folder):
    write_results(folder, tbr=False, figures=False)
    tables = {"tbr": scores(), "tbr_changes": changes(), "tbr_genes": genes(), "tbr_phenotype": types()}
    for name, table in (tables | {"tbr_identifiability": known()}).items():
        write_table(table, folder / "tables" / f"{name}.tsv")
    draw_tbr_tree(TREE, shown_fit(changes()), folder / "figures" / "tbr_tree.svg")


def test_the_page_tells_warnings_changes_and_genes(tmp_path):
    measured_results(tmp_path)
    config = make_config((0, 1, 2), True)
    config["tbr"]["phenotype"] = {"kind": "measured", "column": "condition"}
    write_report(tmp_path, "pbmc", config, tmp_path / "report.html", {})
    page = (tmp_path / "report.html").read_text()
    assert ATTACK not in page
    places = [
        page.index(text)
        for text in ("5 environments are few", "What changes where", "Genes of the latents", "type alone")
    ]
    section = page.index('<section aria-labelledby="tbr">')
    assert (
        page.index("5 environments are few") < section < places[1] < places[2] < page.index("<h3>Prediction")
    )
    assert "Tree of the cell types with a triangle" in page
    assert "&lt;i&gt; +0.5" in page


def test_tables_of_an_earlier_measured_run_are_not_shown(tmp_path):
    measured_results(tmp_path)
    write_table(make_tbr(), tmp_path / "tables" / "tbr.tsv")
    write_table(transfer(), tmp_path / "tables" / "tbr_transfer.tsv")
    write_report(tmp_path, "pbmc", make_config((0, 1, 2), True), tmp_path / "report.html", {})
    page = (tmp_path / "report.html").read_text()
    assert "What changes where" not in page
    assert "Held-out cell types" in page


@pytest.mark.parametrize("names", [["a;b", "c\\", "d"], ["\\;", "x\ny"], ["one"]])
def test_joined_names_of_cell_types_are_read_back(names):
    assert _below(join_names(names)) == ", ".join(names)
