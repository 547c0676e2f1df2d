"""The factors of a consensus with all that the tables say of each: what overview and sections draw upon."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from latentree.consensus import STABLE
from latentree.factor_matching import FOUND
from latentree.report.inputs import Inputs
from latentree.report.shown import Cell, number_text
from latentree.report.verdicts import SIGNIFICANT

_WORDS = {"yes": "stable", "no": "not stable", "unknown": "stability unknown"}
_ALL = "all"
TELLS = 0.7
"""Specificity from which on a factor is named after a cell type."""
USES = 0.25
"""Share of a type's cells that have to use a factor before it is called theirs: specificity ranks cells by
however little, and would name a program of rare cells after a type that hardly uses it."""


@dataclass(frozen=True)
class Program:
    """One live factor of one model's consensus.

    ``facts`` is its row of consensus.tsv; ``genes`` (largest |loading| first), ``sets`` (at q < .05, best
    first, near-duplicates last), ``usage`` (most specific type first) and ``conditions`` are its rows of the
    other tables.
    """

    model: str
    n_factors: int
    name: str
    facts: Mapping[str, Any]
    genes: pd.DataFrame
    n_own_genes: int | None
    sets: pd.DataFrame
    usage: pd.DataFrame
    conditions: pd.DataFrame

    @property
    def anchor(self) -> str:
        """Its place in the page."""
        return f"{fit_anchor(self.model, self.n_factors)}-{self.name}"

    @property
    def is_stable(self) -> bool:
        """Whether it came back."""
        return self.facts["stable"] == "yes"

    @property
    def badge(self) -> Cell:
        """Stable, not stable or unknown."""
        return stability_badge(str(self.facts["stable"]))

    @property
    def counts_genes(self) -> bool:
        """Whether the genes are all active ones; models without exact zeros list their largest loadings."""
        return bool(self.genes["inclusion"].notna().any())

    @property
    def naming_sets(self) -> list[pd.Series]:
        """The best gene set by over-representation of genes that go up, and of those that go down."""
        found = self.sets[(self.sets["method"] == "ora") & (self.sets["like"] == "")]
        down = found["direction"] == "down"
        return [side.iloc[0] for side in (found[~down], found[down]) if len(side)]

    @property
    def best_type(self) -> pd.Series | None:
        """Of the cell types that use it, the one that it tells best from the others; None where none does."""
        return None if self.users.empty else self.users.iloc[0]

    @property
    def users(self) -> pd.DataFrame:
        """Rows of the usage of cell types of which at least ``USES`` of the cells use it."""
        return self.usage[self.usage["share_using"] >= USES]

    def top_genes(self, n: int = 5) -> str:
        """The genes with the largest |loading|, a minus before those that go down."""
        first = self.genes.head(n)
        named = [
            f"−{gene}" if loading < 0 else str(gene)
            for gene, loading in zip(first["gene"], first["loading"], strict=True)
        ]
        return ", ".join(named)

    def naming_sets_cell(self) -> Cell:
        """The best gene sets with q value and overlap."""
        if not self.naming_sets:
            return Cell(f"none at q < {SIGNIFICANT:g}", look="weak")
        return Cell("; ".join(_described(row) for row in self.naming_sets))


def _described(row: pd.Series) -> str:
    """A gene set and its evidence; genes that go up need no word."""
    direction = "" if row["direction"] == "up" else f"{row['direction']}, "
    evidence = f"q\u00a0=\u00a0{number_text(row['q_value'])}, {row['n_overlap']} of {row['n_set']} genes"
    return f"{row['gene_set']} ({direction}{evidence})"


def fit_anchor(model: str, n_factors: int) -> str:
    """Where the section of a model with so many factors begins."""
    return f"{model}-k{n_factors}"


def stability_badge(stable: str) -> Cell:
    """The word for a value of the column ``stable``, to be set as a badge."""
    return Cell(_WORDS[stable], look=f"badge {_WORDS[stable].replace(' ', '-')}")


def programs(inputs: Inputs, model: str, n_factors: int) -> tuple[Program, ...]:
    """The live factors of a model's consensus, f1 first."""

    def mine(table: pd.DataFrame) -> pd.DataFrame:
        return table[(table["model"] == model) & (table["n_factors"].astype(int) == n_factors)]

    facts = mine(inputs.consensus)
    facts = facts[facts["factor"].str.startswith("f")]
    genes = mine(inputs.genes)
    genes = genes[genes["loading"] != 0]
    # a gene that is active in one factor alone; a list of the largest loadings cannot tell
    shared = genes["gene"].duplicated(keep=False)
    sets = _best_first(mine(inputs.enrichment))
    usage = mine(inputs.usage).dropna(subset="specificity").sort_values(
        "specificity", ascending=False, kind="stable"
    )  # fmt: skip
    none = pd.DataFrame(columns=["factor", "cell_type"])
    conditions = none if inputs.conditions is None else mine(inputs.conditions)
    found = []
    for _, row in facts.iterrows():
        name = str(row["factor"])
        own = genes[genes["factor"] == name]
        own = own.reindex(own["loading"].abs().sort_values(ascending=False, kind="stable").index)
        counted = own["inclusion"].notna().any()
        found.append(
            Program(
                model=model,
                n_factors=n_factors,
                name=name,
                facts={str(column): value for column, value in row.items()},
                genes=own,
                n_own_genes=int((~shared[own.index]).sum()) if counted else None,
                sets=sets[sets["factor"] == name],
                usage=usage[usage["factor"] == name],
                conditions=conditions[conditions["factor"] == name],
            )
        )
    return tuple(found)


def _best_first(tested: pd.DataFrame) -> pd.DataFrame:
    """Sets at q < .05: over-representation before GSEA, those of their own before near-duplicates."""
    found = tested[tested["q_value"] < SIGNIFICANT]
    ranked = found.assign(_gsea=found["method"] != "ora", _repeats=found["like"] != "")
    by = ["_repeats", "_gsea", "q_value", "p_value", "gene_set"]
    return ranked.sort_values(by, kind="stable").drop(columns=["_gsea", "_repeats"])


def stability_facts(program: Program) -> dict[str, str]:
    """Every number of a factor's stability with its reference, by what it is."""
    row = program.facts
    found = f"{number_text(row['seeds_found'])} of {number_text(row['n_seeds'])} seeds"
    facts = {"found by": found}
    if pd.notna(row["stability_mean"]):
        text = f"{row['stability_mean']:.3f}, lowest {row['stability_lowest']:.3f}"
        if pd.notna(row["chance_95"]):
            text += f" (chance, 95th percentile: {row['chance_95']:.3f})"
        facts["between these seeds"] = text
    if pd.notna(row["half_agreement"]):
        facts["between halves of the seeds"] = f"{row['half_agreement']:.3f}"
    halves = "not measured: no refits to halves of the cells"
    if pd.notna(row["halves_of_cells"]):
        halves = f"{row['halves_of_cells']:.3f}"
        if pd.notna(row["pca_reference"]):
            halves += f" (needed: {FOUND:g}; PCA's factors: {row['pca_reference']:.3f})"
    facts["between halves of the cells"] = halves
    if members := member_names(row["members"]):
        facts["its members"] = ", ".join(f"{factor} of seed {seed}" for seed, factor in members.items())
    return facts


def why_not_stable(program: Program) -> str:
    """What speaks against a factor, beside the thresholds; "" where nothing does."""
    row = program.facts
    reasons = []
    if 2 * row["seeds_found"] <= row["n_seeds"]:
        reasons.append(f"found by {number_text(row['seeds_found'])} of {row['n_seeds']} seeds")
    if row["stability_mean"] < STABLE:
        reasons.append(f"the seeds agree {row['stability_mean']:.2f}, less than {STABLE:g}")
    if row["stability_mean"] <= row["chance_95"]:
        reasons.append("no more than chance")
    if row["halves_of_cells"] < FOUND:
        reasons.append(
            f"other cells give it back at {row['halves_of_cells']:.2f}, less than {FOUND:g} (half of its"
            " variance)"
        )
    return "; ".join(reasons)


def member_names(members: Any) -> dict[str, str]:
    """Factor by seed from ``0:f3;1:f1``."""
    pairs = (part.partition(":") for part in str(members).split(";") if ":" in part)
    return {seed: factor for seed, _, factor in pairs}


def over_all_types(conditions: pd.DataFrame) -> pd.DataFrame:
    """The rows of conditions.tsv that weigh all cell types alike."""
    return conditions[conditions["cell_type"] == _ALL]
