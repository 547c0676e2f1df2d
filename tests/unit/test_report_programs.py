"""What the report says of consensus factors: numbers as shown, programs, verdicts and their groups."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from report_fixture import (
    CELL_TYPES,
    GENES,
    SETS,
    K,
    make_conditions,
    make_config,
    make_consensus,
    make_enrichment,
    make_enrichment_summary,
    make_n_factors,
    write_results,
)

from latentree.files import write_table
from latentree.report.factor_sections import factors_table, fit_section
from latentree.report.inputs import read_inputs
from latentree.report.overview import overview, types_table, verdict_groups
from latentree.report.program_verdicts import (
    chosen_fits,
    condition_verdicts,
    consensus_verdicts,
    design_verdicts,
    n_factors_verdicts,
    primary_fit,
    training_verdicts,
    usage_verdicts,
)
from latentree.report.programs import programs, stability_facts, why_not_stable
from latentree.report.shown import Column, LongTable, names_text, number_text
from latentree.report.tables import consensus_table, enrichment_table, n_factors_table
from latentree.report.verdicts import Verdict, enrichment_verdicts

FIT = "sparse_vae (k\u00a0=\u00a04)"
FITS = [("sparse_vae", K), ("nmf", K), ("pca", K)]


def inputs_of(folder, seeds=(0, 1, 2), condition="condition", **tables):
    """The fixture's results, with some tables replaced."""
    write_results(folder, seeds=seeds, figures=False)
    for name, table in tables.items():
        write_table(table, folder / "tables" / f"{name}.tsv")
    return read_inputs(folder, "pbmc", make_config(seeds, tbr=True, condition=condition))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return inputs_of(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def found(inputs):
    return programs(inputs, "sparse_vae", K)


def texts(verdicts) -> str:
    return " ".join(verdict.text for verdict in verdicts)


# --- numbers and tables as shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-0.5, "−0.5"),
        (1.0, "1"),
        (12.345, "12.3"),
        (999.9, "1000"),
        (12345.6, "12346"),
        (3.2e-8, "3e-8"),
        (0.000999, "1e-3"),
        (np.nan, "–"),
        (None, "–"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert number_text(value) == text


def test_names_of_one_cell_are_told_apart():
    assert names_text(r"A;B\;C;D\\") == "A, B;C, D\\"
    assert names_text("") == ""


def test_a_long_table_holds_every_row_and_no_end_of_a_script():
    rows = tuple((f"</script>{i}", i / 7, None) for i in range(20))
    table = LongTable("t", "", (Column("gene"), Column("loading", "bar"), Column("q", "number")), rows, 3)
    assert len(table.first) == 3
    assert "<" not in table.data
    assert [tuple(row) for row in json.loads(str(table.data))["rows"]] == list(rows)
    assert [cell.width for cell in table.first[2]] == [None, pytest.approx(100 * 2 / 19), None]
    assert table.first[0][2] == "–"


def test_tables_of_the_models_show_their_references(inputs):
    (row, *_) = consensus_table(inputs.consensus).rows
    assert row[:7] == ("sparse_vae", "4", "3", "3", "2", "0", "1")
    assert row[7:12] == ("0.970", "0.960", "0.130", "0.680", "0.550")
    (row, *_) = n_factors_table(inputs.n_factors).rows
    assert row[3] == "0.400 ±\u00a00.010"
    assert (row[3].value, row[3].sd) == (pytest.approx(0.4), pytest.approx(0.01))
    (row, *_) = enrichment_table(inputs.enrichment_summary).rows
    assert row[:6] == ("sparse_vae", "4", "ora", "3", "3", "2")
    assert len(enrichment_table(inputs.enrichment_summary).rows) == 2 * len(FITS)  # not the rows of seeds


# --- programs


def test_programs_are_the_live_factors_of_the_consensus(inputs, found):
    assert [program.name for program in found] == ["f1", "f2", "f3"]
    assert [program.is_stable for program in found] == [True, True, False]
    assert [program.badge for program in found] == ["stable", "stable", "not stable"]
    assert [program.name for program in programs(inputs, "nmf", K)] == ["f1", "f2", "f3"]  # no x1
    first = found[0]
    assert first.genes["loading"].abs().is_monotonic_decreasing
    assert first.best_type["cell_type"] == CELL_TYPES[0]
    (best,) = first.naming_sets
    assert best["gene_set"] == SETS[0]
    assert first.naming_sets_cell() == f"{SETS[0]} (both, q\u00a0=\u00a01e-5, 5 of 12 genes)"
    assert found[2].naming_sets_cell() == "none at q < 0.05"


def test_genes_that_go_down_are_marked_and_those_of_one_factor_counted(inputs, found):
    program = found[0]
    down = program.genes["loading"].iloc[0] < 0
    assert program.top_genes(1).startswith("−") == down
    others = pd.concat([other.genes for other in found[1:]])["gene"]
    assert program.n_own_genes == (~program.genes["gene"].isin(others)).sum() > 0
    # the largest loadings of a model without zeros are no count
    assert programs(inputs, "pca", K)[0].n_own_genes is None


def test_sets_of_both_directions_name_a_factor_and_repeats_come_last(tmp_path):
    table = make_enrichment(())
    table = pd.concat(
        [
            table.assign(direction="up"),
            table.assign(gene_set="of the other end", direction="down", q_value=1e-9),
            table.assign(gene_set="a repeat", direction="up", q_value=1e-12, like=SETS[0]),
            table.assign(gene_set="ranked", method="gsea", q_value=1e-20),
        ]
    )
    program = programs(inputs_of(tmp_path, enrichment=table), "sparse_vae", K)[0]
    assert [row["gene_set"] for row in program.naming_sets] == [SETS[0], "of the other end"]
    assert "of the other end (down, q\u00a0=\u00a01e-9" in program.naming_sets_cell()
    assert program.sets["gene_set"].iloc[-1] == "a repeat"
    methods = program.sets.loc[program.sets["like"] == "", "method"].tolist()
    assert methods == sorted(methods, reverse=True)


def test_every_number_of_stability_stands_beside_its_reference(found):
    facts = stability_facts(found[2])
    assert facts["found by"] == "3 of 3 seeds"
    assert facts["between these seeds"] == "0.970, lowest 0.960 (chance, 95th percentile: 0.130)"
    assert facts["between halves of the cells"] == "0.300 (needed: 0.71; PCA's factors: 0.600)"
    assert facts["its members"] == "f3 of seed 0, f1 of seed 1, f2 of seed 2"
    assert why_not_stable(found[0]) == ""
    assert why_not_stable(found[2]).startswith("other cells give it back at 0.30, less than 0.71")


def test_one_seed_leaves_stability_unknown(tmp_path):
    inputs = inputs_of(tmp_path, seeds=(5,))
    found = programs(inputs, "sparse_vae", K)
    assert [program.badge for program in found] == ["stability unknown", "stability unknown", "not stable"]
    assert "between these seeds" not in stability_facts(found[0])
    remark = fit_section(inputs, "sparse_vae", K, 5).remarks[0]
    assert remark.startswith("0 of 3 live factors are stable; of 2 it is not known.")
    assert why_not_stable(found[0]) == ""


def test_a_section_tells_the_consensus_from_the_first_seed(inputs, found):
    section = fit_section(inputs, "sparse_vae", K, 0)
    assert section.remarks == ("2 of 3 live factors are stable. 1 of 4 are dead: no gene has weight.",)
    assert [factor.anchor for factor in section.factors] == [f"sparse_vae-k4-f{i}" for i in (1, 2, 3)]
    kinds = [table.anchor.rsplit("-", 1)[1] for table in section.factors[0].tables]
    assert kinds == ["genes", "sets", "usage", "conditions"]
    genes = section.factors[0].tables[0]
    assert len(genes.rows) == len(found[0].genes)
    assert {GENES[-1], GENES[-2]} <= {row[0] for row in genes.rows}
    assert "1 more were found by some of the seeds only" in " ".join(fit_section(inputs, "nmf", K, 0).remarks)


def test_only_the_best_sets_of_a_large_library_are_in_the_page(tmp_path):
    (row,) = make_enrichment(()).query(f"model == 'pca' and gene_set == {SETS[0]!r}").to_dict("records")
    many = pd.DataFrame([row | {"gene_set": f"set {i}", "q_value": i * 1e-5} for i in range(300)])
    section = fit_section(inputs_of(tmp_path, enrichment=many), "pca", K, 0)
    table = section.factors[0].tables[1]
    assert [row[0] for row in table.rows] == [f"set {i}" for i in range(50)]
    assert "The best 50 of 300; all are in tables/enrichment.tsv." in table.caption


# --- verdicts


def test_stable_factors_are_counted_and_unstable_ones_named():
    said = consensus_verdicts(make_consensus((0, 1, 2)), FITS)
    assert f"{FIT} 2 of 3" in said[0].text
    assert (
        "pca (k\u00a0=\u00a04) 0.96 (by construction); chance (95th percentile) at most 0.13" in said[1].text
    )
    assert f"{FIT} 0.96, nmf" in said[1].text
    assert said[2].kind == "caution"
    assert f"{FIT} f3; nmf" in said[2].text
    assert len(said) == 3


def test_what_is_not_known_of_stability_is_said():
    said = consensus_verdicts(make_consensus((0,)), FITS)
    assert f"Whether factors would come back is not known: {FIT}" in said[-1].text
    assert said[-1].kind == "caution"
    assert consensus_verdicts(make_consensus((0, 1)).iloc[:0], FITS) == []


def test_a_recommended_number_of_factors_is_shown_alone(tmp_path):
    inputs = inputs_of(tmp_path, n_factors=make_n_factors(recommended=True))
    two = [(model, k) for model in ("sparse_vae", "nmf") for k in (K, K + 1)]
    inputs = type(inputs)(**{**vars(inputs), "fits": two})
    assert chosen_fits(inputs) == [("sparse_vae", K), ("nmf", K)]
    assert primary_fit(inputs) == ("sparse_vae", K)
    said = texts(n_factors_verdicts(inputs))
    assert f"{FIT}, halves of the cells agree 0.80 (PCA or varimax 0.60)" in said
    # the fixture's NMF has as many zeros as the others, so the first of the config stands in
    without = type(inputs)(**{**vars(inputs), "fits": two[2:]})
    assert primary_fit(without) == ("nmf", K)


def test_one_number_of_factors_is_no_choice(inputs):
    (verdict,) = n_factors_verdicts(inputs)
    assert verdict.kind == "caution"
    assert "whether it is a good one is not known" in verdict.text


def test_stable_factors_are_named_by_their_cell_types(found):
    said = texts(usage_verdicts(found))
    users = "(90% of 20 cells use it)"
    assert f"f1 {CELL_TYPES[0]} 0.95 {users}, f2 {CELL_TYPES[1]} 0.94 {users} (specificity" in said
    assert "f3" not in said
    (verdict,) = usage_verdicts(found[2:])
    assert verdict.kind == "caution"
    weak = [replace(program, usage=program.usage.assign(specificity=0.6)) for program in found]
    assert "No stable factor of" in texts(usage_verdicts(weak))


def test_a_cell_type_that_no_factor_tells_has_none(found):
    rows = {row[0]: row for row in types_table(found).rows}
    assert set(rows) == set(CELL_TYPES)
    assert rows[CELL_TYPES[1]][2:6] == ("f2", "stable", "0.94", "90%")
    assert rows[CELL_TYPES[3]][2:] == ("none", "", "", "", "", "")


def test_a_program_of_rare_cells_is_no_cell_types(found):
    # ranks of tiny differences can tell a type of which hardly a cell uses the factor
    rare = [replace(program, usage=program.usage.assign(share_using=0.03)) for program in found]
    assert rare[0].best_type is None
    assert "No stable factor" in texts(usage_verdicts(rare))
    assert {row[2] for row in types_table(rare).rows} == {"none"}
    assert factors_table(rare, "").rows[0][4] == "few cells of any"


def test_a_stable_factor_comes_before_one_that_is_not(found):
    doubted = replace(found[1], facts={**found[1].facts, "stable": "no"})
    wide = replace(found[0], usage=found[0].usage.assign(share_using=0.9, specificity=0.8))
    rows = {row[0]: row for row in types_table([wide, doubted]).rows}
    assert rows[CELL_TYPES[1]][2] == "f1"


def test_cautions_name_what_training_and_design_leave_open():
    summaries = {("nmf", 4, 0): {"converged": False}, ("nmf", 4, 1): {"converged": True}}
    assert "nmf (k\u00a0=\u00a04) seed 0." in texts(training_verdicts(summaries))
    assert training_verdicts({}) == []
    (verdict,) = design_verdicts({"batch": None, "split_by": None, "sample": None})
    assert verdict.kind == "caution"
    assert design_verdicts({"batch": None, "split_by": "donor", "sample": None}) == []


def test_conditions_are_claimed_by_q_over_samples(tmp_path, inputs, found):
    (verdict,) = condition_verdicts(inputs.conditions, found)
    assert f"stim against ctrl, {FIT}: 1 of 3 factors differ" in verdict.text
    assert "(4 and 4 samples, welch test): f2 +1 (0.5 to 1.5), q\u00a0=\u00a00.001." in verdict.text
    assert condition_verdicts(None, found) == []
    for table, kinds, words in (
        (make_conditions(effect=0.0), ["finding"], "0 of 3 factors differ over all cell types at q < 0.05"),
        (make_conditions(3), ["finding", "caution"], "Few samples (3 and 3)"),
        (make_conditions(1), ["caution"], "not tested. Refused, fewer than two samples a side"),
    ):
        other = inputs_of(tmp_path, conditions=table)
        said = condition_verdicts(other.conditions, programs(other, "sparse_vae", K))
        assert [verdict.kind for verdict in said] == kinds
        assert words in texts(said)


def test_an_unstable_factor_that_differs_is_called_so(tmp_path):
    table = make_conditions()
    table.loc[table["factor"] == "f3", ["effect", "q_value"]] = (2.0, 1e-6)
    inputs = inputs_of(tmp_path, conditions=table)
    said = texts(condition_verdicts(inputs.conditions, programs(inputs, "sparse_vae", K)))
    assert "f3 +2 (−0.4 to 0.6), q\u00a0=\u00a01e-6, not stable; f2" in said


def test_gene_sets_stand_beside_permuted_genes(tmp_path, inputs):
    said = enrichment_verdicts(inputs, FITS)
    assert f"{FIT} 1 of 4" in said[0].text
    assert f"over-representation): {FIT} 2 beside 0.1, nmf" in said[1].text
    few = inputs_of(tmp_path, enrichment_summary=make_enrichment_summary((), n_enriched=1))
    said = enrichment_verdicts(few, FITS)
    assert [verdict.kind for verdict in said] == ["finding", "caution"]
    assert "No more gene sets than permuted genes reach" in said[1].text


def test_every_caution_is_under_what_not_to_believe(inputs):
    config = make_config((0, 1, 2), tbr=True, condition="condition")
    shown = overview(inputs, config, "pbmc")
    by_name = {group.anchor: group.topics for group in shown.groups}
    assert list(by_name) == ["found", "stable", "doubted"]
    kinds = {name: {v.kind for said in topics.values() for v in said} for name, topics in by_name.items()}
    assert kinds == {"found": {"finding"}, "stable": {"finding"}, "doubted": {"caution"}}
    assert set(by_name["stable"]) == {"Stability"}
    assert {"Cell types", "Gene sets", "Conditions", "Programs and cell types"} <= set(by_name["found"])
    assert [row[0] for row in shown.programs.rows] == ["f1", "f2", "f3"]
    assert shown.programs.rows[2][0].look == "weak"
    empty = verdict_groups([Verdict("a", "b")])
    assert [bool(group.topics) for group in empty] == [True, False, False]
