"""What may be said of a run, in sentences, computed from its tables.

A sentence claims nothing that its numbers do not carry: a difference is one only beyond its
uncertainty, agreement is no stability where every fit starts alike, and an MCC that a random rotation
reaches is no disentanglement.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from latentree.report.facts import n_test_cells
from latentree.report.inputs import Inputs

SIGNIFICANT = 0.05
_REFERENCES = ("majority", "chance")
_REPEATED = 0.995  # agreement beyond this is that of one fit repeated, not of independent ones


@dataclass(frozen=True)
class Verdict:
    """One sentence or two; a caution is something not to believe or not to hope for."""

    topic: str
    text: str
    kind: Literal["finding", "caution"] = "finding"


@dataclass(frozen=True)
class Score:
    """Accuracy of one model over its seeds; ``sd`` is NaN for a single seed."""

    model: str
    n_factors: int
    mean: float
    sd: float
    n_seeds: int

    @property
    def name(self) -> str:
        return fit_name(self.model, self.n_factors)


def fit_name(model: object, n_factors: object) -> str:
    """``pca (k = 10)``, with spaces at which no line breaks."""
    return f"{model} (k\u00a0=\u00a0{n_factors})"


def verdicts(inputs: Inputs, config: Mapping[str, Any], first_seed: int) -> dict[str, list[Verdict]]:
    """All sentences about a run by topic, in the order of the page."""
    by_topic: dict[str, list[Verdict]] = {}
    for verdict in [
        *accuracy_verdicts(inputs.metrics, n_test_cells(inputs.qc)),
        *stability_verdicts(inputs.stability, config),
        *enrichment_verdicts(inputs, first_seed),
        *(tbr_verdicts(inputs.tbr) if inputs.tbr is not None else []),
    ]:
        by_topic.setdefault(verdict.topic, []).append(verdict)
    return by_topic


def scores(metrics: pd.DataFrame, metric: str = "accuracy") -> list[Score]:
    """Test scores of every model and number of factors, references by majority and chance included."""
    rows = metrics[(metrics["metric"] == metric) & (metrics["split"] == "test")].dropna(subset="value")
    return [
        Score(str(model), int(str(k)), float(values.mean()), float(values.std(ddof=1)), len(values))
        for (model, k), values in rows.groupby(["model", "n_factors"], sort=False)["value"]
    ]


def uncertainty(one: Score, other: Score, n_cells: int | None) -> float:
    """Two standard errors of the difference of two accuracies.

    From the spread over seeds, and from the number of test cells as if the two had been scored on
    different cells: at least as wide as it should be, since they were scored on the same.
    """
    variance = sum(score.sd**2 / score.n_seeds for score in (one, other) if score.n_seeds > 1)
    if n_cells:
        variance += sum(score.mean * (1 - score.mean) / n_cells for score in (one, other))
    return 2 * float(np.sqrt(variance))


def accuracy_verdicts(metrics: pd.DataFrame, n_cells: int | None) -> list[Verdict]:
    """The best model beside PCA and the majority class, and the models that are below PCA."""
    measured = scores(metrics)
    models = [score for score in measured if score.model not in _REFERENCES]
    if not models:
        return [Verdict("Cell types", "No accuracy was measured.", "caution")]
    best = max(models, key=lambda score: score.mean)
    said = [_best_model(best, measured, n_cells)]
    pca = _pca_like(best, measured)
    if pca is not None and best is not pca:
        said.append(_against_pca(best, pca, n_cells))
    elif pca is not None:
        said.append(Verdict("Cell types", "No model tells cell types apart better than PCA."))
    below = []
    for score in models:
        reference = _pca_like(score, measured)
        if reference is not None and reference.mean - score.mean > uncertainty(score, reference, n_cells):
            below.append(f"{score.name} {score.mean:.3f}")
    if below:
        text = f"Below PCA by more than the uncertainty: {', '.join(below)}."
        said.append(Verdict("Cell types", text, "caution"))
    return said


def _best_model(best: Score, measured: list[Score], n_cells: int | None) -> Verdict:
    cells = f"{n_cells:,} test cells" if n_cells else "test cells"
    if best.n_seeds > 1:
        spread = f"sd {best.sd:.3f} over {best.n_seeds} seeds"
    else:
        spread = "one seed, so the spread over seeds is not known"
    text = f"The best accuracy on {cells} is {best.mean:.3f} by {best.name}; {spread}."
    majority = next((score for score in measured if score.model == "majority"), None)
    if majority is None:
        return Verdict("Cell types", text)
    text += f" Always naming the largest type gives {majority.mean:.3f}."
    hopeless = best.mean - majority.mean <= uncertainty(best, majority, n_cells)
    return Verdict("Cell types", text, "caution" if hopeless else "finding")


def _pca_like(score: Score, measured: list[Score]) -> Score | None:
    """PCA with as many factors, or the best PCA where there is none such."""
    references = [other for other in measured if other.model == "pca"]
    alike = [other for other in references if other.n_factors == score.n_factors]
    return max(alike or references, key=lambda other: other.mean, default=None)


def _against_pca(best: Score, pca: Score, n_cells: int | None) -> Verdict:
    difference, margin = best.mean - pca.mean, uncertainty(best, pca, n_cells)
    basis = "seeds and test cells" if n_cells else "seeds"
    beside = f"{pca.name} reaches {pca.mean:.3f}; the difference is {difference:+.3f}"
    if margin == 0:
        text = f"{beside}, with unknown uncertainty. This is no evidence of being above PCA."
    elif difference > margin:
        text = f"This is above PCA: {beside}, and two standard errors ({basis}) are {margin:.3f}."
    else:
        text = f"This is not above PCA: {beside}, within two standard errors ({basis}) of {margin:.3f}."
    return Verdict("Cell types", text)


def stability_verdicts(stability: pd.DataFrame, config: Mapping[str, Any]) -> list[Verdict]:
    """Agreement of factors between seeds, and for which models it means nothing."""
    topic = "Seeds"
    rows = stability[(stability["factor"].astype(str) == "all") & (stability["comparison"] == "seeds")]
    rows = rows.dropna(subset="agreement")
    if rows.empty:
        return [
            Verdict(topic, "Agreement between seeds is not known: it needs two seeds at least.", "caution")
        ]
    columns = zip(rows["model"], rows["n_factors"], rows["agreement"], strict=True)
    listed = [(str(model), fit_name(model, k), float(agreement)) for model, k, agreement in columns]
    levels = ", ".join(f"{name} {agreement:.2f}" for _, name, agreement in listed)
    said = [Verdict(topic, f"Mean agreement of matched factors between seeds, |correlation|: {levels}.")]
    models = dict.fromkeys(model for model, _, _ in listed)
    same = [m for m in models if _starts_alike(m, config, [a for other, _, a in listed if other == m])]
    if same:
        text = (
            f"Where the seed changes little or nothing, fits agree by construction: {', '.join(same)}. "
            "Such agreement says nothing about other cells of the same tissue."
        )
        said.append(Verdict(topic, text, "caution"))
    return said


def _starts_alike(model: str, config: Mapping[str, Any], agreements: list[float]) -> bool:
    settings = config["models"].get(model) or {}
    return model == "pca" or settings.get("start") == "varimax" or min(agreements) >= _REPEATED


def enrichment_verdicts(inputs: Inputs, first_seed: int) -> list[Verdict]:
    """How many factors of each model have a gene set, first seed."""
    topic = "Gene sets"
    table = inputs.enrichment
    if not inputs.gene_sets_given:
        text = "No gene set was tested: the config gives none for this atlas (key gene_sets)."
        return [Verdict(topic, text, "caution")]
    if table.empty:
        # the last sentence says how many were tested, or why none was
        text = f"No tested gene set shares a gene with any factor: {inputs.enrichment_notes[-1]}."
        return [Verdict(topic, text, "caution")]
    rows = table[(table["seed"].astype(str) == str(first_seed)) & (table["q_value"] < SIGNIFICANT)]
    if rows.empty:
        text = f"Gene sets were tested, but no factor has one at q < {SIGNIFICANT:g} (seed {first_seed})."
        return [Verdict(topic, text)]
    named = []
    for model, k in inputs.fits:
        mine = rows[(rows["model"] == model) & (rows["n_factors"] == k)]
        named.append(f"{model} {mine['factor'].nunique()} of {k}")
    text = (
        f"Factors with at least one gene set at q < {SIGNIFICANT:g} (seed {first_seed}): {', '.join(named)}."
    )
    return [Verdict(topic, text)]


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
