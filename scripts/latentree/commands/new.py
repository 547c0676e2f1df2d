"""``latentree new``: look at an atlas and write a commented config for it."""

import re
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from latentree.atlas.cleaning import ENSEMBL_ID, GeneNames, gene_names
from latentree.atlas.sampling import Sampled, sampled_atlas
from latentree.atlas.values import Choice, choose_matrix
from latentree.commands.guesses import (
    Column,
    Columns,
    Guess,
    columns_of,
    guess_batch,
    guess_cell_type,
    guess_condition,
    guess_library_size,
    guess_reference,
    guess_sample,
    guess_split,
    labels_without_type,
)
from latentree.config import RESERVED_NAMES, AtlasSettings, checked, load_config
from latentree.errors import InputError, listed
from latentree.files import write_text
from latentree.gene_sets import match, organism_by_case, read_gmt
from latentree.settings import PreprocessSettings

GENE_SETS = "resources/gene_sets/immune_programs.gmt"
_ROOT = Path(__file__).resolve().parents[3]
_ORGANISMS = {"human": ("ENSG", "9606", "homo sapiens"), "mouse": ("ENSMUSG", "10090", "mus musculus")}
_PREFIXES = {"human": r"(GRCh|hg)\d+_", "mouse": r"(GRCm|mm)\d+_"}
_MANY_CELLS = 100_000
_WIDTH = 108


@dataclass(frozen=True)
class Entry:
    """A key of the config: its value, or None where it stays a comment, and what is said above it."""

    key: str
    value: object
    said: str
    instead: str = "COLUMN"
    """Shown behind the key where it stays a comment."""


def new(atlas: str, output: str | None) -> int:
    """Write a config for an atlas; 0, or an :class:`InputError` with nothing written.

    Raises
    ------
    InputError
        The file is no usable atlas or has no groups of cells at all, or the config is there already.
    """
    path = Path(atlas)
    checked(AtlasSettings, {"path": atlas, "cell_type": ""}, "ATLAS")
    sampled = sampled_atlas(path, atlas)
    name = atlas_name(path)
    target = Path(output) if output is not None else Path("config", f"{name}.yaml")
    if target.exists():
        raise InputError(target, "is there already", "Name another file by --output, or move this one away")
    entries = _entries(sampled, atlas)
    text = _page(name, target, atlas, sampled, entries)
    lacks_type = next(entry for entry in entries if entry.key == "cell_type").value is None
    if not lacks_type:
        # what is written is a config that the workflow takes
        load_config(yaml.safe_load(text))
    write_text(text, target)
    _tell(target, entries, lacks_type)
    return 0


def atlas_name(path: Path) -> str:
    """A name for the atlas after its file: letters, digits, _ and -, and no folder of the results."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", path.name.removesuffix(".h5ad")).strip("_-") or "atlas"
    return f"{name}_atlas" if name in RESERVED_NAMES else name


def _entries(sampled: Sampled, atlas: str) -> list[Entry]:
    """The keys of the atlas, in the order of the config."""
    obs = sampled.source.obs
    columns = columns_of(obs)
    choice, matrix = _matrix(sampled, atlas)
    named = gene_names(choice.candidate.genes, None, atlas, "symbol_column")
    cell_type = guess_cell_type(columns)
    if not columns.groups:
        raise InputError(
            atlas,
            f"{cell_type.why}; none of its {len(obs.columns)} obs columns puts the cells into groups",
            "Add a column of cell types (or of clusters) to obs and write the file again",
        )
    types = _column(columns, cell_type.value)
    condition = guess_condition(columns, [cell_type.value])
    compared = _column(columns, condition.value)
    taken = [cell_type.value, condition.value]
    preprocess = PreprocessSettings()  # type: ignore[call-arg]
    fractions = (preprocess.test_fraction, preprocess.validation_fraction)
    organism = guess_organism(obs, choice.candidate.genes, named)
    entries = [_entry("cell_type", cell_type)]
    ignored = labels_without_type(types) if types is not None else []
    if ignored:
        entries.append(Entry("ignore_cell_types", ignored, "these labels mean no cell type"))
    entries.append(Entry("organism", organism.value or "human", organism.why))
    entries.append(matrix)
    entries.append(_symbols_entry(named, choice.candidate.genes))
    if choice.kind == "counts":
        sums = sampled.sums.get(choice.candidate.name)
        entries.append(_entry("library_size", guess_library_size(columns, obs, sums, len(named.names))))
    entries.append(_entry("split_by", guess_split(columns, taken, types, fractions)))
    entries.append(_entry("batch", guess_batch(columns, taken, types, compared)))
    if compared is not None:
        sample = guess_sample(columns, taken, compared)
        entries += _comparison_entries(condition, guess_reference(compared), sample)
    entries.append(_gene_sets_entry(named, organism.value or "human"))
    return entries


def _comparison_entries(condition: Guess, reference: Guess, sample: Guess) -> list[Entry]:
    """What is compared between samples; comments alone where there are none to test over."""
    known = sample.value is not None
    compared = {"condition": condition, "reference": reference, "sample": sample}
    return [
        _entry(key, guess, known, "VALUE" if key == "reference" else "COLUMN")
        for key, guess in compared.items()
    ]


def _entry(key: str, guess: Guess, written: bool = True, instead: str = "COLUMN") -> Entry:
    others = f"; others: {', '.join(guess.others)}" if guess.others else ""
    said = guess.why + others
    if guess.value is not None and not written:
        return Entry(key, None, said, _yaml(guess.value))
    return Entry(key, guess.value, said, instead)


def guess_organism(obs: pd.DataFrame, genes: pd.DataFrame, named: GeneNames) -> Guess:
    """human or mouse: by a column that says so, by Ensembl ids, or by the case of the symbols."""
    for table in (obs, genes):
        for column in table.columns:
            if not str(column).lower().startswith(("organism", "species", "feature_reference")):
                continue
            held = {str(value).lower() for value in table[column].unique()}
            for organism, (_, taxon, latin) in _ORGANISMS.items():
                if all(re.search(rf"\b({taxon}|{latin}|{organism})\b", value) for value in held):
                    return Guess(organism, f"column {str(column)!r} says so")
    ids = [str(name) for name in (named.names if named.ids is None else named.ids)]
    for organism, (prefix, _, _) in _ORGANISMS.items():
        starting = sum(re.match(rf"{prefix}\d", name) is not None for name in ids)
        if 2 * starting > len(ids):
            return Guess(organism, f"Ensembl ids begin with {prefix}")
    if sum(ENSEMBL_ID.fullmatch(name) is not None for name in ids) * 2 <= len(ids):
        for organism, prefix in _PREFIXES.items():
            if 2 * sum(re.match(prefix, name) is not None for name in ids) > len(ids):
                return Guess(organism, f"gene names such as {listed(named.names[:3])} begin with its genome")
        case = organism_by_case(named.names)
        if case is not None:
            spelt = "in capitals" if case == "human" else "Capitalised"
            return Guess(case, f"most symbols are {spelt}, such as {listed(named.names[:3])}")
    return Guess(None, f"NOT FOUND in gene names such as {listed(named.names[:3])}: say human or mouse")


def _matrix(sampled: Sampled, atlas: str) -> tuple[Choice, Entry]:
    """The matrix that auto takes; but counts of all genes in raw.X before counts of some elsewhere."""
    candidates = sampled.source.candidates
    choice = choose_matrix(candidates, "auto", atlas, str)
    seen = "; ".join(f"{row['name']}: {row['looks_like']}" for row in choice.seen)
    said = f"in a sample of the values, auto takes {choice.candidate.name}: {choice.why} ({seen})"
    entry = Entry("matrix", "auto", said)
    raw = next((candidate for candidate in candidates if candidate.key == "raw"), None)
    n_genes = len(choice.candidate.genes)
    if choice.kind != "counts" or raw is None or len(raw.genes) <= n_genes:
        return choice, entry
    try:
        wider = choose_matrix([raw], "raw", atlas, str)
    except InputError:
        return choice, entry
    if wider.kind != "counts":
        return choice, entry
    said = (
        f"raw.X holds counts of {len(raw.genes):,} genes; auto would take {choice.candidate.name}, which has"
        f" {n_genes:,} of them only"
    )
    return wider, Entry("matrix", "raw", said)


def _symbols_entry(named: GeneNames, genes: pd.DataFrame) -> Entry:
    if named.symbol_column is not None:
        return Entry("symbol_column", named.symbol_column, "var_names are ids, and this column has symbols")
    if named.kind == "symbols":
        return Entry("symbol_column", None, f"var_names are symbols, such as {listed(named.names[:3])}")
    there = listed(genes.columns) or "none"
    said = f"NOT FOUND: var_names are {named.kind}, and no var column holds symbols (columns: {there})"
    return Entry("symbol_column", None, f"{said}; gene sets of symbols cannot be tested")


def _gene_sets_entry(named: GeneNames, organism: str) -> Entry:
    """The gene sets that come with latentree, where they say something of this atlas."""
    file = _ROOT / GENE_SETS
    if not file.is_file():
        return Entry("gene_sets", None, "GMT files for the enrichment", "[FILE.gmt]")
    try:
        found = match(read_gmt(file), list(named.names), organism).sets
    except InputError:
        found = {}
    n_usable = sum(len(genes) >= 5 for genes in found.values())
    said = (
        f"{n_usable} of 82 programs of immune cells have 5 genes or more here; name GMT files of your tissue"
    )
    return Entry("gene_sets", [GENE_SETS] if n_usable else None, said, "[FILE.gmt]")


def _column(columns: Columns, name: str | None) -> Column | None:
    return next((column for column in columns.groups if column.name == name), None)


# ---- the page


def _page(name: str, target: Path, atlas: str, sampled: Sampled, entries: Sequence[Entry]) -> str:
    n_cells = len(sampled.source.obs)
    n_genes = sampled.source.n_genes
    size = f"{n_cells:,} cells, {n_genes:,} genes"
    lines = [
        *_comment(
            f"Written by `python -m latentree new` from {atlas}: {size}. Every value is a guess; above it"
            " stands why, and what else there is. Then:",
            "",
        ),
        f"#   latentree check {shlex.quote(str(target))}",
        f"#   snakemake --cores 2 --configfile {shlex.quote(str(target))}",
        "# Paths are relative to the working directory. Every key: config/README.md.",
        "results: results",
        "",
        "atlases:",
        f"  {_yaml(name)}:",
        f"    path: {_yaml(atlas)}",
    ]
    for entry in entries:
        lines += _comment(entry.said, "    ")
        if entry.value is not None:
            lines.append(f"    {entry.key}: {_yaml(entry.value)}")
        elif entry.key == "cell_type":
            lines.append("    cell_type:  # NOT FOUND: name the obs column of cell types here")
        else:
            lines.append(f"    # {entry.key}: {entry.instead}")
    lines += ["", *_runs(n_cells, n_genes, entries)]
    return "\n".join(lines) + "\n"


def _runs(n_cells: int, n_genes: int, entries: Sequence[Entry]) -> Iterator[str]:
    """Models, seeds and refits that suit the size."""
    k = 10 if n_cells < 1000 else 15 if n_cells < 20_000 else 20
    k = max(2, min(k, n_genes // 5, n_cells // 20))
    yield from _comment("every model is fitted once per seed; stability over seeds needs at least two", "")
    yield "seeds: [0, 1, 2]"
    yield ""
    yield "models:"
    yield from _comment(
        f"{k} factors suit {n_cells:,} cells and {n_genes:,} genes to begin with; [{max(2, k // 2)}, {k},"
        f" {2 * k}] compares numbers. sparse_vae: few genes per factor; nmf and pca: its references",
        "  ",
    )
    for model in ("sparse_vae", "nmf", "pca"):
        yield f"  {model}: {{ n_factors: {k} }}"
    if n_cells > _MANY_CELLS:
        yield from _comment(f"the VAE takes hours for {n_cells:,} cells", "  ")
        yield f"  # vae: {{ n_factors: {k} }}"
    else:
        yield f"  vae: {{ n_factors: {k} }}"
    yield f"  ica: {{ n_factors: {k} }}"
    yield ""
    few = n_cells > _MANY_CELLS
    yield from _comment("fits to other cells, which tell how far factors are the tissue's; both 0: none", "")
    yield "downstream:"
    yield f"  stability: {{ n_resamples: {2 if few else 3}, n_halves: 1 }}"
    yield ""
    condition = next((entry for entry in entries if entry.key == "condition"), None)
    column = "" if condition is None else condition.value or condition.instead
    yield from _comment(
        "Tree-based regularisation along the tree of cell types is off. `tbr: {}` tests it on a simulated"
        " phenotype; a phenotype of your own, such as a condition of two values (docs/tutorial-tbr.md):",
        "",
    )
    yield f"# tbr: {{ phenotype: {{ column: {column or 'COLUMN'} }} }}"
    yield ""
    yield "# auto: a GPU where there is one"
    yield "device: auto"


def _comment(text: str, indent: str) -> list[str]:
    # a name may hold a line end, and no comment goes past one
    plain = " ".join(text.split())
    return textwrap.wrap(
        plain, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ", break_on_hyphens=False
    )


def _yaml(value: object) -> str:
    """A value on one line, quoted where YAML needs it."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
    text = text.removesuffix("...\n").strip()
    if len(text.splitlines()) == 1 and text.isprintable():
        return text
    # line ends and what no terminal shows as escapes
    return yaml.safe_dump(value, default_flow_style=True, default_style='"', width=10**6).strip()


def _tell(target: Path, entries: Sequence[Entry], lacks_type: bool) -> None:
    print(f"wrote {target}")
    for entry in entries:
        left = "-" if entry.instead in ("COLUMN", "VALUE") else f"left as a comment: {entry.instead}"
        shown = left if entry.value is None else _yaml(entry.value)
        print(f"  {entry.key}: {shown}  ({entry.said})")
    if lacks_type:
        print(f"cell_type was not found: name the obs column of cell types in {target}, then")
    print(f"next: latentree check {shlex.quote(str(target))}")
