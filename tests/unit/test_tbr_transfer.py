"""Held-out cell types: which they are, what the fits see, and errors with and without a few cells."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from tbr_cells_fixture import LATENTS, make_cells

from latentree.simulate import balanced_tree
from latentree.tbr import simulated
from latentree.tbr.adaptation import adapted_weights, change_penalty, change_size, residual_variance
from latentree.tbr.simulated import Problem
from latentree.tbr.transfer import COLUMNS, held_out_types, transfer_rows
from latentree.tbr_config import HeldOutConfig, TBRConfig
from latentree.tbr_variables import choose_variables

TREE = balanced_tree(3)


def problem(n_changes=1, seed=0, n_cells=70, **held_out) -> Problem:
    cells = make_cells(TREE, n_cells)
    settings = TBRConfig(
        latents=LATENTS, n_latents=2, n_steps=200, n_finetune_steps=50, phi="linear", held_out=held_out
    )
    variables = choose_variables(cells, settings, seed)
    return Problem.simulated(cells, variables, TREE, settings, n_changes, seed)


@pytest.fixture(scope="module")
def one() -> Problem:
    return problem()


@pytest.fixture(scope="module")
def tables(one) -> dict[str, pd.DataFrame]:
    return {name: transfer_rows(one, name) for name in ("baseline", "two_stage")}


@pytest.mark.parametrize(
    ("sizes", "keys", "expected"),
    [
        ([99, 99, 99, 99, 99], {}, 2),
        ([99, 99, 99, 99], {}, 1),
        ([99, 99, 99], {}, 0),
        ([60, 59, 59, 59, 59, 10], {}, 1),
        ([59] * 9, {}, 0),
        ([59] * 9, {"min_cells": 20, "n_types": 4}, 4),
        ([99] * 9, {"n_types": 0}, 0),
    ],
)
def test_types_held_out_are_large_and_leave_three(sizes, keys, expected):
    names = np.repeat([f"t{i}" for i in range(len(sizes))], sizes).astype(object)
    settings = HeldOutConfig(**keys)
    drawn = [held_out_types(names, settings, seed) for seed in range(20)]
    assert {len(types) for types in drawn} == {expected}
    assert all(sizes[int(name[1:])] >= settings.min_cells for types in drawn for name in types)
    assert drawn[3] == held_out_types(names, settings, 3)
    assert expected == 0 or len(set(map(tuple, drawn))) > 1 or sizes.count(99) <= 1


def test_no_fit_sees_a_held_out_cell(one, monkeypatch):
    seen = []
    original = simulated.fit_tbr

    def recorded(*arguments, **options):
        seen.append(np.concatenate([options["train"], options["validation"]]))
        return original(*arguments, **options)

    monkeypatch.setattr(simulated, "fit_tbr", recorded)
    rows = transfer_rows(one, "baseline")
    types = rows["held_out"].unique().tolist()
    assert len(types) == 2
    # one fit for all, and one to the nearest type of each
    assert len(seen) == 3
    assert not set(one.environments[np.concatenate(seen)]) & set(types)
    alone = [set(one.environments[fitted]) for fitted in seen[1:]]
    assert alone == [{rows.loc[rows["held_out"] == name, "nearest"].iloc[0]} for name in types]


def test_rows_keep_the_contract(one, tables):
    methods = {
        "baseline": {"zero_shot", "zero_shot_nearest", "floor", "lasso", "ols", "oracle"},
        "two_stage": {"zero_shot", "floor", "lasso", "lasso_unrotated", "ols", "oracle"},
    }
    for name, table in tables.items():
        assert list(table.columns) == COLUMNS
        assert set(table["method"]) == methods[name]
        assert table["estimator"].unique().tolist() == [name]
        assert np.isfinite(table["nmse"]).all()
        # 100 shots of 70 cells are too many, and 60 would leave too few
        assert set(table["shots"]) == {0, 5, 20}
        few = table[table["shots"] > 0]
        assert (few["n_test_cells"] == 70 - few["shots"]).all()
        assert (few["n_draws"] == 10).all()
        assert (few["nmse_sd"] > 0).all()
        none = table[table["shots"] == 0]
        assert (none["n_test_cells"] == 70).all()
        assert none["nmse_sd"].isna().all()
        zero = table.loc[table["method"] == "zero_shot", "note"]
        assert zero.str.contains("cannot tell rotations apart").all()
    # the references do not depend on the estimator
    for method in ("floor", "oracle"):
        a, b = (table.loc[table["method"] == method, "nmse"].to_numpy() for table in tables.values())
        assert a == pytest.approx(b, rel=1e-6)
    pd.testing.assert_frame_equal(transfer_rows(one, "two_stage"), tables["two_stage"])


def test_errors_are_those_of_the_parts(one, tables):
    table = tables["two_stage"]
    types = sorted(set(table["held_out"]))
    fit = one.fitted("two_stage", one.rows.among(~np.isin(one.environments.astype(str), types)))
    assert not set(fit.weights.index) & set(types)
    name = types[0]
    rows = table[table["held_out"] == name]
    here = one.environments == name
    X, y = one.variables.X[here], one.phenotype.y[here]
    nearest = TREE.nearest(name, list(fit.weights.index))
    assert rows["nearest"].unique().tolist() == [nearest]

    def value(method: str, shots: int) -> float:
        return float(rows.query("method == @method and shots == @shots")["nmse"].iloc[0])

    assert value("zero_shot", 0) == pytest.approx(np.mean((y - fit.predict(X, [name] * 70)) ** 2) / y.var())
    assert value("floor", 0) == pytest.approx(np.mean((y - one.phenotype.signal[here]) ** 2) / y.var())
    # the few-shot rows against draws of this test's own: the same within their scatter
    chosen = one.rows.validation[~np.isin(one.environments[one.rows.validation].astype(str), types)]
    noise = residual_variance(fit, one.variables.X[chosen], one.phenotype.y[chosen], one.environments[chosen])
    z, start = fit.latents(X).astype(float), fit.weights.loc[nearest].to_numpy()
    rng, errors = np.random.default_rng(5), []
    for _ in range(200):
        few, rest = np.split(rng.permutation(70), [20])
        weights, level = adapted_weights(
            z[few], y[few], start, fit.intercepts[nearest], penalty=change_penalty(noise, change_size(fit))
        )
        errors.append(np.mean((y[rest] - z[rest] @ weights - level) ** 2) / y.var())
    assert value("lasso", 20) == pytest.approx(np.mean(errors), abs=4 * np.std(errors) / np.sqrt(10))


def test_cells_help_and_the_truth_is_best(tables):
    mean = tables["two_stage"].groupby(["method", "shots"])["nmse"].mean()
    assert mean["lasso", 20] < mean["zero_shot", 0]
    assert mean["lasso", 20] < mean["ols", 5]
    assert mean["oracle", 20] < 1.5 * mean["floor", 0]
    assert mean["oracle", 20] < 0.9 * mean["lasso", 20]


def test_why_no_type_is_held_out_is_said():
    (row,) = transfer_rows(problem(n_cells=20), "joint").to_dict("records")
    assert row["held_out"] == ""
    assert row["method"] == "none"
    assert np.isnan(row["nmse"])
    assert row["note"].startswith("no type is held out: 8 cell types, 0 of them with at least 60 cells")
    nothing = transfer_rows(problem(n_types=0), "joint")
    assert list(nothing.columns) == COLUMNS
    assert len(nothing) == 0


def test_a_nearest_type_too_small_for_a_fit_of_its_own_is_said(one, tables):
    rows = tables["baseline"]
    nearest = rows["nearest"].iloc[0]
    # of the nearest type only one training cell is left
    train = one.rows.train
    mine = train[one.environments[train] == nearest]
    fewer = dataclasses.replace(one.rows, train=np.setdiff1d(train, mine[1:]))
    table = transfer_rows(dataclasses.replace(one, rows=fewer), "baseline")
    row = table.query("method == 'zero_shot_nearest' and nearest == @nearest").iloc[0]
    assert np.isnan(row["nmse"])
    assert row["note"] == "no fit to the nearest type alone: 1 training cell(s)"
