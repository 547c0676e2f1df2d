"""The TBR paper's simulation: its grid, scores against a known truth, claims, picture, few-shot errors."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from latentree.metrics import mcc_chance
from latentree.reproduction import tbr, tbr_few_shot, tbr_fits
from latentree.reproduction.records import MEASUREMENT_COLUMNS, Measurement, Scale
from latentree.reproduction.registry import EXPERIMENTS
from latentree.reproduction.tbr_drawing import PANELS
from latentree.reproduction.tbr_few_shot import (
    ERROR,
    NO_CHANGE,
    SPARSE,
    SQUARES,
    TURNED,
    few_shot_errors,
    held_out_leaves,
    random_rotation,
    without,
)
from latentree.reproduction.tbr_fits import (
    ATE,
    MCC,
    MOST_LATENTS,
    MSE,
    OVER_FLOOR,
    RANK,
    SECONDS,
    SPAN,
    Setting,
    draw_cells,
    judged,
    marks,
    n_environments,
)
from latentree.reproduction.tbr_grid import ASKED, FULL, PARTS, model_name

QUICK = Scale(quick=True)


@pytest.fixture
def tiny(monkeypatch):
    """Fits of a moment."""
    monkeypatch.setattr(tbr_fits, "QUICK_CELLS", 900)
    monkeypatch.setattr(tbr_fits, "_QUICK_DEPTH", 3)
    monkeypatch.setattr(tbr_fits, "_QUICK", {"n_steps": 3, "n_finetune_steps": 2, "n_restarts": 2})


def test_the_registry_has_every_part_and_settings_have_names_of_their_own():
    assert set(EXPERIMENTS["tbr"].part_names(quick=False)) == {*PARTS, tbr.FEW_SHOT}
    settings = [fits.setting for part in PARTS.values() for fits in part]
    assert len({setting.name for setting in settings}) == len(settings)
    assert {place.panel for setting in settings for place in setting.places} == {*PANELS} - {"few shots"}


def test_environments_are_as_many_as_the_names_say():
    assert (n_environments(7, "non-root"), n_environments(8, "leaves")) == (254, 256)
    for part in ("environments_leaves", "environments_nodes"):
        for fits in PARTS[part]:
            (place,) = fits.setting.places
            assert fits.setting.name.startswith(f"{place.x} ")


@pytest.mark.parametrize("observed", ["non-root", "leaves"])
def test_cells_are_split_into_a_half_and_two_quarters(observed):
    drawn = draw_cells(Setting("any", depth=7, observed=observed), 3, QUICK)
    n = len(drawn.cells.y)
    assert len(set(drawn.cells.environments)) == n_environments(4, observed)
    assert n == pytest.approx(tbr_fits.QUICK_CELLS, abs=n_environments(4, observed))
    assert np.array_equal(np.sort(np.concatenate([drawn.train, drawn.validation, drawn.test])), np.arange(n))
    assert (len(drawn.train), len(drawn.validation)) == (n // 2, 3 * n // 4 - n // 2)


def test_a_linear_map_changes_neither_tree_nor_effects_nor_inputs():
    first, second = (draw_cells(Setting("any", psi=psi), 3, QUICK) for psi in ("mlp", "linear"))
    np.testing.assert_array_equal(first.cells.weights, second.cells.weights)
    np.testing.assert_array_equal(first.cells.X, second.cells.X)
    np.testing.assert_array_equal(first.test, second.test)
    assert not np.array_equal(first.cells.Z, second.cells.Z)


def with_true_latents(drawn):
    """What a fit that knows the truth offers; latents in another order, with other signs."""
    cells = drawn.cells
    rows = {cell.tobytes(): i for i, cell in enumerate(cells.X)}
    turn = np.eye(cells.Z.shape[1])[::-1] * [1, -1, 2, 1, 1]

    def numbers(X):
        return np.array([rows[cell.tobytes()] for cell in X])

    names = [name for name in cells.tree.names if name in set(cells.environments[drawn.train])]
    weights = cells.weights[[cells.tree.index[name] for name in names]]
    return SimpleNamespace(
        tree=cells.tree,
        weights=pd.DataFrame(weights @ np.linalg.inv(turn), names),
        latents=lambda X: cells.Z[numbers(X)] @ turn.T,
        predict=lambda X, environments: cells.signal[numbers(X)],
        unmixing=random_rotation(len(turn), 1),
    )


def test_the_truth_has_the_best_of_all_scores():
    drawn = draw_cells(Setting("any"), 3, QUICK)
    scores = judged(with_true_latents(drawn), drawn, 0)
    assert scores[MCC] == pytest.approx(1)
    assert scores[SPAN] == pytest.approx(1)
    assert scores[OVER_FLOOR] == pytest.approx(1)
    assert scores[ATE] == pytest.approx(0, abs=1e-10)
    left = (drawn.cells.y - drawn.cells.signal)[drawn.test]
    assert scores[MSE] == pytest.approx(sum(float(one) ** 2 for one in left) / len(left), rel=1e-4)


def test_the_quick_parts_measure_draw_and_repeat(tiny, tmp_path):
    first, second = (tbr.run("k1", QUICK) for _ in range(2))
    table, again = (pd.DataFrame([vars(one) for one in run.measurements]) for run in (first, second))
    assert set(table["model"]) == {"baseline", "joint", "two_stage"}
    assert set(table["metric"]) == {MCC, SPAN, MSE, OVER_FLOOR, ATE, RANK, SECONDS}
    assert np.isfinite(table["value"]).all()
    same = table["metric"] != SECONDS
    pd.testing.assert_frame_equal(table[same], again[same])
    assert set(first.samples["panel"]) == {"mcc, all nodes", "mse, all nodes", "environments", "dimension"}
    # one data set tells nothing of noise
    assert {row.agrees for row in tbr.summarise(table)} == {"not comparable"}
    tbr.draw(first.samples, tmp_path / "one.svg")
    assert (tmp_path / "one.svg").stat().st_size > 1000


def test_numbers_of_latents_are_refitted_and_have_singular_values(tiny):
    outcome = tbr.run("asked1", QUICK)
    table = pd.DataFrame([vars(one) for one in outcome.measurements])
    assert set(table["model"]) == {model_name("two_stage", n) for n in ASKED[1].n_latents}
    asked = outcome.samples[outcome.samples["panel"] == "asked"]
    assert sorted(set(asked["x"])) == list(ASKED[1].n_latents)
    spectrum = outcome.samples[outcome.samples["panel"] == "singular"]
    its = spectrum[spectrum["model"] == "two_stage"]
    assert its["x"].tolist() == list(range(1, MOST_LATENTS + 1))
    assert its["value"].iloc[0] == 1
    assert (its["value"].diff().dropna() <= 0).all()


def test_no_spectrum_of_fits_with_few_latents():
    (fits,) = PARTS["asked0"]
    scores = {OVER_FLOOR: 3.0, "singular value 1": 1.0, "singular value 2": 0.5}
    assert [row["panel"] for row in marks(fits.setting, 2, "two_stage", 0, scores)] == ["asked"]


def measured(setting, model, metric, values):
    return [Measurement("tbr", setting, model, metric, seed, value) for seed, value in enumerate(values)]


def around(value, n=5):
    """Values about this one, a little apart."""
    return [value * (1 + 0.01 * (i - n // 2)) for i in range(n)]


def as_published(worse=1.0):
    """Numbers as the paper has them: sparse changes disentangle, and errors stay low."""
    table = []
    for where in ("all nodes", "leaves"):
        for k in range(6):
            tree = [0.4, 0.99, 0.95, 0.9, 0.85, 0.75][k] * worse
            for model in ("baseline", "joint", "two_stage"):
                rise = 1 + 30 * k * (model == "baseline") / worse
                table += measured(f"{where}, k {k}", model, MCC, around(0.4 if model == "baseline" else tree))
                table += measured(f"{where}, k {k}", model, OVER_FLOOR, around(1.5 * rise))
                table += measured(f"{where}, k {k}", model, MSE, around(0.1 * rise * (1 + k)))
                error = 1.5 if model == "baseline" else 0.01
                table += measured(f"{where}, k {k}", model, ATE, around(error))
    for k in (1, 3):
        table += measured(f"linear, k {k}", "two_stage", MCC, around([0.99, 0.9][k == 3] * worse))
    for p in ("0.1", "0.2", "0.8"):
        table += measured(f"p {p}", "two_stage", MCC, around(0.9 * worse))
        table += measured(f"p {p}", "baseline", MCC, around(0.4))
    return pd.DataFrame(table, columns=MEASUREMENT_COLUMNS)


def verdicts(table):
    """Of the rows that are judged."""
    rows = tbr.summarise(table)
    return {(row.setting, row.metric): row.agrees for row in rows if row.agrees != "not comparable"}


def test_what_the_paper_claims_agrees_with_what_it_shows():
    rows = tbr.summarise(as_published())
    judged_rows = [row for row in rows if row.agrees != "not comparable"]
    assert [row for row in judged_rows if row.agrees == "no"] == []
    assert len(judged_rows) > 50
    claims = verdicts(as_published())
    assert claims["all nodes, k 1: joint", MCC] == "yes"
    assert claims["leaves, two_stage: k 3 - k 1", MCC] == "yes"
    assert claims["all nodes, baseline: k 5 - k 1", MSE] == "yes"
    assert claims["all nodes, k 1: two_stage - baseline", ATE] == "yes"
    # every MCC is beside its chance level
    assert all(
        "chance" in row.explanation for row in rows if row.metric == MCC and row.published == "figure only"
    )


def test_what_is_not_found_does_not_agree():
    claims = verdicts(as_published(worse=0.4))
    assert claims["all nodes, k 1: two_stage", MCC] == "no"
    assert claims["all nodes, k 3: two_stage - baseline", MCC] == "no"
    assert claims["bar, all nodes, k 1: two_stage, above chance", MCC] == "no"
    assert claims["bar, all nodes, k 5: two_stage, no more than chance", MCC] == "yes"
    everywhere = as_published()
    everywhere.loc[everywhere["metric"] == MCC, "value"] = 0.99
    claims = verdicts(everywhere)
    assert claims["all nodes, k 0: baseline", MCC] == "no"
    assert claims["bar, all nodes, k 5: two_stage, no more than chance", MCC] == "no"
    assert claims["all nodes, two_stage: k 5 - k 1", MCC] == "no"


@pytest.mark.parametrize(
    ("errors", "plateau", "raised"),
    [
        ({2: 20.0, 3: 2.0, 8: 1.9}, "yes", "yes"),
        ({2: 20.0, 3: 10.0, 8: 2.0}, "no", "yes"),
        ({2: 2.0, 3: 2.4, 8: 2.5}, "no", "no"),
    ],
)
def test_the_plateau_is_where_more_latents_gain_little(errors, plateau, raised):
    asked = ASKED[1]
    table = []
    for n, error in errors.items():
        for model in ("two_stage", "baseline"):
            table += measured(asked.setting, model_name(model, n), OVER_FLOOR, around(error))
    table += measured(asked.setting, model_name("two_stage", MOST_LATENTS), RANK, [3.0, 3.0, 3.0])
    claims = {row.setting: row.agrees for row in tbr.summarise(pd.DataFrame(table)) if row.metric != MCC}
    assert claims[f"{asked.setting}, two_stage: 2 - 3 latents"] == raised
    if errors[2] > errors[3]:
        assert claims[f"{asked.setting}, two_stage: gain of 3 to 8 latents"] == plateau
    assert claims[f"bar, {asked.setting}, 8 latents: two_stage"] == "yes"


def test_chance_is_that_of_the_latents_there_are_and_of_those_fitted():
    table = pd.DataFrame(
        [
            *measured("d 2, k 1", "two_stage", MCC, [0.9, 0.91]),
            *measured(ASKED[1].setting, "two_stage, 8 fitted", MCC, [0.6, 0.7]),
        ]
    )
    rows = {row.setting: row for row in tbr.summarise(table)}
    assert f"chance {mcc_chance(2)[0]:.3g}" in rows["d 2, k 1: two_stage"].explanation
    assert f"chance {mcc_chance(3, 8)[0]:.3g}" in rows[f"{ASKED[1].setting}: two_stage, 8 fitted"].explanation


def test_nothing_measured_gives_no_rows():
    assert tbr.summarise(as_published().iloc[:0]) == []
    rows = tbr.summarise(pd.DataFrame(measured(FULL, "joint", MCC, [0.99, 0.98])))
    assert {row.setting for row in rows} == {f"{FULL}: joint"}


def test_the_same_samples_give_the_same_picture(tmp_path):
    rng = np.random.default_rng(0)
    samples = [
        {
            "panel": panel,
            "variant": variant,
            "model": model,
            "x": x,
            "seed": seed,
            "value": rng.uniform(0.1, 1),
        }
        for panel in PANELS
        for variant in ((np.nan,) if panel.startswith("m") else ("one", "other"))
        for model in ("baseline", "two_stage", "least squares")
        for x in (2, 4, 8)
        for seed in range(3)
    ]
    for name in ("one.svg", "two.svg"):
        tbr.draw(pd.DataFrame(samples), tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_held_out_leaves_lose_the_cells_to_fit_and_no_others():
    drawn = draw_cells(Setting("any"), 3, QUICK)
    held_out = held_out_leaves(drawn, 3, 4)
    assert len(set(held_out)) == 4
    assert all(drawn.cells.tree.is_leaf[drawn.cells.tree.index[name]] for name in held_out)
    seen = without(drawn, held_out)
    for rows, before in ((seen.train, drawn.train), (seen.validation, drawn.validation)):
        expected = [row for row in before if drawn.cells.environments[row] not in held_out]
        assert rows.tolist() == expected
    np.testing.assert_array_equal(seen.test, drawn.test)


def test_with_true_latents_few_cells_tell_which_effect_changed():
    drawn = draw_cells(Setting("any"), 3, QUICK)
    held_out = held_out_leaves(drawn, 3, 6)
    seen = without(drawn, held_out)
    fit = with_true_latents(seen)
    errors = {(shots, model): value for shots, model, value in few_shot_errors(fit, seen, held_out, 3, 5)}
    for shots in (5, 10, 20):
        assert errors[shots, SPARSE] < errors[shots, TURNED]
        assert errors[shots, SPARSE] < errors[shots, SQUARES]
        assert errors[shots, SPARSE] < errors[shots, NO_CHANGE]
    assert errors[20, SPARSE] < 0.01
    expected = []
    for name in held_out:
        its = drawn.cells.environments == name
        parent = drawn.cells.tree.parents[drawn.cells.tree.index[name]]
        left = drawn.cells.y[its] - drawn.cells.Z[its] @ drawn.cells.weights[parent]
        expected.append(np.mean(left**2) / drawn.cells.y[its].var())
    assert errors[20, NO_CHANGE] == pytest.approx(np.median(expected), rel=0.2)


def test_few_shots_are_measured_and_judged(tiny, monkeypatch):
    drawn = draw_cells(Setting("any"), tbr_fits.FIRST_SEED, QUICK)
    monkeypatch.setattr(tbr_few_shot, "fit_drawn", lambda seen, *_: with_true_latents(seen))
    outcome = tbr.run(tbr.FEW_SHOT, QUICK)
    table = pd.DataFrame([vars(one) for one in outcome.measurements])
    assert set(table["metric"]) == {ERROR}
    assert len(outcome.samples) == len(table) == 3 * 5
    assert len(drawn.cells.tree.names) == 15
    several = pd.concat(
        [table.assign(seed=seed, value=table["value"] * (1 + seed / 10)) for seed in range(3)]
    )
    rows = {row.setting: row for row in tbr.summarise(several)}
    assert rows[f"held-out leaves, 20 cells: {SPARSE} - {NO_CHANGE}"].agrees == "yes"
    assert " against " in rows[f"held-out leaves, 5 cells: {SPARSE} - {SQUARES}"].explanation
