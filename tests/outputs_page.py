"""docs/outputs.md as data: the files, columns and keys it names, and what of a results folder it lacks."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata as ad

from latentree.files import read_table
from workflow_harness import ROOT

PAGE = (ROOT / "docs" / "outputs.md").read_text()

# dictionaries whose keys are those of the config, of packages, of wildcards, or sentences
_FREE = {"settings", "resolved", "versions", "config", "wildcards", "dropped"}
# columns whose values are names that need an explanation, too
_NAMING = {"metrics.tsv": "metric", "tbr.tsv": "metric", "tbr_identifiability.tsv": "quantity"}
# files whose obs and var also hold the columns of the atlas as found
_WITH_THE_ATLASES_COLUMNS = {"atlas.h5ad", "cells.h5ad"}


def section(title: str) -> str:
    """The text below a heading, down to the next of its level or a higher one."""
    level = re.search(rf"^(#+) {re.escape(title)}$", PAGE, re.M)
    assert level, f"docs/outputs.md has no section {title!r}"
    rest = PAGE[level.end() :]
    end = re.search(rf"^#{{1,{len(level[1])}}} ", rest, re.M)
    return rest[: end.start()] if end else rest


def named(text: str) -> set[str]:
    """What stands in backticks."""
    return set(re.findall(r"`([^`\n]+)`", text))


def _rows(text: str) -> Iterator[list[str]]:
    """Cells of each row of the Markdown tables in a text."""
    for line in text.splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def _pattern(shown: str) -> str:
    """A regular expression of a name with ``<placeholders>``."""
    return re.sub(r"<\w+>", r"[^/]+", re.escape(shown))


FILES = [_pattern(name) for row in _rows(section("Files")) for name in named(row[0])]


def columns_of_tables() -> dict[str, list[str]]:
    """The columns that the page gives each table, by the name of the table."""
    found = {}
    for row in _rows(section("Tables")):
        names = [name for name in named(row[0]) if name.endswith(".tsv")]
        if names:
            plain = re.sub(r"\([^()]*\)", "", row[-1])
            found[names[0]] = re.findall(r"\w+", plain.split(";")[0])
            if "; measured:" in plain:
                found[f"measured {names[0]}"] = re.findall(r"\w+", plain.split("; measured:")[1])
    for name, columns in found.items():
        if columns[0] == "as":  # as `table.tsv`
            found[name] = found[".".join(columns[1:])]
    return found


def undocumented(results: Path) -> list[str]:
    """What of a results folder the page does not name: files, columns, keys, metrics."""
    problems = []
    for path in sorted(results.rglob("*")):
        name = path.relative_to(results).as_posix()
        if path.is_dir() or ".snakemake" in path.parts:
            continue
        if not any(re.fullmatch(pattern, name) for pattern in FILES):
            problems.append(f"{name}: no such file")
        if path.suffix == ".tsv" and not name.startswith("benchmarks/"):
            problems += [f"{name}: {problem}" for problem in _of_a_table(path)]
        if path.suffix == ".h5ad":
            problems += [f"{name}: {problem}" for problem in _of_an_anndata(path)]
        if path.suffix == ".json" and path.name != "enrichment_notes.json":
            problems += [f"{name}: {problem}" for problem in _of_a_json(path)]
        if path.parent.name == "figures":
            known = "|".join(map(_pattern, named(section("Pictures"))))
            if not re.fullmatch(known, path.stem):
                problems.append(f"{name}: no such picture")
    return problems


def _of_a_table(path: Path) -> Iterator[str]:
    table = read_table(path)
    known = columns_of_tables()
    place = "/".join(path.parts[-2:])
    if path.parent.parent.name == "tbr":
        place = f"tbr/<estimator>/{path.name}"
    (key,) = {path.name, place} & known.keys() - ({path.name} if place in known else set())
    columns = known[key]
    if f"measured {key}" in known and "estimator" in table.columns:
        columns = known[f"measured {key}"]
    if path.name == "history.tsv":
        columns = [column for column in columns if column in set(table.columns)]
    if list(table.columns) != columns:
        yield f"columns are {list(table.columns)}, on the page {columns}"
    naming = _NAMING.get(path.name)
    if naming in table.columns:
        text = section("Remarks on the tables")
        patterns = [_pattern(name) for name in named(text)]
        # with the references of every metric of a measured phenotype
        patterns += [f"{pattern}_(baseline|types|constant)" for pattern in patterns]
        for value in sorted(set(table[naming])):
            if not any(re.fullmatch(pattern, value) for pattern in patterns):
                yield f"{naming} {value}"


def _of_an_anndata(path: Path) -> Iterator[str]:
    found = ad.read_h5ad(path)
    known = named(section("AnnData files"))
    patterns = [_pattern(name) for name in known]
    for slot in ("obsm", "varm", "layers"):
        for key in getattr(found, slot):
            if not any(re.fullmatch(pattern, f'{slot}["{key}"]') for pattern in patterns):
                yield f"{slot} {key}"
    if path.name not in _WITH_THE_ATLASES_COLUMNS:
        yield from (f"{column} in obs or var" for column in [*found.obs, *found.var] if column not in known)
    for key, value in found.uns.get("latentree", {}).items():
        if key not in known:
            yield f"uns key {key}"
        columns = value if isinstance(value, dict) else getattr(value, "columns", ())
        yield from (f"uns[{key!r}] {column}" for column in columns if column not in known)


def _of_a_json(path: Path) -> Iterator[str]:
    sections = {"qc.json": "qc.json", "fit.json": "fit.json"}
    known = named(section(sections.get(path.name, "Provenance")))
    content = json.loads(path.read_text())
    if path.name != "plan.json":
        yield from sorted(key for key in set(_keys(content)) if key not in known and not key.isdigit())


def _keys(content: Any) -> Iterator[str]:
    """Names of keys at all depths, but for those of dictionaries whose keys are free."""
    if isinstance(content, list):
        for item in content:
            yield from _keys(item)
    elif isinstance(content, dict):
        for key, value in content.items():
            yield key
            if key not in _FREE:
                yield from _keys(value)
