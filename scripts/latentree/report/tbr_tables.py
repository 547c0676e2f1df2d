"""Tables of tree-based regularisation as they are shown."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from latentree.plots.tbr_tree import excludes_zero, shown_fit
from latentree.report.inputs import Inputs
from latentree.report.shown import NO_VALUE, Cell, Table, mean_and_sd, number_cell

_SIMULATED = {
    "mcc": "MCC",
    "mcc_chance": "MCC, chance",
    "mcc_chance_95": "chance, 95th percentile",
    "span_r2": "span R²",
    "span_r2_ridge": "span R², ridge",
    "nmse": "NMSE",
    "nmse_baseline": "NMSE, baseline",
    "nmse_ridge": "NMSE, ridge",
    "nmse_floor": "NMSE, noise floor",
}
_MEASURED = {
    f"{metric}{suffix}": f"{name}{words}"
    for metric, name in {
        "log_loss": "log loss",
        "accuracy": "accuracy",
        "auroc": "AUROC",
        "nmse": "NMSE",
        "r2": "R²",
    }.items()
    for suffix, words in {
        "": "",
        "_baseline": ", baseline",
        "_types": ", type alone",
        "_constant": ", constant",
    }.items()
    # R² and AUROC of a constant are 0 and one half by definition
    if (metric, suffix) not in {("r2", "_constant"), ("auroc", "_constant")}
} | {"n_changes_found": "changes found", "latents_agreement": "latents, agreement of seeds"}
_SHARE_SHOWN = 0.5
"""Share of bootstrap draws from which on a change is shown although the fit itself has none."""
_MOST_CHANGES = 40
_GENES_SHOWN = 12


@dataclass(frozen=True)
class TBRSection:
    """What the page shows of tree-based regularisation; empty parts are left out."""

    measured: bool
    warnings: tuple[str, ...]
    remarks: tuple[str, ...]
    scores: Table
    scores_words: str
    phenotype: Table | None
    identifiability: Table | None
    changes: Table | None
    genes: Table | None
    transfer: Table | None


def tbr_section(inputs: Inputs, remarks: Callable[[pd.DataFrame], Sequence[str]]) -> TBRSection | None:
    """Everything of the section; None where the stage did not run.

    Parameters
    ----------
    remarks
        Says what a table's columns of sources and notes say, each once.
    """
    if inputs.tbr is None:
        return None
    more = inputs.tbr_more
    known, changes = more.get("tbr_identifiability"), more.get("tbr_changes")
    return TBRSection(
        measured=changes is not None,
        warnings=() if known is None else warnings(known),
        remarks=tuple(remarks(inputs.tbr)),
        scores=tbr_table(inputs.tbr) if changes is None else measured_table(inputs.tbr),
        scores_words=_SCORES_WORDS[changes is not None],
        phenotype=_shown(more.get("tbr_phenotype"), phenotype_table),
        identifiability=_shown(known, identifiability_table),
        changes=_shown(changes, changes_table),
        genes=_shown(more.get("tbr_genes"), genes_table),
        transfer=_shown(more.get("tbr_transfer"), transfer_table),
    )


def _shown(table: pd.DataFrame | None, make: Callable[[pd.DataFrame], Table]) -> Table | None:
    return None if table is None or table.empty else make(table)


_SCORES_WORDS = {
    False: "MCC: mean |correlation| of matched latents. Chance: a random rotation of the true latents. Span"
    " R²: how"
    " well the true latents follow linearly from those found. NMSE: squared error of the phenotype over its"
    " variance. Ridge: the same by ridge regression that was shown the true latents, the most that the inputs"
    " hold.",
    True: "Baseline: the same latents with one set of effects for all cell types. Type alone: what the cell"
    " type"
    " says without any gene. Log loss is in nats, lower is better. Where the baseline predicts as well, the"
    " cells"
    " do not show that effects differ between types. Agreement of seeds: mean |correlation| of the latents"
    " with"
    " those of the first seed, matched, on test cells.",
}


def tbr_table(tbr: pd.DataFrame) -> Table:
    """Every estimator by every metric, with the reference levels as columns of their own."""
    columns = [name for name in _SIMULATED if (tbr["metric"] == name).any()]
    rows = []
    for (n_latents, n_changes), kind in tbr[tbr["metric"].isin(columns)].groupby(
        ["n_latents", "n_changes"], sort=False
    ):
        for estimator, mine in kind.groupby("estimator", sort=False):
            cells = [mean_and_sd(mine.loc[mine["metric"] == name, "value"]) for name in columns]
            rows.append((str(n_latents), str(n_changes), str(estimator), *cells))
    return Table(
        "Tree-based regularisation on test cells, mean ± sd over seeds.",
        ("latents", "changes per branch", "estimator", *(_SIMULATED[name] for name in columns)),
        tuple(rows),
        n_labels=3,
    )


def measured_table(tbr: pd.DataFrame) -> Table:
    """Estimators side by side: a row per metric, because there are few estimators and many references."""
    estimators = list(dict.fromkeys(tbr["estimator"]))
    rows = []
    for metric, name in _MEASURED.items():
        mine = tbr[tbr["metric"] == metric]
        if mine["value"].notna().any():
            by_estimator = [mine.loc[mine["estimator"] == e, "value"] for e in estimators]
            digits = 1 if metric == "n_changes_found" else 3
            rows.append((name, *(mean_and_sd(values, digits) for values in by_estimator)))
    n_latents = ", ".join(str(n) for n in sorted(set(tbr["n_latents"])))
    return Table(
        f"Prediction of {tbr['phenotype'].iloc[0]} on test cells with {n_latents} latents, mean ± sd over"
        " seeds.",
        ("metric", *estimators),
        tuple(rows),
    )


def phenotype_table(types: pd.DataFrame) -> Table:
    """The phenotype by cell type."""
    rows = tuple(
        (
            str(row["cell_type"]),
            number_cell(row["n_cells"], f"{row['n_cells']:,}"),
            number_cell(row["n_train"], f"{row['n_train']:,}"),
            number_cell(row["n_donors"]) if row["n_donors"] else Cell(NO_VALUE),
            _number(row["mean"]),
            _number(row["sd"]),
            str(row["note"]),
        )
        for _, row in types.iterrows()
    )
    return Table(
        "The phenotype by cell type (binary: mean is the share of 1 among training cells).",
        ("cell type", "cells", "training cells", "donors", "mean", "sd", "note"),
        rows,
    )


def warnings(known: pd.DataFrame) -> tuple[str, ...]:
    """The sentences of the rows ``warning`` of the fit that is shown, each once."""
    mine = shown_fit(known)
    mine = mine[mine["quantity"] == "warning"]
    if known["n_changes"].nunique() < 2:
        return tuple(dict.fromkeys(mine["note"].astype(str)))
    said = zip(mine["n_changes"], mine["note"], strict=True)
    return tuple(dict.fromkeys(f"{n} simulated changes per branch: {note}" for n, note in said))


def identifiability_table(known: pd.DataFrame) -> Table:
    """What the fits can tell apart: a row per quantity, a column per estimator, mean over seeds."""
    rows = known[known["quantity"] != "warning"]
    kinds = ["estimator", *(["n_changes"] if rows["n_changes"].astype(str).nunique() > 1 else [])]
    columns = list(dict.fromkeys(rows[kinds].astype(str).itertuples(index=False, name=None)))
    body = []
    for (quantity, note), mine in rows.groupby(["quantity", "note"], sort=False):
        cells = []
        for column in columns:
            own = mine[(mine[kinds].astype(str) == list(column)).all(axis=1)]
            # counts are whole numbers where all seeds agree
            whole = (own["value"].dropna() % 1 == 0).all() and own["value"].nunique() <= 1
            cells.append(mean_and_sd(own["value"], 0 if whole else 2))
        body.append((str(quantity), *cells, str(note)))
    names = [", changes per branch: ".join(column) for column in columns]
    return Table(
        "Can these cells tell latents apart? Mean ± sd over seeds.",
        ("quantity", *names, "meaning"),
        tuple(body),
    )


def changes_table(changes: pd.DataFrame) -> Table:
    """Where effects change, in the fit that the picture shows; largest first."""
    fit = shown_fit(changes)
    fit = fit.assign(sure=excludes_zero(fit))
    shown = fit[(fit["change"] != 0) | (fit["share_nonzero"] >= _SHARE_SHOWN)]
    shown = shown.reindex(shown["change"].abs().sort_values(ascending=False, kind="stable").index)
    rows = tuple(
        (
            str(row["branch"]),
            _below(str(row["cell_types_below"])),
            str(row["latent"]),
            number_cell(row["change"], f"{row['change']:+.3g}".replace("-", "−") if row["change"] else "0"),
            _number(row["lower"]),
            _number(row["upper"]),
            number_cell(row["share_nonzero"], f"{row['share_nonzero']:.0%}"),
            "; ".join(text for text in ("excludes 0" if row["sure"] else "", str(row["note"])) if text),
        )
        for _, row in shown.head(_MOST_CHANGES).iterrows()
    )
    words = (
        f"Changes of effects, {_fit_name(fit)}: what the branch adds to the effect of one sd of a latent"
        " (binary:"
        " in log odds), its 95% bootstrap interval, and the share of draws in which it is not zero."
    )
    if len(shown) > _MOST_CHANGES:
        words += f" The {_MOST_CHANGES} largest of {len(shown)}; all are in tables/tbr_changes.tsv."
    if not rows:
        words += " No effect changes on any branch."
    names = ("branch to", "cell types below", "latent", "change", "lower", "upper", "share not 0", "note")
    return Table(words, names, rows, n_labels=3)


def genes_table(genes: pd.DataFrame) -> Table:
    """The leading genes of each latent, in the fit that the picture shows."""
    fit = shown_fit(genes)
    rows = []
    for latent, mine in fit.groupby("latent", sort=False):
        first = mine.sort_values("rank").head(_GENES_SHOWN)
        named = [
            f"{g} {w:+.2g}".replace("-", "−") for g, w in zip(first["gene"], first["weight"], strict=True)
        ]
        rows.append((str(latent), ", ".join(named)))
    return Table(
        f"Genes that drive each latent, {_fit_name(fit)}: first the gene with the largest mean share of the"
        " latent;"
        " numbers are what one sd of the gene adds to the latent (sd 1).",
        ("latent", "genes"),
        tuple(rows),
        n_labels=2,
    )


def transfer_table(transfer: pd.DataFrame) -> Table:
    """Prediction of cell types that no fit has seen, mean over seeds and held-out types."""
    keys = ["n_changes", "estimator", "method", "shots"]
    rows = []
    for names, mine in transfer.groupby(keys, sort=False):
        rows.append(
            (*(str(name) for name in names), str(mine["held_out"].nunique()), mean_and_sd(mine["nmse"]))
        )
    return Table(
        "Held-out cell types: NMSE of the phenotype with the effects of the nearest type (0 cells) or"
        " adapted to a"
        " few of their cells, mean ± sd over seeds and types. Effects of the nearest type are the same for"
        " any"
        " rotation of the latents, so 0 cells say nothing about disentanglement.",
        ("changes per branch", "estimator", "method", "cells adapted to", "types", "NMSE"),
        tuple(rows),
        n_labels=4,
    )


def _fit_name(fit: pd.DataFrame) -> str:
    return f"{fit['estimator'].iloc[0]}, seed {fit['seed'].iloc[0]}" if len(fit) else "no fit"


def _below(names: str, limit: int = 4) -> str:
    """``A, B, C and 3 more``; names are joined as in the table."""
    parts = [re.sub(r"\\(.)", r"\1", part) for part in re.findall(r"(?:\\.|[^;\\])+", names)]
    more = f" and {len(parts) - limit} more" if len(parts) > limit else ""
    return ", ".join(parts[:limit]) + more


def _number(value: Any) -> Cell:
    return number_cell(value, f"{value:.3g}".replace("-", "−"))
