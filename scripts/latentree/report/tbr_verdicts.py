"""What may be said of tree-based regularisation, in sentences, computed from its tables."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from latentree.plots.tbr_tree import excludes_zero, shown_estimator, shown_fit
from latentree.report.tbr_tables import warnings
from latentree.report.verdicts import Verdict

_LITTLE = 0.05
"""A tree that lowers the baseline's error by less than this share adds little."""


def tbr_sentences(tbr: pd.DataFrame | None, more: Mapping[str, pd.DataFrame]) -> dict[str, list[Verdict]]:
    """All sentences about the stage by topic; empty where it did not run.

    Parameters
    ----------
    tbr
        tables/tbr.tsv.
    more
        The stage's other tables by their names.
    """
    if tbr is None:
        return {}
    changes = more.get("tbr_changes")
    by_topic: dict[str, list[Verdict]] = {}
    known = more.get("tbr_identifiability")
    said = tbr_verdicts(tbr) if changes is None else measured_verdicts(tbr, changes, known)
    for verdict in said:
        by_topic.setdefault(verdict.topic, []).append(verdict)
    return by_topic


def measured_verdicts(tbr: pd.DataFrame, changes: pd.DataFrame, known: pd.DataFrame | None) -> list[Verdict]:
    """A measured phenotype: what limits the result, then how well it is predicted, then what changes."""
    topic = f"TBR, {tbr['phenotype'].iloc[0]}"
    said = [Verdict(topic, f"{text}.", "caution") for text in (() if known is None else warnings(known))]
    better = _better_than_baseline(tbr, shown_estimator(tbr)) if len(tbr) else False
    said += _measured_prediction(topic, tbr, better)
    return [*said, *_changes_found(topic, changes, better)]


def _error(tbr: pd.DataFrame) -> str:
    return "log_loss" if (tbr["metric"] == "log_loss").any() else "nmse"


def _better_than_baseline(tbr: pd.DataFrame, estimator: str) -> bool:
    """Whether an estimator's error is clearly below the baseline's; an unknown error counts as not."""
    metric = _error(tbr)
    own = _by_estimator(tbr, metric).get(estimator, np.nan)
    return bool(own < (1 - _LITTLE) * _level(tbr, f"{metric}_baseline"))


def _measured_prediction(topic: str, tbr: pd.DataFrame, better: bool) -> list[Verdict]:
    """The phenotype's error on test cells beside the baseline's and that of the cell type alone."""
    metric = _error(tbr)
    name = "log loss" if metric == "log_loss" else "NMSE"
    found = _by_estimator(tbr, metric)
    if not found:
        return []
    baseline, types = _level(tbr, f"{metric}_baseline"), _level(tbr, f"{metric}_types")
    text = f"Prediction on test cells, {name}: " + ", ".join(f"{e} {value:.3g}" for e, value in found.items())
    if "baseline" not in found and np.isfinite(baseline):
        text += f"; baseline without a tree {baseline:.3g}"
    text += f"; the cell type alone {types:.3g}."
    # written so that a level that is not known counts as not passed
    if not min(found.values()) < types:
        text += " No better than the cell type alone: the latents say nothing about this phenotype."
        return [Verdict(topic, text, "caution")]
    said = [Verdict(topic, text)]
    shown = shown_estimator(tbr)
    if shown != "baseline" and not better:
        said.append(
            Verdict(
                topic,
                f"{shown} predicts no better than one set of effects for all cell types (by more than"
                f" {_LITTLE:.0%}): these cells do not show that effects differ between types.",
                "caution",
            )
        )
    return said


def _changes_found(topic: str, changes: pd.DataFrame, better: bool) -> list[Verdict]:
    """How many effects change, and for how many the interval excludes 0."""
    fit = shown_fit(changes)
    if fit.empty or set(fit["estimator"]) == {"baseline"}:
        return []
    found = fit[fit["change"] != 0]
    name = f"{fit['estimator'].iloc[0]}, seed {fit['seed'].iloc[0]}"
    if found.empty:
        return [Verdict(topic, f"No effect changes on any branch ({name}).")]
    text = f"Effects change {len(found)} time(s), on {found['branch'].nunique()} branch(es) ({name})"
    if fit["lower"].isna().all():
        text += "; no interval was drawn, so none of them is known to be real."
        return [Verdict(topic, text, "caution")]
    sure = found[excludes_zero(found)]
    named = [
        f"{row.latent} to {row.branch} {row.change:+.2g}".replace("-", "\u2212") for row in sure.itertuples()
    ]
    listed = f": {', '.join(named[:5])}" + (" and more" if len(named) > 5 else "") if named else ""
    text += f"; the interval over {fit['bootstrap_unit'].iloc[0]} excludes 0 for {len(sure)} of them{listed}."
    if not better:
        text += " Since the fit predicts no better for them, they are no evidence of a difference."
    return [Verdict(topic, text, "finding" if len(sure) and better else "caution")]


def tbr_verdicts(tbr: pd.DataFrame) -> list[Verdict]:
    """For each kind of phenotype: latents found or not, and the phenotype predicted or not."""
    said = []
    for (n_latents, n_changes), rows in tbr.groupby(["n_latents", "n_changes"], sort=False):
        changes = "change" if str(n_changes) == "1" else "changes"
        topic = f"TBR, {n_latents} latents, {n_changes} {changes} per branch"
        said += _latents_found(topic, rows, control=str(n_changes) == "0")
        said += _phenotype_predicted(topic, rows)
    return said


def _latents_found(topic: str, rows: pd.DataFrame, *, control: bool) -> list[Verdict]:
    """MCC beside its chance level and span R²; a control without changes has nothing to find."""
    mcc, span = _by_estimator(rows, "mcc"), _by_estimator(rows, "span_r2")
    if not mcc:
        return []
    chance, chance_95 = _level(rows, "mcc_chance"), _level(rows, "mcc_chance_95")
    listed = ", ".join(
        f"{name} {value:.2f}" + (f" (span R² {span[name]:.2f})" if name in span else "")
        for name, value in mcc.items()
    )
    text = f"MCC with the true latents: {listed}; chance {chance:.2f}, its 95th percentile {chance_95:.2f}."
    if control:
        text += " With no change on any branch latents cannot be told apart: this is the control."
        return [Verdict(topic, text)]
    winners = [name for name, value in mcc.items() if value > chance_95]
    if winners:
        return [Verdict(topic, f"{text} Above chance: {', '.join(winners)}.")]
    # written so that a chance level that is not known counts as not passed
    if max(mcc.values()) > chance:
        text += " Not above what a random rotation often reaches: no claim of disentanglement."
    else:
        text += " Not above chance: these numbers carry no claim of disentanglement."
    return [Verdict(topic, text, "caution")]


def _phenotype_predicted(topic: str, rows: pd.DataFrame) -> list[Verdict]:
    """NMSE of the estimators beside the baseline and the noise floor."""
    nmse = _by_estimator(rows, "nmse")
    if not nmse:
        return []
    text = "Phenotype NMSE: " + ", ".join(f"{name} {value:.3g}" for name, value in nmse.items())
    baseline, floor = _level(rows, "nmse_baseline"), _level(rows, "nmse_floor")
    if "baseline" not in nmse and np.isfinite(baseline):
        text += f"; baseline without a tree {baseline:.3g}"
    if np.isfinite(floor):
        text += f"; noise floor {floor:.3g}"
    return [Verdict(topic, text + ".")]


def _by_estimator(rows: pd.DataFrame, metric: str) -> dict[str, float]:
    """Means of one metric over seeds by estimator; empty where it was not measured."""
    mine = rows[rows["metric"] == metric].dropna(subset="value")
    return {
        str(name): float(values.mean()) for name, values in mine.groupby("estimator", sort=False)["value"]
    }


def _level(rows: pd.DataFrame, metric: str) -> float:
    """Mean of a reference level over all its rows; NaN where there is none."""
    return float(rows.loc[rows["metric"] == metric, "value"].mean())
