"""The framework of the papers' experiments: parts, summary, claims, page."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from latentree.code_hash import import_closure
from latentree.errors import InputError
from latentree.files import read_table, write_table
from latentree.reproduction import page, running, sources, summary
from latentree.reproduction.averages import average, claim, paired_difference, within
from latentree.reproduction.drawing import draw_experiment
from latentree.reproduction.points import draw_points
from latentree.reproduction.records import (
    MEASUREMENT_COLUMNS,
    NOT_RUN,
    SUMMARY_COLUMNS,
    Measurement,
    Outcome,
    Scale,
)
from latentree.reproduction.registry import EXPERIMENTS, experiment_module
from latentree.reproduction.rows import RowMaker


def measured(values, experiment="synthetic", setting="rho 0.2", metric="dci"):
    """A table of values by model, one seed after the other."""
    return pd.DataFrame(
        [
            (experiment, setting, model, metric, seed, value)
            for model, its in values.items()
            for seed, value in enumerate(its)
        ],
        columns=MEASUREMENT_COLUMNS,
    )


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_a_module_with_parts_of_its_own(name):
    experiment, module = EXPERIMENTS[name], experiment_module(name)
    assert module.__name__ == f"latentree.reproduction.{name}"
    assert callable(module.run)
    assert callable(module.summarise)
    assert experiment.figure is None or callable(module.draw)
    parts = experiment.part_names(quick=False)
    assert len(parts) == len(set(parts))
    # parts are wildcards of the workflow
    assert all(re.fullmatch(r"\w+", part) for part in parts)
    assert experiment.part_names(quick=True), "the quick variant runs something of every experiment"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_depends_on_no_other(name):
    module = Path(experiment_module(name).__file__)
    closure = import_closure(module, module.parents[2])
    reached = {path.stem for path in closure if path.parent == module.parent}
    assert reached & set(EXPERIMENTS) == {name}
    assert "registry" not in reached


def test_an_unknown_experiment_is_named_with_its_nearest():
    with pytest.raises(InputError, match="nearest: 'synthetic'"):
        experiment_module("sinthetic")


def test_a_part_without_its_data_says_so_down_to_the_page(tmp_path):
    table, samples = running.run_part("shift", "high", Scale(data=tmp_path))
    assert samples.empty
    write_table(table, tmp_path / "high.tsv")
    rows = summary.summarise(summary.read_measurements([tmp_path / "high.tsv"]))
    assert list(rows.columns) == SUMMARY_COLUMNS
    (row,) = rows.to_dict("records")
    assert (row["experiment"], row["setting"], row["agrees"]) == ("shift", "high", "not comparable")
    assert row["explanation"] == f"not run: no data ({sources.ZEISEL})"
    assert row["explanation"] in page.reproduction_page(rows)


def test_movielens_is_the_file_that_the_config_names(tmp_path):
    absent, _ = running.run_part("ratings", "folds", Scale(data=tmp_path, movielens=tmp_path / "no"))
    assert list(absent["metric"]) == [NOT_RUN]


@pytest.mark.parametrize("with_samples", [False, True])
def test_a_part_gives_its_measurements_and_what_it_draws(monkeypatch, with_samples):
    class Module:
        @staticmethod
        def run(part, scale):
            given = [Measurement("synthetic", part, "vae", "dci", 3, 0.5)]
            return Outcome(given, pd.DataFrame({"x": [1.0]})) if with_samples else given

    monkeypatch.setattr(running, "experiment_module", lambda name: Module)
    table, samples = running.run_part("synthetic", "rho02", Scale(quick=True))
    assert table.to_numpy().tolist() == [["synthetic", "rho02", "vae", "dci", 3, 0.5]]
    assert len(samples) == with_samples


def test_averages_leave_out_what_is_not_finite():
    found = average([1.0, np.nan, 3.0])
    assert (found.mean, found.n) == (2.0, 2)
    assert found.sd == pytest.approx(np.std([1, 3], ddof=1))
    assert average([]).n == 0
    assert not average([5.0]).clearly_positive, "one value tells nothing of noise"


@pytest.mark.parametrize(
    ("first", "above", "expected"),
    [
        ([0.9, 0.92, 0.91], True, "yes"),
        ([0.9, 0.92, 0.91], False, "no"),
        ([0.4, 0.6, 0.52], True, "no"),
        ([0.9], True, "not comparable"),
    ],
)
def test_claims_hold_beyond_two_standard_errors_of_paired_differences(first, above, expected):
    table = measured({"a": first, "b": [0.5, 0.5, 0.5]})
    difference = paired_difference(table, "rho 0.2", "dci", "a", "b")
    assert difference.n == len(first)
    agrees, why = claim(difference, above)
    assert agrees == expected
    assert (why == "") == (agrees == "yes")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([-0.01, 0.0, 0.01], "yes"),
        ([0.02, 0.021, 0.022], "yes"),
        ([-0.3, 0.0, 0.3], "not comparable"),
        ([0.2, 0.21, 0.22], "no"),
        ([0.0], "not comparable"),
    ],
)
def test_no_gain_needs_a_bound_inside_the_margin(values, expected):
    agrees, why = within(average(values), 0.05, above=True)
    assert agrees == expected
    assert (why == "") == (agrees == "yes")
    assert within(average(-np.array(values)), 0.05, above=False) == (agrees, why)


def test_differences_pair_seeds_and_need_both_models():
    make = RowMaker("paper", "synthetic", measured({"a": [3.0, 2.0], "b": [1.0, 0.0]}).iloc[::-1])
    (row,) = make.difference("rho 0.2", "dci", "a", "b", above=True)
    assert (row.ours_mean, row.ours_sd, row.n_seeds, row.agrees) == (2.0, 0.0, 2, "yes")
    assert make.difference("rho 0.2", "dci", "a", "absent", above=True) == []


def test_the_summary_survives_its_file(tmp_path):
    values = {"sparse_vae": [0.9, 0.95, 0.93], "vae": [0.5, 0.4, 0.45], "vsc": [0.1, 0.3, 0.2]}
    rows = summary.summarise(measured(values))
    write_table(rows, tmp_path / "summary.tsv")
    pd.testing.assert_frame_equal(read_table(tmp_path / "summary.tsv"), rows, check_exact=False)
    claims = rows.set_index(["setting", "metric"])["agrees"]
    assert claims["rho 0.2: sparse_vae - vae", "dci"] == "yes"
    assert claims["rho 0.2: vsc - vae", "dci"] == "yes"


def test_no_parts_give_an_empty_summary_with_its_columns():
    assert list(summary.summarise(summary.read_measurements([])).columns) == SUMMARY_COLUMNS


def test_the_page_shows_claims_and_folds_away_what_has_no_published_number():
    rows = summary.summarise(measured({"sparse_vae": [0.9, 0.95], "vae": [0.5, 0.4]}))
    written = page.reproduction_page(rows)
    section = written.partition("## Sparse VAE: synthetic")[2].partition("\n## ")[0]
    shown, _, folded = section.partition("<details>")
    assert "| rho 0.2: sparse_vae - vae | dci | above 0 (figure only) | 0.475 (0.106) | 2 | yes |" in shown
    assert "| rho 0.2: vae | dci | figure only | 0.450 (0.071) | 2 |" in folded
    assert "No number below means anything" not in written
    assert "No number below means anything" in page.reproduction_page(rows, quick=True)


@pytest.mark.parametrize(
    ("mean", "sd", "expected"),
    [
        (0.51234, 0.0312, "0.512 (0.031)"),
        (1234.5, 10.2, "1234 (10)"),
        (0.0, 0.0, "0.00 (0.00)"),
        (0.00001, np.nan, "0.0000"),
        (-3.14159, 1.0, "-3.14 (1.00)"),
        (np.nan, np.nan, ""),
    ],
)
def test_numbers_on_the_page(mean, sd, expected):
    assert page.ours(mean, sd) == expected


def test_a_table_cell_can_hold_any_text():
    rows = summary.summarise(measured({"sparse_vae": [0.9, 0.95], "vae": [0.5, 0.4]}))
    rows["explanation"] = "a|b\nc"
    assert "a\\|b c |" in page.reproduction_page(rows)


def test_points_are_drawn_in_a_panel_each_and_nothing_to_draw_is_said(tmp_path):
    rng = np.random.default_rng(0)
    samples = pd.DataFrame({"panel": np.repeat(list("abcde"), 20), "series": ["data", "vae"] * 50})
    samples[["x", "y"]] = rng.standard_normal((100, 2))
    draw_points(samples, tmp_path / "points.svg")
    first = (tmp_path / "points.svg").read_bytes()
    draw_points(samples, tmp_path / "points.svg")
    assert (tmp_path / "points.svg").read_bytes() == first, "the same samples give the same bytes"
    write_table(pd.DataFrame(), tmp_path / "empty.tsv")
    draw_experiment("synthetic", [tmp_path / "empty.tsv"], tmp_path / "none.svg")
    assert (tmp_path / "none.svg").is_file()
