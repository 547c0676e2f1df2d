"""What heads the page: the verdicts in three groups, the programs found, and each cell type's program."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from latentree.report.batch_verdicts import batch_verdicts
from latentree.report.factor_sections import factors_table
from latentree.report.facts import n_test_cells
from latentree.report.inputs import Inputs
from latentree.report.program_verdicts import (
    chosen_fits,
    condition_verdicts,
    consensus_verdicts,
    design_verdicts,
    n_factors_verdicts,
    primary_fit,
    training_verdicts,
    usage_verdicts,
)
from latentree.report.programs import TELLS, Program, programs
from latentree.report.shown import Cell, Table, number_cell
from latentree.report.tbr_verdicts import tbr_sentences
from latentree.report.verdicts import (
    STABILITY,
    Verdict,
    accuracy_verdicts,
    enrichment_verdicts,
    fit_name,
    stability_verdicts,
)


@dataclass(frozen=True)
class VerdictGroup:
    """Verdicts under one heading, by topic; ``without`` is said where there is none."""

    anchor: str
    heading: str
    without: str
    topics: Mapping[str, Sequence[Verdict]]


@dataclass(frozen=True)
class Overview:
    """The first part of the page."""

    groups: tuple[VerdictGroup, ...]
    programs: Table
    types: Table


def overview(inputs: Inputs, config: Mapping[str, Any], atlas_name: str) -> Overview:
    """All verdicts of a run, and the programs of the model that heads the page."""
    model, k = primary_fit(inputs)
    found = programs(inputs, model, k)
    stable_first = sorted(found, key=lambda program: not program.is_stable)
    return Overview(
        groups=verdict_groups(_all_verdicts(inputs, config, atlas_name, found)),
        programs=factors_table(
            stable_first, f"Programs of {fit_name(model, k)}, stable ones first; a link leads to all of each."
        ),
        types=types_table(found),
    )


def _all_verdicts(
    inputs: Inputs, config: Mapping[str, Any], atlas_name: str, found: Sequence[Program]
) -> list[Verdict]:
    """In the order of the page."""
    chosen = chosen_fits(inputs)
    by_topic = (
        *tbr_sentences(inputs.tbr, inputs.tbr_more).values(),
        *batch_verdicts(inputs.metrics, config["atlases"][atlas_name]).values(),
    )
    return [
        *accuracy_verdicts(inputs.metrics, n_test_cells(inputs.qc)),
        *n_factors_verdicts(inputs),
        *usage_verdicts(found),
        *enrichment_verdicts(inputs, chosen),
        *condition_verdicts(inputs.conditions, found),
        *consensus_verdicts(inputs.consensus, chosen),
        *stability_verdicts(inputs.stability, config),
        *training_verdicts(inputs.summaries),
        *design_verdicts(config["atlases"][atlas_name]),
        *(verdict for said in by_topic for verdict in said),
    ]


def verdict_groups(verdicts: Iterable[Verdict]) -> tuple[VerdictGroup, ...]:
    """Findings, what is known of their stability, and every caution."""
    found: dict[str, list[Verdict]] = {}
    stable: dict[str, list[Verdict]] = {}
    doubted: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        group = doubted if verdict.kind == "caution" else stable if verdict.topic == STABILITY else found
        group.setdefault(verdict.topic, []).append(verdict)
    return (
        VerdictGroup("found", "What was found", "Nothing that stands beside its reference.", found),
        VerdictGroup("stable", "How stable it is", "Nothing is known of it.", stable),
        VerdictGroup("doubted", "What not to believe", "The tables give no reason for a caution.", doubted),
    )


def types_table(found: Sequence[Program]) -> Table:
    """For every cell type the factor that tells it best of those that it uses: the other way round."""
    best: dict[str, tuple[Any, Program]] = {}
    n_cells: dict[str, int] = {}
    for program in found:
        n_cells |= dict(zip(program.usage["cell_type"], program.usage["n_cells"].astype(int), strict=True))
        for _, row in program.users.iterrows():
            name = str(row["cell_type"])
            if name not in best or _rank(row, program) > _rank(*best[name]):
                best[name] = (row, program)
    rows = tuple((name, number_cell(n), *_whose(best.get(name))) for name, n in sorted(n_cells.items()))
    return Table(
        "Which program is whose: for each cell type, of the factors that a quarter of its cells or more use, "
        "the one that tells it best from all others, a stable one where one does; none where the best "
        f"specificity is below {TELLS:g} (0.5 tells nothing). A factor may serve several.",
        ("cell type", "cells", "factor", "stability", "specificity", "use it", "genes", "gene sets"),
        rows,
    )


def _rank(usage: Any, program: Program) -> tuple[bool, float]:
    return program.is_stable and usage["specificity"] >= TELLS, usage["specificity"]


def _whose(best: tuple[Any, Program] | None) -> tuple[str, ...]:
    """The factor that tells a type best, or that none does."""
    if best is None or best[0]["specificity"] < TELLS:
        level = (
            Cell("") if best is None else number_cell(best[0]["specificity"], f"{best[0]['specificity']:.2f}")
        )
        return Cell("none", look="weak"), "", level, "", "", ""
    usage, program = best
    return (
        Cell(program.name, href=program.anchor),
        program.badge,
        number_cell(usage["specificity"], f"{usage['specificity']:.2f}"),
        number_cell(usage["share_using"], f"{usage['share_using']:.0%}"),
        program.top_genes(),
        program.naming_sets_cell(),
    )
