"""What may be said of a run, in sentences, computed from its tables.

A sentence claims nothing that its numbers do not carry: a difference is one only beyond its
uncertainty, stability is agreement on other cells and never between seeds, and an MCC that a random rotation
reaches is no disentanglement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from latentree.report.inputs import Inputs

SIGNIFICANT = 0.05
STABILITY = "Stability"
"""Topic of what says whether factors come back."""
_ROTATIONS = ("varimax", "varimax_start")
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
    """Which factors other cells give back, beside the references; then the seeds, which carry no claim."""
    said = _other_cells(stability)
    levels = agreements(stability, "seeds")
    if not levels:
        return [*said, Verdict(STABILITY, "Agreement between seeds is not known: it needs two seeds.")]
    text = f"Between seeds, on the same cells: {_listed(levels)}."
    models = dict.fromkeys(model for model, _ in levels)
    same = [m for m in models if _starts_alike(m, config, [a for (o, _), a in levels.items() if o == m])]
    if same:
        text += (
            f" Where the seed changes little or nothing, fits agree by construction: {', '.join(same)}. "
            "Such agreement says nothing about other cells of the same tissue."
        )
    return [*said, Verdict(STABILITY, text, "caution" if same else "finding")]


def agreements(stability: pd.DataFrame, comparison: str) -> dict[tuple[str, int], float]:
    """Mean agreement by (model, n_factors), where it was measured."""
    rows = stability[(stability["factor"].astype(str) == "all") & (stability["comparison"] == comparison)]
    rows = rows.dropna(subset="agreement")
    keys = zip(rows["model"].astype(str), rows["n_factors"].astype(int), strict=True)
    return dict(zip(keys, rows["agreement"].astype(float), strict=True))


def judged_by(stability: pd.DataFrame) -> Literal["halves", "resamples"] | None:
    """The comparison on other cells that claims rest on: halves, which share no cell, where there are any."""
    if agreements(stability, "halves"):
        return "halves"
    return "resamples" if agreements(stability, "resamples") else None


def _other_cells(stability: pd.DataFrame) -> list[Verdict]:
    comparison = judged_by(stability)
    if comparison is None:
        text = (
            "Whether other cells would give the same factors is not known: no model was fitted to other "
            "cells (config key downstream.stability)."
        )
        return [Verdict(STABILITY, text, "caution")]
    said = []
    if comparison == "halves":
        donors = " (whole donors)" if "whole donors" in _note(stability, "halves") else ""
        text = f"Between fits on disjoint halves of the training cells{donors}"
        text += ", mean |correlation| of matched factors on test cells"
        said.append(Verdict(STABILITY, f"{text}: {_beside_references(stability, 'halves')}."))
    if agreements(stability, "resamples"):
        text = "Between fits on resampled cells, which have most cells in common"
        said.append(Verdict(STABILITY, f"{text}: {_beside_references(stability, 'resamples')}."))
    said += _against_varimax(stability, comparison)
    return said


def _against_varimax(stability: pd.DataFrame, comparison: str) -> list[Verdict]:
    """Which models' factors come back better than rotated components, beyond two standard errors.

    By the factors' own rows, followed from the full fit: where factors of one fit resemble each other, those
    of two fits match well whichever of them they are.
    """
    factors = _factors(stability, comparison)
    better: list[str] = []
    alike: list[str] = []
    for model, k in factors:
        rotated = [(name, k) for name in _ROTATIONS if (name, k) in factors]
        if model in ("pca", *_ROTATIONS) or not rotated:
            continue
        best = max(rotated, key=lambda key: factors[key].mean())
        difference = factors[model, k].mean() - factors[best].mean()
        spread = sum(values.var(ddof=1) / len(values) for values in (factors[model, k], factors[best]))
        margin = 2 * float(np.sqrt(spread))
        known = f"two standard errors {margin:.2f}" if np.isfinite(margin) else "uncertainty not known"
        # a margin that is not known counts as not passed
        (better if difference > margin else alike).append(f"{fit_name(model, k)} {difference:+.2f} ({known})")
    said = []
    beside = "the better of the varimax rotations, which need no model"
    if better:
        said.append(f"Other cells give these factors back better than {beside}: {', '.join(better)}.")
    if alike:
        said.append(f"Given back no better than {beside}: {', '.join(alike)}.")
    return [Verdict(STABILITY, text) for text in said]


def _factors(stability: pd.DataFrame, comparison: str) -> dict[tuple[str, int], pd.Series]:
    """Agreement of each factor, by its name, by (model, n_factors)."""
    rows = stability[(stability["factor"].astype(str) != "all") & (stability["comparison"] == comparison)]
    rows = rows.dropna(subset="agreement")
    return {
        (str(model), int(str(k))): mine.set_index("factor")["agreement"].astype(float)
        for (model, k), mine in rows.groupby(["model", "n_factors"], sort=False)
    }


def is_reference(stability: pd.DataFrame, key: tuple[str, int]) -> bool:
    """Whether a model with so many factors is none of the config's and stands there for comparison."""
    mine = (stability["model"] == key[0]) & (stability["n_factors"] == key[1])
    return bool((stability.loc[mine, "reference_seed"].astype(str) == "none").all())


def _note(stability: pd.DataFrame, comparison: str) -> str:
    return " ".join(stability.loc[stability["comparison"] == comparison, "note"].astype(str).unique())


def names_or_count(names: Sequence[str], n_factors: int) -> str:
    """The factors by name, or how many where they are many."""
    return ", ".join(names) if len(names) <= 4 else f"{len(names)} of {n_factors}"


def _beside_references(stability: pd.DataFrame, comparison: str) -> str:
    """Mean agreement of the config's models, then of the references."""
    levels = agreements(stability, comparison)
    references = {key: level for key, level in levels.items() if is_reference(stability, key)}
    models = {key: level for key, level in levels.items() if key not in references}
    said = [_listed(models)] * bool(models) + [f"references {_listed(references)}"] * bool(references)
    return "; ".join(said)


def _listed(levels: Mapping[tuple[str, int], float]) -> str:
    return ", ".join(f"{fit_name(model, k)} {level:.2f}" for (model, k), level in levels.items())


def _starts_alike(model: str, config: Mapping[str, Any], agreements: list[float]) -> bool:
    settings = config["models"].get(model) or {}
    return model == "pca" or settings.get("start", "random") != "random" or min(agreements) >= _REPEATED


def enrichment_verdicts(inputs: Inputs, fits: Sequence[tuple[str, int]]) -> list[Verdict]:
    """How many consensus factors have a gene set, and how many sets are found beside permuted genes."""
    topic = "Gene sets"
    # by over-representation, whose control has the more permutations
    table = inputs.enrichment[inputs.enrichment["method"] == "ora"]
    if not inputs.gene_sets_given:
        text = "No gene set was tested: the config gives none for this atlas (key gene_sets)."
        return [Verdict(topic, text, "caution")]
    if table.empty:
        # the last sentence says how many were tested, or why none was
        text = f"No tested gene set shares a gene with any factor: {inputs.enrichment_notes[-1]}."
        return [Verdict(topic, text, "caution")]
    rows = table[table["q_value"] < SIGNIFICANT]
    if rows.empty:
        return [Verdict(topic, f"Gene sets were tested, but no factor has one at q < {SIGNIFICANT:g}.")]
    named = []
    for model, k in fits:
        mine = rows[(rows["model"] == model) & (rows["n_factors"] == k)]
        named.append(f"{fit_name(model, k)} {mine['factor'].nunique()} of {k}")
    text = f"Factors with at least one gene set at q < {SIGNIFICANT:g}: {', '.join(named)}."
    return [Verdict(topic, text), *_beside_permuted(inputs.enrichment_summary, fits)]


def _beside_permuted(summary: pd.DataFrame, fits: Sequence[tuple[str, int]]) -> list[Verdict]:
    """Numbers of sets beside those that the same genes under permuted names give."""
    rows = summary[summary["method"] == "ora"]
    keys = zip(rows["model"], rows["n_factors"].astype(int), strict=True)
    by_fit = dict(zip(keys, rows.to_dict("records"), strict=True))
    listed: list[str] = []
    chance: list[str] = []
    for fit in fits:
        if fit not in by_fit:
            continue
        row = by_fit[fit]
        beside = f"{fit_name(*fit)} {row['n_enriched']} beside {row['control_mean']:.1f}"
        (listed if row["n_enriched"] > row["control_max"] else chance).append(beside)
    said = []
    if listed:
        text = "Gene sets found, beside the mean number with permuted genes (over-representation): "
        said.append(Verdict("Gene sets", f"{text}{', '.join(listed)}."))
    if chance:
        text = f"No more gene sets than permuted genes reach: {', '.join(chance)} (mean). They name nothing."
        said.append(Verdict("Gene sets", text, "caution"))
    return said
