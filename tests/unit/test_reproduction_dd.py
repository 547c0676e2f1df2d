"""Experiment of Mathieu et al.: its measures on fits and codes of known quality, and its verdicts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from latentree.reproduction import dd
from latentree.reproduction.records import Measurement, Scale
from latentree.reproduction.registry import EXPERIMENTS


def _table(values: dict[tuple[str, str, str], list[float]]) -> pd.DataFrame:
    rows = [
        Measurement(dd.NAME, *place, seed, value)
        for place, its in values.items()
        for seed, value in enumerate(its)
    ]
    return pd.DataFrame(rows)


def _verdicts(values: dict[tuple[str, str, str], list[float]]) -> dict[str, str]:
    return {row.setting: row.agrees for row in dd.summarise(_table(values)) if " - " in row.setting}


def _divergences(*means: float) -> dict[tuple[str, str, str], list[float]]:
    noise = np.array([-0.01, 0.0, 0.01])
    return {
        ("beta 0", f"alpha {alpha:g}", dd.DIVERGENCE): list(mean + noise)
        for alpha, mean in zip(dd.ALPHAS, means, strict=True)
    }


def test_the_divergence_must_fall_at_every_step() -> None:
    assert _verdicts(_divergences(9, 3, 2, 1)) == {"beta 0: alpha 10 - alpha 0": "yes"}
    assert _verdicts(_divergences(9, 3, 4, 1)) == {"beta 0: alpha 10 - alpha 0": "no"}


def test_claims_about_cells_and_shapes_are_judged_over_seeds() -> None:
    cells = {
        ("cells, alpha 1000", dd.TEXT, dd.HOYER): [0.5, 0.6],
        ("cells, alpha 0", dd.TEXT, dd.HOYER): [0.7, 0.9],
        ("cells, alpha 1000", dd.DENSE, dd.HOYER): [0.2, 0.31],
    }
    verdicts = _verdicts(cells)
    assert verdicts[f"cells, alpha 1000: {dd.TEXT} - {dd.DENSE}"] == "yes"
    assert verdicts[f"{dd.TEXT}: alpha 1000 - alpha 0"] == "no"
    flat = {
        ("shapes, beta 1", dd.ISOTROPIC, dd.SCORE): [0.5, 0.6, 0.7],
        ("shapes, beta 4", dd.ISOTROPIC, dd.SCORE): [0.6, 0.5, 0.71],
    }
    place = f"shapes: {dd.ISOTROPIC}, beta 4 - beta 1"
    assert _verdicts(flat) == {place: "not comparable"}, "noise hides a gain as well as none"
    flat["shapes, beta 4", dd.ISOTROPIC, dd.SCORE] = [0.5, 0.61, 0.7]
    assert _verdicts(flat) == {place: "yes"}


def test_priors_are_compared_beside_their_losses_and_student_t_also_mapped() -> None:
    model, setting = "student-t, nu 3", "shapes, beta 1"
    values = {
        (setting, dd.ISOTROPIC, dd.SCORE): [0.5, 0.6],
        (setting, model, dd.SCORE): [0.5, 0.6],
        (setting, model, dd.MAPPED_SCORE): [0.6, 0.71],
        (setting, dd.ISOTROPIC, dd.LOSS): [30.0, 32.0],
        (setting, model, dd.LOSS): [40.0, 42.0],
    }
    rows = {row.metric: row for row in dd.summarise(_table(values)) if " - " in row.setting}
    assert rows[dd.SCORE].agrees == "no"
    assert rows[dd.MAPPED_SCORE].agrees == "yes"
    assert "losses 41 and 31 nats" in rows[dd.MAPPED_SCORE].explanation


def test_causes_are_given_for_a_clear_opposite_only() -> None:
    def why(with_alpha: list[float]) -> str:
        values = {
            ("cells, alpha 1000", dd.TEXT, dd.HOYER): with_alpha,
            ("cells, alpha 0", dd.TEXT, dd.HOYER): [0.7, 0.9],
        }
        (row,) = [row for row in dd.summarise(_table(values)) if " - alpha 0" in row.setting]
        return row.explanation

    assert "not tested" in why([0.5, 0.7])
    assert "perhaps" not in why([0.5, 1.1])
    assert "perhaps" not in why([0.5])


def test_every_row_says_why_it_does_not_agree() -> None:
    values = {**_divergences(9, 3, 4, 1), ("cells, alpha 0", dd.TEXT, dd.HOYER): [0.7, 0.9]}
    for row in dd.summarise(_table(values)):
        assert row.paper == EXPERIMENTS[dd.NAME].paper
        assert row.explanation or row.agrees != "no"


def test_the_quick_pinwheel_measures_and_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dd, "_WEIGHTS", ((0.0, 0.0), (0.0, 1.0)))
    outcome = dd.run("pinwheel", Scale(quick=True))
    assert {one.model for one in outcome.measurements} == {"alpha 0", "alpha 1"}
    assert {one.metric for one in outcome.measurements} == {dd.DIVERGENCE, dd.OVERLAP, dd.ERROR, dd.PURITY}
    assert np.isfinite([one.value for one in outcome.measurements]).all()
    assert outcome.samples is not None
    assert len(outcome.samples) == 800
    dd.draw(outcome.samples, tmp_path / "dd.svg")
    assert "<svg" in (tmp_path / "dd.svg").read_text()[:500]


def test_the_quick_shapes_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dd, "_BETAS", (1.0,))
    monkeypatch.setattr(dd, "_NUS", (3.0,))
    outcome = dd.run("shapes", Scale(quick=True))
    scores = [one.value for one in outcome.measurements if one.metric == dd.SCORE]
    losses = [one.value for one in outcome.measurements if one.metric == dd.LOSS]
    assert len(scores) == len(losses) == 4
    assert len([one for one in outcome.measurements if one.metric == dd.MAPPED_SCORE]) == 1
    assert 0 <= min(scores) <= max(scores) <= 1
    assert min(losses) > 0
