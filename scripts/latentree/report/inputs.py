"""What the page is made of, read from one atlas's folder of results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from latentree.errors import InputError
from latentree.files import read_json, read_table
from latentree.report.svg import data_uri
from latentree.seeds import CONSENSUS

_NUMBERS = ("value", "loading", "inclusion", "q_value", "p_value", "agreement")

TBR_TABLES = {
    "": (),
    "simulated": ("tbr_identifiability", "tbr_transfer"),
    "measured": ("tbr_identifiability", "tbr_changes", "tbr_genes", "tbr_phenotype"),
}
"""Tables of tree-based regularisation beside tbr.tsv, by the kind of phenotype."""


@dataclass(frozen=True)
class Inputs:
    """Tables, decisions and pictures of one atlas.

    ``genes``, ``enrichment``, ``enrichment_summary``, ``usage`` and ``conditions`` hold the rows of the
    consensus over seeds alone; ``conditions`` is None where the atlas names none.
    ``gene_sets_given`` says whether the config names any, ``enrichment_notes`` what became of them;
    ``tbr`` is None where the stage did not run, ``tbr_more`` holds its other tables by their names;
    ``groups`` is None where no model knows gene sets; ``pictures`` holds a ``data:`` URI for each SVG by
    the name of its file; ``summaries`` holds fit.json by (model, n_factors, seed); ``fits`` lists (model,
    n_factors) of every fit.
    """

    metrics: pd.DataFrame
    genes: pd.DataFrame
    gene_sets_given: bool
    enrichment: pd.DataFrame
    enrichment_summary: pd.DataFrame
    enrichment_notes: Sequence[str]
    usage: pd.DataFrame
    conditions: pd.DataFrame | None
    consensus: pd.DataFrame
    n_factors: pd.DataFrame
    stability: pd.DataFrame
    tbr: pd.DataFrame | None
    qc: Mapping[str, Any]
    pictures: Mapping[str, str]
    summaries: Mapping[tuple[str, int, int], Mapping[str, Any]]
    fits: Sequence[tuple[str, int]]
    groups: pd.DataFrame | None = None
    tbr_more: Mapping[str, pd.DataFrame] = field(default_factory=dict)


def read_inputs(results: Path, atlas_name: str, config: Mapping[str, Any]) -> Inputs:
    """Read the folder of one atlas; what an earlier config left there is not read.

    Tables and fits come in the config's order of models, references that are no models of it last.

    Raises
    ------
    InputError
        A table that every run writes is missing.
    """
    models = {name: settings for name, settings in config["models"].items() if settings is not None}
    fits = [(name, k) for name, settings in models.items() for k in settings["n_factors"]]
    place = {name: i for i, name in enumerate(models)}

    def table(name: str) -> pd.DataFrame:
        found = _table(results, name)
        return found.sort_values("model", key=lambda m: m.map(place).fillna(len(place)), kind="stable")

    def of_consensus(name: str) -> pd.DataFrame:
        found = table(name)
        return found[found["seed"] == CONSENSUS].reset_index(drop=True)

    metrics = table("metrics")
    atlas = config["atlases"][atlas_name]
    return Inputs(
        # means over seeds are of single fits
        metrics=metrics[metrics["seed"] != CONSENSUS],
        genes=of_consensus("genes"),
        gene_sets_given=bool(atlas.get("gene_sets")),
        enrichment=of_consensus("enrichment"),
        enrichment_summary=of_consensus("enrichment_summary"),
        enrichment_notes=read_json(_existing(results / "tables" / "enrichment_notes.json")),
        usage=of_consensus("usage"),
        conditions=of_consensus("conditions") if atlas.get("condition") else None,
        consensus=table("consensus"),
        n_factors=table("n_factors"),
        stability=table("stability"),
        tbr=_table(results, "tbr") if config.get("tbr") else None,
        qc=read_json(_existing(results / "qc.json")),
        pictures={
            name: data_uri(path.read_text(encoding="utf-8"))
            for name in _figures(fits, phenotype_kind(config))
            if (path := results / "figures" / name).is_file()
        },
        summaries={
            (model, k, seed): read_json(path)
            for model, k in fits
            for seed in config["seeds"]
            if (path := results / "fits" / model / f"k{k}" / f"seed{seed}" / "fit.json").is_file()
        },
        fits=fits,
        groups=_table(results, "group_summary") if "oi_vae" in models else None,
        tbr_more={
            name: _table(results, name)
            for name in TBR_TABLES[phenotype_kind(config)]
            if (results / "tables" / f"{name}.tsv").is_file()
        },
    )


def phenotype_kind(config: Mapping[str, Any]) -> str:
    """``measured`` or ``simulated``, "" where tree-based regularisation did not run."""
    tbr = config.get("tbr")
    return str((tbr.get("phenotype") or {}).get("kind", "simulated")) if tbr else ""


def _figures(fits: Sequence[tuple[str, int]], kind: str) -> list[str]:
    """Names of the pictures that a run of the config may draw; not every model has every kind."""
    of_tbr = {"": [], "simulated": ["tbr.svg"], "measured": ["tbr.svg", "tbr_tree.svg"]}[kind]
    kinds = ("embedding", "umap", "loadings", "training", "groups", "usage", "conditions")
    of_fits = [f"{kind}_{model}_k{k}.svg" for model, k in fits for kind in kinds]
    of_all = ["tree.svg", "scores.svg", "stability.svg", "n_factors.svg", "sparsity.svg"]
    return [*of_all, *of_fits, *of_tbr]


def _table(results: Path, name: str) -> pd.DataFrame:
    """A table whose columns of numbers are numbers; what is none becomes NaN."""
    table = read_table(_existing(results / "tables" / f"{name}.tsv"))
    for column in set(_NUMBERS) & set(table.columns):
        table[column] = pd.to_numeric(table[column], errors="coerce")
    return table


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(path, "no such file", "Run the workflow up to this file; the report is made from it")
    return path
