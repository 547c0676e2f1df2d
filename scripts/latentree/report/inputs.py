"""What the page is made of, read from one atlas's folder of results."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from latentree.errors import InputError
from latentree.files import read_json, read_table

_NUMBERS = ("value", "loading", "q_value", "p_value", "agreement")


@dataclass(frozen=True)
class Inputs:
    """Tables, decisions and pictures of one atlas.

    ``tbr`` is None where the stage did not run; ``pictures`` holds a ``data:`` URI for each SVG by the
    name of its file; ``summaries`` holds fit.json by (model, n_factors, seed).
    """

    metrics: pd.DataFrame
    genes: pd.DataFrame
    enrichment: pd.DataFrame
    stability: pd.DataFrame
    tbr: pd.DataFrame | None
    qc: Mapping[str, Any]
    pictures: Mapping[str, str]
    summaries: Mapping[tuple[str, int, int], Mapping[str, Any]]

    def fits(self, first_seed: int) -> list[tuple[str, int]]:
        """(model, n_factors) of every fit, in the order of the gene table, the first seed's before others."""
        keys = self.genes[["seed", "model", "n_factors"]].drop_duplicates()
        ordered = keys.sort_values("seed", key=lambda s: s.astype(str) != str(first_seed), kind="stable")
        listed = [
            (str(model), int(k)) for model, k in zip(ordered["model"], ordered["n_factors"], strict=True)
        ]
        # a fit whose factors all died has no gene, and is shown all the same
        listed += [(model, k) for model, k, _ in self.summaries]
        return list(dict.fromkeys(listed))


def read_inputs(results: Path, *, with_tbr: bool) -> Inputs:
    """Read the folder of one atlas.

    Raises
    ------
    InputError
        A table that every run writes is missing.
    """
    summaries = {}
    for path in sorted(results.glob("fits/*/k*/seed*/fit.json")):
        model, k, seed = path.parts[-4], path.parts[-3], path.parts[-2]
        summaries[model, int(k[1:]), int(seed[4:])] = read_json(path)
    return Inputs(
        metrics=_table(results, "metrics"),
        genes=_table(results, "genes"),
        enrichment=_table(results, "enrichment"),
        stability=_table(results, "stability"),
        tbr=_table(results, "tbr") if with_tbr else None,
        qc=read_json(_existing(results / "qc.json")),
        pictures={path.name: _data_uri(path) for path in sorted(results.glob("figures/*.svg"))},
        summaries=dict(sorted(summaries.items())),
    )


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


def _data_uri(path: Path) -> str:
    """The picture inside the page: as an image of its own, so that ids of two SVGs cannot clash."""
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
