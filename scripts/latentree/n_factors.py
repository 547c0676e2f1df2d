"""Which number of factors K a model should have: held-out fit, stability, enrichment, live factors.

The rule, for each model: candidates are the numbers of factors whose fits to disjoint halves of the cells
agree no more than .05 less than those of PCA or its varimax rotation, whichever is better, with as many
factors; all of them where there are no such refits or none agrees so well. Of these the smallest is
recommended whose held-out fit lies within the tolerance of the best: one standard error over seeds, but at
least 5% of what the best gains on the smallest number of the grid (seeds may hardly differ, and then their
error says nothing). The fit is judged on validation cells, because test cells are kept for scoring, and
labels play no part.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from latentree.seeds import CONSENSUS

N_FACTORS_COLUMNS = [
    "model",
    "n_factors",
    "n_seeds",
    "fit_metric",
    "held_out_mean",
    "held_out_sd",
    "score",
    "stability_halves",
    "reference_halves",
    "stability_seeds",
    "alive_factors",
    "stable_factors",
    "enriched_share",
    "recommended",
    "note",
]
TOLERANCE = 0.05
"""Share of the held-out gain over the grid that a smaller number of factors may lack, and what agreement
between halves may lie below the reference's."""
_FIT_METRICS = ("log_likelihood", "r2")
_SPLITS = ("validation", "test")
_REFERENCES = ("pca", "varimax")
_SIGNIFICANT = 0.05


def n_factors_table(
    fits: Sequence[tuple[str, int]],
    metrics: pd.DataFrame,
    stability: pd.DataFrame,
    consensus: pd.DataFrame,
    enrichment: pd.DataFrame,
) -> pd.DataFrame:
    """n_factors.tsv from the other tables.

    Parameters
    ----------
    fits
        Model and number of factors of every fit of the config.
    metrics, stability, consensus, enrichment
        The tables of the same names.

    Returns
    -------
    Columns ``N_FACTORS_COLUMNS``, sorted by model and n_factors. ``score`` is the share of the held-out gain
    over the grid that is reached; ``recommended`` is ``yes`` for one row of a model with several.
    """
    rows = []
    for model in sorted({model for model, _ in fits}):
        numbers = sorted({k for name, k in fits if name == model})
        of_model = metrics[(metrics["model"] == model) & (metrics["seed"].astype(str) != CONSENSUS)]
        metric, split = _fit_metric(of_model, numbers)
        for k in numbers:
            mine = of_model[of_model["n_factors"] == k]
            held_out = mine.loc[(mine["metric"] == metric) & (mine["split"] == split), "value"]
            together = consensus[
                (consensus["model"] == model) & (consensus["n_factors"] == k) & (consensus["factor"] == "all")
            ]
            alive = mine.loc[mine["metric"] == "alive_factors", "value"].mean()
            rows.append(
                {
                    "model": model,
                    "n_factors": k,
                    "n_seeds": len(held_out),
                    "fit_metric": f"{metric} ({split})" if metric else "",
                    "held_out_mean": held_out.mean(),
                    "held_out_sd": held_out.std(ddof=1),
                    "stability_halves": _halves(stability, model, k),
                    "reference_halves": _reference(stability, k),
                    "stability_seeds": together["half_agreement"].mean(),
                    "alive_factors": alive,
                    "stable_factors": _n_stable(consensus, model, k),
                    "enriched_share": _enriched_share(enrichment, model, k, mine, alive),
                }
            )
    if not rows:
        return pd.DataFrame(columns=N_FACTORS_COLUMNS)
    table = pd.DataFrame(rows)
    parts = [_judged(part.reset_index(drop=True)) for _, part in table.groupby("model", sort=False)]
    return pd.concat(parts, ignore_index=True)[N_FACTORS_COLUMNS]


def _fit_metric(of_model: pd.DataFrame, numbers: Sequence[int]) -> tuple[str, str]:
    """The first metric and split that every number of factors has; empty where there is none."""
    for split in _SPLITS:
        for metric in _FIT_METRICS:
            found = of_model[(of_model["metric"] == metric) & (of_model["split"] == split)]
            if set(numbers) <= set(found["n_factors"]):
                return metric, split
    return "", ""


def _halves(stability: pd.DataFrame, model: str, k: int) -> float:
    chosen = (stability["model"] == model) & (stability["n_factors"] == k) & (stability["factor"] == "all")
    return float(stability.loc[chosen & (stability["comparison"] == "halves"), "agreement"].mean())


def _reference(stability: pd.DataFrame, k: int) -> float:
    """Agreement of the better reference between halves; nan where there is none."""
    found = [_halves(stability, name, k) for name in _REFERENCES]
    return float(np.nanmax(found)) if np.isfinite(found).any() else np.nan


def _n_stable(consensus: pd.DataFrame, model: str, k: int) -> float:
    """Number of stable consensus factors; nan where of none it is known."""
    chosen = (consensus["model"] == model) & (consensus["n_factors"] == k)
    chosen &= consensus["factor"].str.startswith("f")
    stable = consensus.loc[chosen, "stable"]
    return float((stable == "yes").sum()) if (stable != "unknown").any() else np.nan


def _enriched_share(enrichment: pd.DataFrame, model: str, k: int, mine: pd.DataFrame, alive: float) -> float:
    """Share of the live factors of all seeds with a set at q < .05; nan where no set was tested at all."""
    if enrichment.empty or not alive > 0:
        return np.nan
    seeds = set(mine["seed"].astype(str))
    chosen = (enrichment["model"] == model) & (enrichment["n_factors"] == k)
    chosen &= enrichment["seed"].astype(str).isin(seeds) & (enrichment["method"] == "ora")
    found = enrichment[chosen & (enrichment["q_value"] < _SIGNIFICANT)]
    return float(len(found[["seed", "factor"]].drop_duplicates()) / (len(seeds) * alive))


def _judged(part: pd.DataFrame) -> pd.DataFrame:
    """Score, recommendation and notes of one model's rows, sorted by n_factors."""
    notes = [""] * len(part)
    score = np.full(len(part), np.nan)
    recommended = [""] * len(part)
    means = part["held_out_mean"].to_numpy()
    if len(part) == 1:
        notes[0] = "one number of factors only: there is nothing to choose from"
    elif not np.isfinite(means).all():
        notes[-1] = "held-out fit is not known for every number of factors: none is recommended"
    else:
        candidates, remark = _candidates(part)
        best = int(candidates[means[candidates].argmax()])
        gain = float(means.max() - means[0])
        score = (
            np.clip((means - means[0]) / gain, 0, 1) if gain > 0 else np.where(means == means.max(), 1.0, 0)
        )
        error = part["held_out_sd"][best] / np.sqrt(part["n_seeds"][best])
        tolerance = max(np.nan_to_num(error), TOLERANCE * max(means[best] - means[0], 0))
        chosen = int(candidates[means[candidates] >= means[best] - tolerance][0])
        recommended[chosen] = "yes"
        notes[chosen] = "; ".join(filter(None, (remark, _own_count(part.iloc[-1]))))
        if chosen == len(part) - 1:
            notes[chosen] += "; the largest of the grid: more may be better"
        notes[chosen] = notes[chosen].removeprefix("; ")
    return part.assign(score=score, recommended=recommended, note=notes)


def _candidates(part: pd.DataFrame) -> tuple[np.ndarray, str]:
    """Indices of the rows that are stable enough, and what to say where that cannot be asked."""
    everything = np.arange(len(part))
    both = part[["stability_halves", "reference_halves"]].notna().all(axis=1).to_numpy()
    if not both.all():
        return everything, "by held-out fit alone: there are no refits to halves of the cells"
    enough = np.flatnonzero(part["stability_halves"] >= part["reference_halves"] - TOLERANCE)
    if not len(enough):
        return everything, "by held-out fit alone: no number of factors is as stable as PCA or varimax"
    return enough, ""


def _own_count(largest: pd.Series) -> str:
    """How many factors the model itself keeps where it has the most of them."""
    words = f"with {largest['n_factors']} factors {largest['alive_factors']:g} are alive"
    stable = largest["stable_factors"]
    return words if np.isnan(stable) else f"{words}, {stable:g} of them stable"
