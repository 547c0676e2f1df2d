"""What the report says: sentences that the tables carry, tables as they are shown, counts and versions."""

import pandas as pd
import pytest
from report_fixture import (
    ATTACK,
    QC,
    make_config,
    make_metrics,
    make_stability,
    make_tbr,
)

from latentree.report.facts import facts, n_test_cells, software
from latentree.report.shown import mean_and_sd
from latentree.report.tables import score_table, stability_table
from latentree.report.tbr_tables import tbr_table
from latentree.report.tbr_verdicts import tbr_verdicts
from latentree.report.verdicts import (
    Score,
    accuracy_verdicts,
    stability_verdicts,
    uncertainty,
)

# --- sentences


def texts(verdicts) -> str:
    return " ".join(verdict.text for verdict in verdicts)


def test_uncertainty_is_two_standard_errors():
    one, other = Score("a", 4, 0.9, 0.02, 4), Score("pca", 4, 0.8, 0.0, 4)
    assert uncertainty(one, other, None) == pytest.approx(2 * 0.02 / 2)
    assert uncertainty(one, other, 100) == pytest.approx(2 * (0.01**2 + 0.09 / 100 + 0.16 / 100) ** 0.5)


@pytest.mark.parametrize(
    ("best", "n_cells", "sentence"),
    [
        (0.90, 2000, "This is above PCA"),
        (0.90, 28, "This is not above PCA"),
        (0.801, 2000, "This is not above PCA"),
        (0.70, 2000, "No model tells cell types apart better than PCA"),
    ],
)
def test_above_pca_is_said_only_beyond_the_uncertainty(best, n_cells, sentence):
    said = texts(accuracy_verdicts(make_metrics((0, 1, 2), best), n_cells))
    assert sentence in said
    assert ("This is above PCA" in said) == (sentence == "This is above PCA")


def test_models_below_pca_are_named():
    verdicts = accuracy_verdicts(make_metrics((0, 1, 2), 0.6), 2000)
    below = [verdict for verdict in verdicts if "Below PCA" in verdict.text]
    assert [verdict.kind for verdict in below] == ["caution"]
    assert "sparse_vae" in below[0].text
    assert "0.604" in below[0].text


def test_best_model_stands_beside_majority_and_spread():
    said = texts(accuracy_verdicts(make_metrics((0, 1, 2)), 2000))
    assert "2,000 test cells is 0.904 by sparse_vae" in said
    assert "sd 0.004 over 3 seeds" in said
    assert "largest type gives 0.300" in said
    assert "one seed, so the spread" in texts(accuracy_verdicts(make_metrics((0,)), 2000))


def test_one_fit_each_without_a_number_of_cells_is_no_evidence():
    assert "no evidence of being above PCA" in texts(accuracy_verdicts(make_metrics((0,)), None))


def test_an_accuracy_like_the_majoritys_is_a_caution():
    metrics = make_metrics((0, 1, 2))
    metrics.loc[metrics["model"] == "majority", "value"] = 0.95
    assert accuracy_verdicts(metrics, 2000)[0].kind == "caution"


def test_no_accuracy_is_said():
    assert "No accuracy" in texts(accuracy_verdicts(make_metrics(()), None))


def test_claims_about_stability_rest_on_other_cells():
    verdicts = stability_verdicts(make_stability((0, 1)), make_config((0, 1), tbr=False))
    halves, resamples, better, not_better, seeds = (verdict.text for verdict in verdicts)
    assert "disjoint halves of the training cells (whole donors)" in halves
    assert "sparse_vae (k\u00a0=\u00a04) 0.80; references varimax (k\u00a0=\u00a04) 0.60." in halves
    assert "most cells in common: nmf (k\u00a0=\u00a04) 0.65" in resamples
    # the factors' sd is .02 in both, and there are three
    margin = 2 * (2 * 0.02**2 / 3) ** 0.5
    assert "better than the better of the varimax rotations" in better
    assert better.endswith(f": sparse_vae (k\u00a0=\u00a04) +0.20 (two standard errors {margin:.2f}).")
    assert "nmf (k\u00a0=\u00a04) -0.10" in not_better
    assert verdicts[-1].kind == "caution"
    assert "by construction: pca, sparse_vae." in seeds


def test_a_difference_within_its_uncertainty_is_no_claim():
    stability = make_stability((0, 1))
    stability.loc[stability["model"] == "varimax", "agreement"] += 0.19
    said = texts(stability_verdicts(stability, make_config((0, 1), tbr=False)))
    assert "Other cells give" not in said
    assert "Given back no better than the better of the varimax rotations, which need no model: nmf" in said
    single = stability[stability["factor"].isin(["all", "f1"])].assign(n_factors=1)
    said = texts(stability_verdicts(single, make_config((0, 1), tbr=False)))
    assert "uncertainty not known" in said
    assert "Other cells give" not in said


def test_fits_whose_factors_match_whichever_they_are_make_no_claim():
    stability = make_stability((0, 1))
    followed = (stability["model"] == "sparse_vae") & (stability["factor"] != "all")
    stability.loc[followed, "agreement"] -= 0.3
    said = texts(stability_verdicts(stability, make_config((0, 1), tbr=False)))
    assert "sparse_vae (k\u00a0=\u00a04) 0.80" in said
    assert "sparse_vae (k\u00a0=\u00a04) -0.10" in said
    assert "Other cells give" not in said


def test_the_better_rotation_is_the_one_to_beat():
    stability = make_stability((0, 1))
    start = stability[stability["model"] == "varimax"].assign(model="varimax_start")
    said = texts(
        stability_verdicts(
            pd.concat([stability, start.assign(agreement=0.9)]), make_config((0, 1), tbr=False)
        )
    )
    assert "sparse_vae (k\u00a0=\u00a04) -0.10" in said
    assert "varimax_start (k\u00a0=\u00a04) 0.90" in said
    assert "Other cells give" not in said


def test_resamples_judge_where_there_are_no_halves():
    stability = make_stability((0, 1))
    stability = stability[stability["comparison"] != "halves"]
    said = texts(stability_verdicts(stability, make_config((0, 1), tbr=False)))
    assert "disjoint halves" not in said
    assert "which have most cells in common" in said
    assert stability_table(stability).columns[-1] == "lowest, resamples"


def test_without_refits_nothing_is_claimed():
    stability = make_stability((0, 1), refits=False)
    verdicts = stability_verdicts(stability, make_config((0, 1), tbr=False))
    assert [verdict.kind for verdict in verdicts] == ["caution", "caution"]
    assert "is not known: no model was fitted to other cells" in verdicts[0].text
    assert "says nothing about other cells" in verdicts[1].text
    assert stability_table(stability).columns == ("model", "k", "seeds")


def test_agreement_by_construction_is_named():
    config = make_config((0, 1), tbr=False)
    stability = make_stability((0, 1))
    assert "by construction: pca, sparse_vae." in texts(stability_verdicts(stability, config))
    config["models"]["sparse_vae"]["start"] = "random"
    assert "by construction: pca." in texts(stability_verdicts(stability, config))
    of_nmf = stability[stability["model"] == "nmf"]
    assert stability_verdicts(of_nmf, config)[-1].kind == "finding"


@pytest.mark.parametrize(
    ("mcc", "kind", "sentence"),
    [
        (0.5, "caution", "Not above chance: these numbers carry no claim of disentanglement"),
        (0.9, "caution", "no claim of disentanglement"),
        (0.98, "finding", "Above chance: two_stage."),
    ],
)
def test_mcc_is_judged_by_its_chance_level(mcc, kind, sentence):
    tbr = make_tbr(mcc)
    (verdict,) = [v for v in tbr_verdicts(tbr[tbr["n_changes"] == 1]) if "MCC" in v.text]
    assert verdict.kind == kind
    assert sentence in verdict.text
    assert "span R²" in verdict.text
    assert "chance 0.82" in verdict.text or "chance 0.83" in verdict.text


def test_without_a_chance_level_nothing_is_claimed():
    tbr = make_tbr(0.99)
    tbr = tbr[(tbr["n_changes"] == 1) & ~tbr["metric"].str.startswith("mcc_chance")]
    assert tbr_verdicts(tbr)[0].kind == "caution"


def test_no_change_is_the_control():
    tbr = make_tbr(0.99)
    said = texts(tbr_verdicts(tbr[tbr["n_changes"] == 0]))
    assert "this is the control" in said
    assert "Above chance" not in said


def test_nmse_stands_beside_baseline_and_floor():
    tbr = make_tbr()
    assert "baseline 0.5, joint 0.1, two_stage 0.1; noise floor 0.02." in texts(tbr_verdicts(tbr))
    assert "baseline without a tree 0.5" in texts(tbr_verdicts(tbr[tbr["estimator"] != "baseline"]))


# --- tables


def test_mean_and_sd():
    assert mean_and_sd(pd.Series([0.1, 0.3])) == "0.200 ±\u00a00.141"
    assert mean_and_sd(pd.Series([0.5, 0.5])) == "0.500"
    assert mean_and_sd(pd.Series([], dtype=float)) == "–"


def test_score_table_ends_with_its_references():
    table = score_table(make_metrics((0, 1)))
    assert [row[0] for row in table.rows] == [
        "sparse_vae",
        "pca",
        "nmf",
        "majority (reference)",
        "chance (reference)",
    ]
    accuracy = table.columns.index("accuracy")
    assert table.rows[0][accuracy] == "0.902 ±\u00a00.003"
    assert table.rows[3][accuracy] == "0.300"
    assert table.rows[3][table.columns.index("ARI")] == "–"


def test_scores_of_other_splits_are_left_out():
    metrics = make_metrics((0,))
    train = metrics.assign(split="train", value=1.0)
    assert score_table(pd.concat([metrics, train[train["metric"] == "r2"]])) == score_table(metrics)


def test_stability_table_names_the_lowest_factor_on_other_cells_and_ends_with_references():
    stability = make_stability((0, 1))
    nmf = stability["model"] == "nmf"
    stability.loc[
        nmf & (stability["factor"] == "f2") & (stability["comparison"] == "halves"), "agreement"
    ] = 0.21
    stability.loc[nmf & (stability["factor"] == "f1") & (stability["comparison"] == "seeds"), "agreement"] = (
        0.01
    )
    table = stability_table(stability)
    assert table.columns == ("model", "k", "halves", "resamples", "seeds", "lowest, halves")
    assert table.rows[0] == ("nmf", "4", "0.500", "0.650", "0.700", "0.210 (f2)")
    assert table.rows[-1] == ("varimax (reference)", "4", "0.600", "0.800", "–", "0.580 (f1)")


def test_tbr_table_keeps_a_phenotypes_estimators_together():
    rows = tbr_table(make_tbr()).rows
    assert [row[1] for row in rows] == ["0"] * 3 + ["1"] * 3


def test_facts_of_the_atlas():
    said = facts(QC)
    assert said["cells"] == "140 of 145 found: 98 train, 14 validation, 28 test"
    assert said["genes"] == "40 of 45 found, 40 modelled"
    assert said["cell types"].startswith("7: CD4+/CD25 T Reg (20), a;b (20), " + ATTACK)
    assert n_test_cells(QC) == 28
    assert facts({}) == {}
    assert n_test_cells({}) is None


def test_versions_of_the_fits_stand_beside_those_of_the_page():
    fits = [{"versions": {"torch": "2.13.0", "numpy": "2.4.6"}}, {"versions": {"torch": "2.12.1"}}, {}]
    assert software({"python": "3.11", "numpy": "2.4.6", "torch": "2.13.0"}, fits) == {
        "python": "3.11",
        "numpy": "2.4.6",
        "torch": "2.13.0, 2.12.1 (fits)",
    }
    assert software({}, fits[1:])["torch"] == "2.12.1"
