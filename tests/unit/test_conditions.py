"""Factors between conditions, against scipy's and statsmodels' tests of pandas' pseudobulks."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scores_fixture import make_fit
from statsmodels.stats.multitest import multipletests

from latentree.conditions import ALL_TYPES, CONDITIONS_COLUMNS, Design, conditions_table
from latentree.errors import InputError
from latentree.files import read_table, write_table
from latentree.scores import LoadedFit

N_EACH = 12
TYPES = ("B", "T; 4")


def study(
    samples: dict[str, list[str]], seed: int = 0, n_each: int = N_EACH
) -> tuple[LoadedFit, pd.DataFrame]:
    """A fit with two factors: samples shift all cells, the condition shifts factor 1 by 3 in B cells.

    ``samples``: the conditions of each sample; every sample has ``n_each`` cells of each type.
    """
    rng = np.random.default_rng(seed)
    rows = [
        (sample, condition, name)
        for sample, conditions in samples.items()
        for condition in conditions
        for name in TYPES
        for _ in range(n_each)
    ]
    obs = pd.DataFrame(rows, columns=["sample", "condition", "cell_type"])
    obs.index = [f"cell{i}" for i in range(len(obs))]
    latents = rng.normal(size=(len(obs), 2)) + 2 * (obs[["cell_type"]] == "B").to_numpy()
    latents += obs["sample"].map({name: rng.normal() for name in samples}).to_numpy()[:, None]
    latents[:, 0] += 3 * ((obs["condition"] != "ctrl") & (obs["cell_type"] == "B"))
    fit = replace(
        make_fit("pca", n_factors=2),
        cells=obs.index,
        cell_types=obs["cell_type"].to_numpy(dtype=str),
        split=np.full(len(obs), "train"),
        latents=latents,
    )
    return fit, obs


def compared(fit: LoadedFit, obs: pd.DataFrame, sample: str | None = "sample", **keys: str) -> pd.DataFrame:
    return conditions_table([fit], obs, Design.of(obs, "condition", sample, **keys))


def bulks(fit: LoadedFit, obs: pd.DataFrame) -> pd.DataFrame:
    """Means of condition, type and sample in units of sd."""
    cells = pd.DataFrame(fit.latents, index=obs.index, columns=["f1", "f2"])
    keys = [obs["condition"], obs["cell_type"], obs["sample"]]
    return (cells / cells.std(ddof=0)).groupby(keys).mean()


UNPAIRED = {"a": ["ctrl"], "b": ["ctrl"], "c": ["ctrl"], "d": ["stim"], "e": ["stim"]}
PAIRED = {name: ["ctrl", "stim"] for name in "abcd"}


def test_separate_samples_are_compared_by_welchs_test():
    fit, obs = study(UNPAIRED)
    table = compared(fit, obs)
    assert list(table.columns) == CONDITIONS_COLUMNS
    assert table["cell_type"].tolist() == [ALL_TYPES, *TYPES] * 2
    assert set(table["test"]) == {"welch"}
    assert set(zip(table["condition"], table["reference"], strict=True)) == {("stim", "ctrl")}
    means = bulks(fit, obs)
    for row in table[table["cell_type"] != ALL_TYPES].itertuples():
        stim, ctrl = (means.loc[(c, row.cell_type), row.factor] for c in ("stim", "ctrl"))
        expected = stats.ttest_ind(stim, ctrl, equal_var=False)
        interval = expected.confidence_interval()
        assert row.effect == pytest.approx(stim.mean() - ctrl.mean())
        assert (row.lower, row.upper) == pytest.approx((interval.low, interval.high))
        assert row.p_value == pytest.approx(expected.pvalue)
        assert (row.n_samples, row.n_samples_reference) == (2, 3)
        assert (row.n_cells, row.n_cells_reference) == (2 * N_EACH, 3 * N_EACH)
        assert "few samples (2 and 3)" in row.note
    np.testing.assert_allclose(table["q_value"], multipletests(table["p_value"], method="fdr_bh")[1])


def test_samples_of_both_conditions_are_pairs():
    fit, obs = study(PAIRED | {"only": ["stim"]})
    table = compared(fit, obs)
    means = bulks(fit, obs)
    for row in table[table["cell_type"] != ALL_TYPES].itertuples():
        stim, ctrl = (
            means.loc[(c, row.cell_type), row.factor].reindex(list("abcd")) for c in ("stim", "ctrl")
        )
        expected = stats.ttest_rel(stim, ctrl)
        interval = expected.confidence_interval()
        assert (row.test, row.n_samples, row.n_samples_reference) == ("paired", 4, 4)
        assert row.p_value == pytest.approx(expected.pvalue)
        assert (row.lower, row.upper) == pytest.approx((interval.low, interval.high))
        assert row.note == "1 sample(s) with cells of one condition only left out"
    assert table.set_index(["factor", "cell_type"]).loc[("f1", "B"), "q_value"] < 0.01


def test_all_types_have_the_same_weight_in_every_sample():
    fit, obs = study(UNPAIRED)
    means = bulks(fit, obs).groupby(level=["condition", "sample"]).mean()
    expected = stats.ttest_ind(means.loc["stim", "f1"], means.loc["ctrl", "f1"], equal_var=False)
    row = compared(fit, obs).iloc[0]
    assert (row["factor"], row["cell_type"]) == ("f1", ALL_TYPES)
    assert row["p_value"] == pytest.approx(expected.pvalue)
    # more cells of one type in one condition are no effect
    flat = replace(fit, latents=2.0 * (obs[["cell_type"]] == "B").to_numpy() + 1e-3 * fit.latents)
    kept = ~((obs["condition"] == "stim") & (obs["cell_type"] == "B") & (np.arange(len(obs)) % 6 == 0))
    fewer = replace(flat, cells=fit.cells[kept], cell_types=fit.cell_types[kept], latents=flat.latents[kept])
    table = conditions_table([fewer], obs, Design.of(obs, "condition", "sample"))
    assert abs(table.iloc[0]["effect"]) < 0.01


@pytest.mark.parametrize(
    ("samples", "sample", "note"),
    [
        ({"a": ["ctrl"], "b": ["ctrl"], "d": ["stim"]}, "sample", "refused, fewer than two samples a side"),
        (UNPAIRED, None, "no column of samples is named"),
        ({"a": ["ctrl", "stim"]}, "sample", "with 10 cells (1 and 1)"),
    ],
)
def test_cells_never_give_a_p_value(samples, sample, note, tmp_path):
    fit, obs = study(samples)
    table = compared(fit, obs, sample)
    assert set(table["test"]) == {"none"}
    assert table[["p_value", "q_value", "lower", "upper"]].isna().all(axis=None)
    assert table["note"].str.contains(note, regex=False).all()
    assert table["note"].str.contains("over cells, not samples: no p-value").all()
    cells = pd.Series(fit.latents[:, 0] / fit.latents[:, 0].std()).groupby(
        [obs["condition"].to_numpy(), obs["cell_type"].to_numpy()]
    )
    shift = cells.mean()["stim"] - cells.mean()["ctrl"]
    np.testing.assert_allclose(table["effect"][:3], [shift.mean(), *shift])
    write_table(table, tmp_path / "c.tsv")
    pd.testing.assert_frame_equal(
        read_table(tmp_path / "c.tsv").astype({"seed": int}), table, check_dtype=False, rtol=1e-8
    )


def test_a_type_of_one_condition_and_small_samples_are_said():
    fit, obs = study(UNPAIRED)
    kept = ~((obs["condition"] == "stim") & (obs["cell_type"] == "B")) & (
        (obs["sample"] != "a") | (np.arange(len(obs)) % 3 > 0)
    )
    part = replace(fit, cells=fit.cells[kept], cell_types=fit.cell_types[kept], latents=fit.latents[kept])
    table = compared(part, obs).set_index(["factor", "cell_type"])
    alone = table.loc[("f1", "B")]
    assert alone["n_cells"] == 0
    assert np.isnan(alone["effect"])
    assert "one of the conditions has no cells" in alone["note"]
    assert table.loc[("f2", "T; 4"), "n_samples_reference"] == 2
    assert "1 sample(s) with fewer than 10 cells left out" in table.loc[("f2", "T; 4"), "note"]
    # the type that one condition lacks does not count for all types
    np.testing.assert_allclose(table.loc[("f1", ALL_TYPES), "effect"], table.loc[("f1", "T; 4"), "effect"])


def test_each_condition_is_compared_with_the_reference():
    fit, obs = study({**UNPAIRED, "f": ["x"], "g": ["x"]})
    assert compared(fit, obs)["condition"].unique().tolist() == ["stim", "x"]
    turned = compared(fit, obs, reference="stim")
    assert turned["condition"].unique().tolist() == ["ctrl", "x"]
    both = compared(fit, obs).query("condition == 'stim'")["effect"].to_numpy()
    np.testing.assert_allclose(turned.query("condition == 'ctrl'")["effect"], -both)
    # one family of tests
    table = compared(fit, obs)
    np.testing.assert_allclose(table["q_value"], multipletests(table["p_value"], method="fdr_bh")[1])


def test_a_model_that_was_told_the_samples_is_named():
    fit, obs = study(UNPAIRED)
    told = replace(fit, summary={"batch": {"column": "sample"}})
    assert compared(told, obs)["note"].str.contains("taken out of its factors").all()
    obs["run"] = np.resize(["r1", "r2"], len(obs))
    told = replace(fit, summary={"batch": {"column": "run"}})
    assert not compared(told, obs)["note"].str.contains("taken out").any()


def test_cells_without_a_condition_or_sample_are_left_out(caplog):
    fit, obs = study(UNPAIRED)
    gone = obs.copy()
    gone.loc[gone.index[:1], "condition"] = None
    gone.loc[gone.index[-1:], "sample"] = np.nan
    table = compared(fit, gone)
    assert "2 of 120 cells" in caplog.text
    assert (table["n_cells"].iloc[1] + table["n_cells_reference"].iloc[1]) == 59


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"condition": "conditions"}, r"no obs column 'conditions' \(nearest: 'condition'\)"),
        ({"condition": "one"}, "has 1 values"),
        ({"condition": "cell"}, "has 48 values"),
        ({"condition": "condition", "sample": "cell"}, "48 values for 48 cells"),
        ({"condition": "condition", "reference": "contrl"}, r"nearest: 'ctrl'"),
    ],
)
def test_columns_that_are_no_design_are_refused(keys, problem):
    _, obs = study({"a": ["ctrl"], "b": ["stim"]})
    obs = obs.assign(one="x", cell=obs.index)
    with pytest.raises(InputError, match=problem):
        Design.of(obs, **keys)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.permutations(range(120)))
def test_order_of_cells_and_direction_of_factors_do_not_matter(seed, order):
    fit, obs = study(UNPAIRED, seed)
    table = compared(fit, obs)
    shuffled = replace(
        fit, cells=fit.cells[order], cell_types=fit.cell_types[order], latents=-3 * fit.latents[order]
    )
    other = conditions_table([shuffled], obs, Design.of(obs, "condition", "sample"))
    np.testing.assert_allclose(other["effect"], -table["effect"], atol=1e-9)
    np.testing.assert_allclose(other["p_value"], table["p_value"], rtol=1e-6)


def test_nothing_but_samples_gives_few_small_p_values():
    """The error of a test over cells: samples differ, conditions do not."""
    rng = np.random.default_rng(1)
    p_values = []
    for seed in range(12):
        fit, obs = study({name: ["ctrl" if i < 4 else "stim"] for i, name in enumerate("abcdefgh")}, seed)
        latents = fit.latents.copy()
        latents[:, 0] -= 3 * ((obs["condition"] == "stim") & (obs["cell_type"] == "B"))
        latents += 0.1 * rng.normal(size=latents.shape)
        table = compared(replace(fit, latents=latents), obs)
        p_values += table.loc[table["cell_type"] == ALL_TYPES, "p_value"].tolist()
    assert np.mean(np.array(p_values) < 0.05) < 0.2
