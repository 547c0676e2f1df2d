"""Tables as they are shown: few columns, rounded, with their reference rows."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from latentree.report.shown import NO_VALUE, Cell, Table, mean_and_sd, number_cell
from latentree.report.verdicts import is_reference, judged_by

_SCORES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "ari": "ARI",
    "nmi": "NMI",
    "silhouette": "silhouette",
    "smi": "SMI",
    "smi_chance": "SMI, chance",
    "latent_hoyer": "Hoyer, latents",
    "batch_mixing": "batch mixing",
}
_FITS = {
    "r2": "R², held out",
    "r2_scaled": "R², genes scaled",
    "log_likelihood": "log p per cell",
    "hoyer": "Hoyer, loadings",
    "zeros": "exact zeros",
    "active_genes": "active genes",
    "alive_factors": "alive factors",
}
_ONE_DIGIT = ("active_genes", "alive_factors", "log_likelihood")
_REFERENCES = {"majority": "majority (reference)", "chance": "chance (reference)"}
_COMPARISONS = {"halves": "halves", "resamples": "resamples", "seeds": "seeds"}


def score_table(metrics: pd.DataFrame) -> Table:
    """Every model and reference by what its latents say of the test cells."""
    words = (
        "Latents on test cells, mean ± sd over seeds; no ± for a single seed or where all seeds agree. "
        "PCA, NMF, majority and chance are the references. SMI: how far single factors tell single types."
    )
    if (metrics["metric"] == "batch_mixing").any():
        words += " Batch mixing: 1 as by chance within a type, 0 apart."
    return _by_model(metrics, _SCORES, words)


def fit_table(metrics: pd.DataFrame) -> Table:
    """Every model by how it fits held-out cells, and how sparse it is."""
    words = (
        "Fit and sparsity, mean ± sd over seeds. log p (nats) compares models of the same values only: "
        "counts and logarithms do not share a unit."
    )
    return _by_model(metrics[~metrics["model"].isin(list(_REFERENCES))], _FITS, words)


def _by_model(metrics: pd.DataFrame, names: Mapping[str, str], words: str) -> Table:
    """A row per model and number of factors, a column per metric that is there."""
    shown = metrics[metrics["split"].isin(["test", "none"]) & metrics["metric"].isin(list(names))]
    columns = [name for name in names if (shown["metric"] == name).any()]
    groups = list(shown.groupby(["model", "n_factors"], sort=False))
    groups.sort(key=lambda item: item[0][0] in _REFERENCES)
    rows = []
    for (model, k), mine in groups:
        cells = [
            mean_and_sd(mine.loc[mine["metric"] == name, "value"], 1 if name in _ONE_DIGIT else 3)
            for name in columns
        ]
        name = str(model)
        rows.append((_REFERENCES.get(name, name), NO_VALUE if name in _REFERENCES else str(k), *cells))
    return Table(
        words,
        ("model", "k", *(names[name] for name in columns)),
        tuple(rows),
        n_labels=2,
    )


def stability_table(stability: pd.DataFrame) -> Table:
    """Mean agreement of every model and reference by comparison, and the lowest factor on other cells."""
    columns = [name for name in _COMPARISONS if (stability["comparison"] == name).any()]
    judge = judged_by(stability)
    rows = []
    for (model, k), mine in stability.groupby(["model", "n_factors"], sort=False):
        overall = mine["factor"].astype(str) == "all"
        cells = [
            mean_and_sd(mine.loc[overall & (mine["comparison"] == name), "agreement"]) for name in columns
        ]
        factors = mine[~overall & (mine["comparison"] == judge)].dropna(subset="agreement")
        factors = factors.sort_values("agreement", kind="stable")
        lowest = Cell(NO_VALUE)
        if len(factors):
            value = float(factors["agreement"].iloc[0])
            lowest = Cell(f"{value:.3f} ({factors['factor'].iloc[0]})", value)
        name = f"{model} (reference)" if is_reference(stability, (str(model), int(str(k)))) else str(model)
        rows.append((name, str(k), *cells, *([lowest] if judge else [])))
    rows.sort(key=lambda row: row[0].endswith("(reference)"))
    return Table(
        "Agreement of matched factors, |correlation| on test cells, between fits. Halves have no training "
        "cell in common, resamples have most, seeds have all and agree by construction where the start does "
        "not depend on the seed.",
        ("model", "k", *(_COMPARISONS[name] for name in columns), *([f"lowest, {judge}"] if judge else [])),
        tuple(rows),
        n_labels=2,
    )


def consensus_table(consensus: pd.DataFrame) -> Table:
    """Every model's consensus over seeds: rows ``all`` of consensus.tsv, and how many factors are stable."""
    rows = []
    for (model, k), mine in consensus.groupby(["model", "n_factors"], sort=False):
        overall = mine[mine["factor"] == "all"].iloc[0]
        # those that n_factors leaves no place for are named x1, x2, ...
        live = mine[mine["factor"].str.startswith("f")]
        rows.append(
            (
                str(model),
                str(k),
                number_cell(overall["n_seeds"]),
                number_cell(len(live)),
                *(number_cell((live["stable"] == word).sum()) for word in ("yes", "unknown", "no")),
                *(
                    _three_digits(overall[name])
                    for name in (
                        "stability_mean",
                        "half_agreement",
                        "chance_95",
                        "halves_of_cells",
                        "pca_reference",
                    )
                ),
                str(overall["note"]),
            )
        )
    return Table(
        "Consensus of the seeds: factors that come back. Seeds: mean strength of the matches between them; "
        "halves of the seeds: of the consensus of one half with that of the other; chance: 95th percentile "
        "with genes and cells permuted; halves of the cells: of refits that share no cell, "
        "by loadings and scores, beside PCA's.",
        (
            "model",
            "k",
            "seeds run",
            "live factors",
            "stable",
            "unknown",
            "not stable",
            "seeds",
            "halves of the seeds",
            "chance",
            "halves of the cells",
            "PCA, halves of the cells",
            "note",
        ),
        tuple(rows),
        n_labels=2,
    )


def n_factors_table(table: pd.DataFrame) -> Table:
    """What speaks for each number of factors."""
    rows = tuple(
        (
            str(row["model"]),
            str(row["n_factors"]),
            str(row["recommended"]),
            _beside_sd(row["held_out_mean"], row["held_out_sd"]),
            str(row["fit_metric"]),
            *(
                _three_digits(row[name])
                for name in ("score", "stability_halves", "reference_halves", "stability_seeds")
            ),
            *(number_cell(row[name]) for name in ("alive_factors", "stable_factors", "enriched_share")),
            str(row["note"]),
        )
        for _, row in table.iterrows()
    )
    return Table(
        "Choice of the number of factors. Held-out fit: mean ± sd over seeds; gain: share of the best gain "
        "on the smallest number; halves: agreement of refits that share no cell, beside the better of PCA "
        "and varimax. The smallest number whose fit is as good as the best is recommended.",
        (
            "model",
            "k",
            "recommended",
            "held-out fit",
            "measured by",
            "gain",
            "halves",
            "halves, reference",
            "seeds",
            "live factors",
            "stable factors",
            "share with a gene set",
            "note",
        ),
        rows,
        n_labels=2,
    )


def enrichment_table(summary: pd.DataFrame) -> Table:
    """Numbers of enriched sets beside those that permuted genes give."""
    columns = ["n_factors_tested", "n_sets_tested", "n_enriched", "n_pairs_enriched"]
    columns += ["control_mean", "control_max", "n_permutations", "ratio"]
    rows = tuple(
        (
            str(row["model"]),
            str(row["n_factors"]),
            str(row["method"]),
            *(number_cell(row[name]) for name in columns),
        )
        for _, row in summary.iterrows()
    )
    return Table(
        "Gene sets at q < 0.05 in any factor, beside the number that the same test gives with the genes "
        "renamed at random. Ratio: sets over one more than the control's mean.",
        (
            "model",
            "k",
            "method",
            "factors tested",
            "sets tested",
            "sets found",
            "pairs of factor and set",
            "permuted, mean",
            "permuted, most",
            "permutations",
            "ratio",
        ),
        rows,
        n_labels=3,
    )


def _three_digits(value: Any) -> Cell:
    return number_cell(value, None if pd.isna(value) else f"{value:.3f}")


def _beside_sd(mean: float, sd: float) -> Cell:
    """A mean with its standard deviation, with as many digits as the deviation gives sense to."""
    if pd.isna(sd) or sd == 0:
        return number_cell(mean, None if pd.isna(mean) else f"{mean:.4g}")
    digits = max(0, 2 - len(str(int(sd)))) if sd >= 1 else 3
    return number_cell(mean, f"{mean:.{digits}f} ±\u00a0{sd:.{digits}f}", sd=float(sd))


def remarks(table: pd.DataFrame) -> list[str]:
    """Every note of a table once, after what TBR's latents and inputs were."""
    said = []
    for column, words in {"latent_source": "Latents: {}", "input_source": "Inputs: {}", "note": "{}"}.items():
        if column in table:
            said += [words.format(text) for text in _distinct(table[column])]
    return said


def _distinct(column: pd.Series) -> list[str]:
    """The texts of a column, each once, empty ones left out."""
    return [text for text in dict.fromkeys(column.astype(str)) if text and text != "nan"]
