"""What may be said of the consensus factors: which come back, whose they are, how they differ, how many."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from latentree.consensus import STABLE
from latentree.report.inputs import Inputs
from latentree.report.programs import TELLS, Program, over_all_types
from latentree.report.shown import number_text
from latentree.report.verdicts import SIGNIFICANT, STABILITY, Verdict, fit_name, names_or_count

_BY_CONSTRUCTION = "by construction"
_SHOWN = 3
"""Factors named in a sentence; the tables have them all."""


def chosen_fits(inputs: Inputs) -> list[tuple[str, int]]:
    """Every model with its recommended number of factors; with all its numbers where none is."""
    table = inputs.n_factors[inputs.n_factors["recommended"] == "yes"]
    advised = set(zip(table["model"], table["n_factors"].astype(int), strict=True))
    decided = {model for model, _ in advised}
    return [(model, k) for model, k in inputs.fits if (model, k) in advised or model not in decided]


def primary_fit(inputs: Inputs) -> tuple[str, int]:
    """The fit whose programs head the page: the Sparse VAE's, else the one with most zero loadings."""
    chosen = chosen_fits(inputs)
    zeros = inputs.metrics[inputs.metrics["metric"] == "zeros"].groupby(["model", "n_factors"])["value"]
    shares = zeros.mean().to_dict()
    return max(chosen, key=lambda fit: (fit[0] == "sparse_vae", shares.get(fit, 0.0)))


def consensus_verdicts(consensus: pd.DataFrame, fits: Sequence[tuple[str, int]]) -> list[Verdict]:
    """How many factors come back, how far seeds agree beside chance, and which factors not to interpret."""
    overall = _of_fits(consensus[consensus["factor"] == "all"], fits)
    if not overall:
        return []
    live = _of_fits(consensus[consensus["factor"].str.startswith("f")], fits)
    counts = [
        f"{fit_name(*fit)} {(rows['stable'] == 'yes').sum()} of {len(rows)}" for fit, rows in live.items()
    ]
    said = [
        Verdict(
            STABILITY,
            f"Stable factors (found by most seeds, which agree at {STABLE:g} or more, and not contradicted "
            f"by other cells): {', '.join(counts)}.",
        )
    ]
    said += _agreement({fit: rows.iloc[0] for fit, rows in overall.items()})
    weak = {fit: rows.loc[rows["stable"] == "no", "factor"] for fit, rows in live.items()}
    if any(len(names) for names in weak.values()):
        listed = [
            f"{fit_name(*fit)} {names_or_count(list(names), len(live[fit]))}"
            for fit, names in weak.items()
            if len(names)
        ]
        text = "Not to be interpreted, because other seeds or other cells do not give them back (why: at each"
        said.append(Verdict(STABILITY, f"{text} factor): {'; '.join(listed)}.", "caution"))
    unknown = [fit_name(*fit) for fit, rows in live.items() if (rows["stable"] == "unknown").any()]
    if unknown:
        text = (
            f"Whether factors would come back is not known: {', '.join(unknown)}. It takes several seeds that"
        )
        text += " differ, or fits to halves of the cells (downstream.stability)."
        said.append(Verdict(STABILITY, text, "caution"))
    return said


def _of_fits(table: pd.DataFrame, fits: Sequence[tuple[str, int]]) -> dict[tuple[str, int], pd.DataFrame]:
    groups = {(str(m), int(str(k))): rows for (m, k), rows in table.groupby(["model", "n_factors"])}
    return {fit: groups[fit] for fit in fits if fit in groups}


def _agreement(overall: dict[tuple[str, int], pd.Series]) -> list[Verdict]:
    """Halves of the seeds beside chance; other cells are the matter of stability.tsv, with its references."""
    seeds = {fit: row for fit, row in overall.items() if pd.notna(row["half_agreement"])}
    if not seeds:
        return []
    listed = [
        f"{fit_name(*fit)} {row['half_agreement']:.2f}"
        + (f" ({_BY_CONSTRUCTION})" if _BY_CONSTRUCTION in str(row["note"]) else "")
        for fit, row in seeds.items()
    ]
    chance = max(row["chance_95"] for row in seeds.values())
    text = f"Between halves of the seeds: {', '.join(listed)}; chance (95th percentile) at most {chance:.2f}."
    return [Verdict(STABILITY, text)]


def usage_verdicts(found: Sequence[Program]) -> list[Verdict]:
    """The stable factors that tell a cell type best."""
    topic = "Programs and cell types"
    stable = [program for program in found if program.is_stable and program.best_type is not None]
    if not stable:
        text = "No stable factor: no program is named after a cell type here."
        return [Verdict(topic, text, "caution")] if found else []
    name = fit_name(found[0].model, found[0].n_factors)
    telling = [program for program in stable if _specificity(program) >= TELLS]
    if not telling:
        text = (
            f"No stable factor of {name} tells one cell type from all others (specificity {TELLS:g} or more)."
        )
        return [Verdict(topic, text)]
    best = sorted(telling, key=lambda program: -_specificity(program))[:_SHOWN]
    listed = [
        f"{program.name} {program.best_type['cell_type']} {_specificity(program):.2f}"
        f" ({program.best_type['share_using']:.0%} of {program.best_type['n_cells']} cells use it)"
        for program in best
        if program.best_type is not None
    ]
    text = (
        f"Stable factors of {name} that tell one cell type best from all others: {', '.join(listed)} "
        "(specificity: 0.5 not at all, 1 wholly)."
    )
    return [Verdict(topic, text)]


def _specificity(program: Program) -> float:
    return 0.0 if program.best_type is None else float(program.best_type["specificity"])


def n_factors_verdicts(inputs: Inputs) -> list[Verdict]:
    """The recommended number of factors beside what speaks for it."""
    topic = "Number of factors"
    if len({model for model, _ in inputs.fits}) == len(inputs.fits):
        text = "One number of factors was run for each model, so whether it is a good one is not known."
        return [Verdict(topic, text, "caution")]
    advised = inputs.n_factors[inputs.n_factors["recommended"] == "yes"]
    listed = []
    for _, row in advised.iterrows():
        text = f"{fit_name(row['model'], row['n_factors'])}"
        if pd.notna(row["stability_halves"]):
            text += f", halves of the cells agree {row['stability_halves']:.2f}"
        if pd.notna(row["reference_halves"]):
            text += f" (PCA or varimax {row['reference_halves']:.2f})"
        listed.append(text)
    if not listed:
        return [Verdict(topic, "No number of factors is recommended.", "caution")]
    text = f"The smallest whose held-out fit is as good as the best is recommended: {'; '.join(listed)}."
    return [Verdict(topic, text)]


def condition_verdicts(conditions: pd.DataFrame | None, found: Sequence[Program]) -> list[Verdict]:
    """Which factors of the first model differ between conditions, or why that was not tested."""
    if conditions is None or not found:
        return []
    topic = "Conditions"
    rows = pd.concat([over_all_types(program.conditions) for program in found])
    if rows.empty:
        return [Verdict(topic, "No cell type has cells of both conditions: nothing was compared.", "caution")]
    said = []
    for (condition, reference), mine in rows.groupby(["condition", "reference"], sort=False):
        name = f"{condition} against {reference}, {fit_name(found[0].model, found[0].n_factors)}"
        tested = mine[mine["test"] != "none"]
        if tested.empty:
            said.append(Verdict(topic, f"{name}: not tested. {_notes(mine)}", "caution"))
            continue
        said.append(Verdict(topic, f"{name}: {_differing(tested, found)}"))
        if notes := _notes(tested):
            said.append(Verdict(topic, f"{name}: {notes}", "caution"))
    return said


def _differing(tested: pd.DataFrame, found: Sequence[Program]) -> str:
    """How many factors differ, the clearest of them by name with effect, interval, q and stability."""
    first = tested.iloc[0]
    samples = f"{first['n_samples']} and {first['n_samples_reference']} samples, {first['test']} test"
    clear = tested[tested["q_value"] < SIGNIFICANT].sort_values("q_value", kind="stable")
    text = (
        f"{len(clear)} of {len(tested)} factors differ over all cell types at q < {SIGNIFICANT:g} ({samples})"
    )
    stable = {program.name: program.is_stable for program in found}
    listed = [
        f"{row['factor']} {_effect(row)}, q\u00a0=\u00a0{number_text(row['q_value'])}"
        + ("" if stable[row["factor"]] else ", not stable")
        for _, row in clear.head(_SHOWN).iterrows()
    ]
    more = "; and more" if len(clear) > _SHOWN else ""
    return f"{text}: {'; '.join(listed)}{more}. Effects are in sd of the factor." if listed else f"{text}."


def _effect(row: pd.Series) -> str:
    sign = "+" if row["effect"] > 0 else ""
    numbers = [number_text(row[name]) for name in ("effect", "lower", "upper")]
    return f"{sign}{numbers[0]} ({numbers[1]} to {numbers[2]})"


def _notes(rows: pd.DataFrame) -> str:
    """Every note of some rows once, as sentences."""
    notes = dict.fromkeys(str(note) for note in rows["note"] if str(note) not in ("", "nan"))
    return " ".join(f"{note[0].upper()}{note[1:]}." for note in notes)


def training_verdicts(summaries: Mapping[tuple[str, int, int], Mapping[str, Any]]) -> list[Verdict]:
    """Fits that ended before they came to rest."""
    stopped: dict[str, list[int]] = {}
    for (model, k, seed), summary in summaries.items():
        if summary.get("converged") is False:
            stopped.setdefault(fit_name(model, k), []).append(seed)
    if not stopped:
        return []
    listed = "; ".join(f"{name} seed {', '.join(map(str, seeds))}" for name, seeds in stopped.items())
    return [Verdict("Training", f"Not converged within its epochs or iterations: {listed}.", "caution")]


def design_verdicts(atlas: Mapping[str, Any]) -> list[Verdict]:
    """What cannot be told apart where the atlas names neither donors nor batches."""
    if atlas.get("batch") or atlas.get("split_by") or atlas.get("sample"):
        return []
    text = (
        "No donor, sample or batch is named for this atlas. If each cell type came from a library of its "
        "own, what tells a type may be its library; and test cells come from the same samples as training "
        "cells, so nothing here says how programs do on new donors."
    )
    return [Verdict("Donors and batches", text, "caution")]
