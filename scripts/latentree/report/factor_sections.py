"""One section per model and number of factors, and in it one part per factor with its tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from latentree.report.facts import diagnostic_sentences
from latentree.report.group_sentences import group_sentences
from latentree.report.inputs import Inputs
from latentree.report.pictures import Picture, fit_pictures
from latentree.report.programs import (
    TELLS,
    Program,
    fit_anchor,
    programs,
    stability_facts,
    why_not_stable,
)
from latentree.report.shown import Cell, Column, LongTable, Table, number_cell, plain_rows
from latentree.report.verdicts import SIGNIFICANT

_FIRST_GENES, _FIRST_SETS, _FIRST_TYPES, _FIRST_CONDITIONS = 15, 5, 10, 6
_MOST_SETS = 50
"""Gene sets of one factor and method in the page; of a large library the table file holds thousands."""
_MODEL_WORDS = {
    "sparse_vae": "Sparse VAE: every gene depends on few factors; loadings with exact zeros.",
    "vae": "Variational autoencoder: loadings are slopes of its decoder, none exactly zero.",
    "beta_vae": "beta-VAE: a VAE with a weight on KL; loadings as the VAE's.",
    "vsc": "Variational sparse coding: each cell switches factors on or off; loadings as the VAE's.",
    "oi_vae": "oi-VAE: factors reach groups of genes (gene sets) or leave them exactly alone.",
    "dd_vae": "VAE with a structured prior (Mathieu et al. 2019); loadings as the VAE's.",
    "intel_vae": "InteL-VAE: normal latents through a mapping (Miao et al. 2022); loadings as the VAE's.",
    "nmf": "Non-negative matrix factorisation.",
    "pca": "Principal component analysis; the reference.",
    "ica": "Independent component analysis (FastICA).",
}


@dataclass(frozen=True)
class FactorSection:
    """One factor: what it is in a line, its stability, and its tables; those that are empty left out."""

    anchor: str
    name: str
    badge: Cell
    line: str
    stability: Mapping[str, str]
    why: str
    notes: tuple[str, ...]
    tables: tuple[LongTable, ...]


@dataclass(frozen=True)
class FitSection:
    """One model with one number of factors: its consensus over seeds, and what is of single seeds."""

    anchor: str
    model: str
    n_factors: int
    words: str
    remarks: tuple[str, ...]
    of_seed: tuple[str, ...]
    pictures: tuple[Picture, ...]
    summary: Table
    factors: tuple[FactorSection, ...]


def fit_section(inputs: Inputs, model: str, n_factors: int, first_seed: int) -> FitSection:
    """Everything of one model with so many factors."""
    found = programs(inputs, model, n_factors)
    summaries = {
        s: summary for (m, k, s), summary in inputs.summaries.items() if (m, k) == (model, n_factors)
    }
    of_seed = summaries.get(first_seed, {})
    return FitSection(
        anchor=fit_anchor(model, n_factors),
        model=model,
        n_factors=n_factors,
        words=_MODEL_WORDS.get(model, ""),
        remarks=(
            *_counts(found, n_factors),
            *_beyond(inputs.consensus, model, n_factors),
            *_not_converged(summaries),
        ),
        of_seed=(
            *diagnostic_sentences(of_seed),
            *group_sentences(inputs.groups, model, n_factors, first_seed),
            *(str(note) for note in of_seed.get("notes", [])),
        ),
        pictures=fit_pictures(inputs, model, n_factors, first_seed),
        summary=factors_table(found, f"Factors of {model}, k = {n_factors}: the consensus over seeds."),
        factors=tuple(_factor_section(program, inputs.gene_sets_given) for program in found),
    )


def factors_table(found: Sequence[Program], caption: str) -> Table:
    """A line per factor, with a link to its part of the page."""
    caption += (
        " Seeds: strength of the matches between them; halves: between refits to disjoint halves of the "
        "cells, by loadings and scores. Cell type: of those of which at least a quarter of the cells use it, "
        "the one it tells best from all others, with its specificity (0.5: not at all, 1: wholly). Genes: "
        "largest |loading| first, a minus before those that go down. Gene sets: smallest q by "
        "over-representation of the genes that go up, and of those that go down."
    )
    rows = tuple(
        (
            Cell(program.name, href=program.anchor, look="" if program.is_stable else "weak"),
            program.badge,
            _two_digits(program.facts["stability_mean"]),
            _two_digits(program.facts["halves_of_cells"]),
            *_best_type(program),
            program.top_genes(),
            program.naming_sets_cell(),
        )
        for program in found
    )
    columns = ("factor", "stability", "seeds", "halves", "cell type", "specificity", "genes", "gene sets")
    return Table(caption, columns, rows)


def _best_type(program: Program) -> tuple[str, Cell]:
    best = program.best_type
    if best is None:
        return Cell("–" if program.usage.empty else "few cells of any", look="weak"), Cell("–")
    look = "weak" if best["specificity"] < TELLS else ""
    return Cell(best["cell_type"], look=look), _two_digits(best["specificity"])


def _two_digits(value: Any) -> Cell:
    return number_cell(value, None if pd.isna(value) else f"{value:.2f}")


def _counts(found: Sequence[Program], n_factors: int) -> tuple[str, ...]:
    """How many factors live and how many are stable."""
    if not found:
        return (f"All {n_factors} factors are dead: no gene has weight.",)
    stable = sum(program.is_stable for program in found)
    unknown = sum(program.facts["stable"] == "unknown" for program in found)
    untold = f"; of {unknown} it is not known" if unknown else ""
    said = [f"{stable} of {len(found)} live factors are stable{untold}."]
    if len(found) < n_factors:
        said.append(f"{n_factors - len(found)} of {n_factors} are dead: no gene has weight.")
    return (" ".join(said),)


def _beyond(consensus: pd.DataFrame, model: str, n_factors: int) -> tuple[str, ...]:
    """That some seeds have factors of their own for which there is no place."""
    mine = consensus[(consensus["model"] == model) & (consensus["n_factors"].astype(int) == n_factors)]
    extra = mine["factor"].str.startswith("x").sum()
    if not extra:
        return ()
    return (f"{extra} more were found by some of the seeds only and have no place here (consensus.tsv).",)


def _not_converged(summaries: Mapping[int, Mapping[str, Any]]) -> tuple[str, ...]:
    stopped = [str(seed) for seed, summary in summaries.items() if summary.get("converged") is False]
    return (f"Not converged within its epochs or iterations: seed {', '.join(stopped)}.",) * bool(stopped)


def _factor_section(program: Program, gene_sets_given: bool) -> FactorSection:
    tables = (_genes(program), _sets(program), _usage(program), _conditions(program))
    best = program.best_type
    line = [] if best is None else [f"{best['cell_type']} ({best['share_using']:.0%} of them use it)"]
    line += [program.top_genes(), *(str(row["gene_set"]) for row in program.naming_sets[:1])]
    notes = [str(program.facts["note"])] if program.facts["note"] else []
    if note := _no_set(program, gene_sets_given):
        notes.append(note)
    return FactorSection(
        anchor=program.anchor,
        name=program.name,
        badge=program.badge,
        line=" · ".join(filter(None, line)),
        stability=stability_facts(program),
        why=why_not_stable(program),
        notes=tuple(notes),
        tables=tuple(table for table in tables if table.rows),
    )


def _no_set(program: Program, given: bool) -> str:
    """Why a factor has no gene set; empty where it has one."""
    if not given:
        return "No gene sets were given."
    return "" if len(program.sets) else f"No gene set at q < {SIGNIFICANT:g}."


def _genes(program: Program) -> LongTable:
    """Every listed gene with its loading."""
    genes = program.genes
    columns = ["gene", "loading", *(["inclusion"] if program.counts_genes else [])]
    caption = f"{program.name}, genes: the {len(genes)} with the largest |loading|."
    if program.counts_genes:
        caption = f"{program.name}, genes: all {len(genes)} whose loading is not zero"
        caption += f"; {program.n_own_genes} are of this factor alone."
    kinds = [Column("gene"), Column("loading", "bar"), Column("inclusion", "number")]
    return LongTable(
        f"{program.anchor}-genes",
        caption,
        tuple(kinds[: len(columns)]),
        plain_rows(genes, columns),
        _FIRST_GENES,
    )


def _sets(program: Program) -> LongTable:
    """Gene sets at q < .05, the best of each method."""
    shown = program.sets.groupby("method", sort=False).head(_MOST_SETS)
    caption = f"{program.name}, gene sets at q < {SIGNIFICANT:g}: over-representation (ora) of its genes"
    caption += " and gene set enrichment (gsea) of its ranking. Nearly the same as: the better set."
    if len(shown) < len(program.sets):
        caption += f" The best {len(shown)} of {len(program.sets)}; all are in tables/enrichment.tsv."
    columns = {
        "gene_set": Column("gene set"),
        "direction": Column("direction"),
        "q_value": Column("q", "number"),
        "n_overlap": Column("genes shared", "number"),
        "n_set": Column("genes of the set", "number"),
        "genes": Column("genes", "names"),
        "method": Column("method"),
        "odds_ratio": Column("odds ratio", "number"),
        "nes": Column("NES", "number"),
        "like": Column("nearly the same as"),
    }
    rows = plain_rows(shown, list(columns))
    return LongTable(f"{program.anchor}-sets", caption, tuple(columns.values()), rows, _FIRST_SETS)


def _usage(program: Program) -> LongTable:
    """How much each cell type uses the factor."""
    columns = {
        "cell_type": Column("cell type"),
        "n_cells": Column("cells", "number"),
        "mean_usage": Column("mean usage", "bar"),
        "share_using": Column("share using", "bar"),
        "specificity": Column("specificity", "number"),
    }
    return LongTable(
        f"{program.anchor}-usage",
        f"{program.name}, usage by cell type. Mean usage: above (or below, −) the mean of all cells, in sd; "
        "share using: of the type's cells beyond the middle of the factor's range; specificity: chance that "
        "a cell of the type uses it more than another cell (0.5: no difference).",
        tuple(columns.values()),
        plain_rows(program.usage, list(columns)),
        _FIRST_TYPES,
    )


def _conditions(program: Program) -> LongTable:
    """Differences between conditions, all types first."""
    columns = {
        "cell_type": Column("cell type"),
        "condition": Column("condition"),
        "reference": Column("reference"),
        "effect": Column("effect", "bar"),
        "lower": Column("lower", "number"),
        "upper": Column("upper", "number"),
        "test": Column("test"),
        "n_samples": Column("samples", "number"),
        "n_samples_reference": Column("samples, reference", "number"),
        "p_value": Column("p", "number"),
        "q_value": Column("q", "number"),
        "note": Column("note", "long"),
    }
    table = program.conditions.reindex(columns=list(columns))
    return LongTable(
        f"{program.anchor}-conditions",
        f"{program.name}, differences between conditions: effect in sd of the factor over all cells, with "
        "its 95% interval over samples. Cell type all: every type weighs the same.",
        tuple(columns.values()),
        plain_rows(table, list(columns)),
        _FIRST_CONDITIONS,
    )
