"""Gene sets from GMT files and tables of regulons, matched to the genes of an atlas.

A GMT line is ``set name <tab> description <tab> gene <tab> gene ...``. Symbols are compared as they are
within one organism and by upper case between mouse and human, which maps most one-to-one orthologues.
"""

import gzip
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from latentree.errors import InputError, listed
from latentree.regulons import is_pair_table, regulons

_ENSEMBL = re.compile(r"ENS[A-Z]{0,4}G\d{6,}(\.\d+)?")
# the only lower case in approved human symbols, which some libraries (Enrichr's) write in capitals
_HUMAN_ORF = re.compile(r"C([0-9XY]+)orf(\d+)")
# Enrichr's own downloads carry a membership weight behind each gene
_WEIGHT = re.compile(r",[0-9.eE+-]+$")


@dataclass(frozen=True)
class GeneSets:
    """The gene sets of one file.

    Attributes
    ----------
    file
        Where they come from.
    sets
        Set name, kept verbatim, to its distinct genes in the file's order.
    notes
        What was done to sets that are there twice or hold no gene.
    """

    file: str
    sets: dict[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()

    @property
    def organism(self) -> str | None:
        """``human`` where most symbols are in capitals, ``mouse`` where most are Capitalised, else None."""
        return organism_by_case({gene for genes in self.sets.values() for gene in genes})


@dataclass(frozen=True)
class MatchedSets:
    """Gene sets in an atlas's own gene names.

    Attributes
    ----------
    sets
        Set name to the atlas's genes in it, in the atlas's order; sets without any are left out.
    notes
        What a reader of the enrichment has to know: mappings, files without overlap, renamed sets.
    """

    sets: dict[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()


def read_sets(path: str | Path, confidence: Sequence[str] | None = None) -> GeneSets:
    """Read a GMT file or a table of pairs tf and target, gzipped or not.

    ``confidence`` chooses rows of a table (:func:`latentree.regulons.regulons`), none of a GMT file.
    """
    lines = _lines(path)
    if not is_pair_table(lines):
        return read_gmt(path)
    return GeneSets(str(path), *regulons(lines, path, confidence))


def holds_regulons(path: str | Path) -> bool:
    """Whether a file is a table of pairs tf and target."""
    return is_pair_table(_lines(path))


def read_gmt(path: str | Path) -> GeneSets:
    """Read a GMT file, gzipped or not.

    A set that is there twice with the same genes is kept once; with other genes it is kept as ``name
    [2]``. Sets without genes are left out. Both are noted.

    Raises
    ------
    InputError
        For a file that is missing, is no UTF-8 text, or holds no set, and for a broken line, with its number.
    """
    sets: dict[str, tuple[str, ...]] = {}
    twice, renamed, without = [], [], []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        name, genes = _parse_line(line, f"{path}, line {number}")
        if not genes:
            without.append(name)
        elif name in sets and set(sets[name]) == set(genes):
            twice.append(name)
        else:
            new = _free_name(name, sets)
            if new != name:
                renamed.append(new)
            sets[new] = genes
    if not sets:
        raise InputError(
            path, "holds no gene set", "Give a GMT file: name, description, genes, tab-separated"
        )
    notes = [
        f"{path}: {text} {listed(names)}"
        for text, names in (
            ("sets there twice with the same genes, kept once:", twice),
            ("sets there twice with different genes, the later one renamed:", renamed),
            ("sets without genes, left out:", without),
        )
        if names
    ]
    return GeneSets(str(path), sets, tuple(notes))


def match(gene_sets: GeneSets, genes: Sequence[str], organism: str) -> MatchedSets:
    """Translate gene sets into the gene names of an atlas.

    Parameters
    ----------
    gene_sets
        Sets of one file.
    genes
        All gene names of the atlas, length n_genes.
    organism
        The atlas's organism, ``human`` or ``mouse``.

    Raises
    ------
    InputError
        Where one side has Ensembl ids and the other symbols, and where an atlas shares no gene with sets
        of its own organism. Between organisms, no shared gene is a note and an empty result.
    """
    _same_kind_of_names(gene_sets, genes)
    theirs = gene_sets.organism
    crossed = theirs is not None and theirs != organism
    key = str.upper if crossed else _spelling
    by_key: dict[str, list[str]] = {}
    for gene in genes:
        by_key.setdefault(key(gene), []).append(gene)
    rank = {gene: i for i, gene in enumerate(genes)}
    matched = {}
    for name, members in gene_sets.sets.items():
        found = {gene for member in members for gene in by_key.get(key(member), ())}
        if found:
            matched[name] = tuple(sorted(found, key=rank.__getitem__))
    notes = list(gene_sets.notes)
    if crossed:
        n_found = len({gene for found in matched.values() for gene in found})
        notes.append(
            f"{gene_sets.file}: the sets hold {theirs} symbols and the atlas is {organism}; symbols were "
            f"mapped by upper case, {n_found} of the atlas's {len(rank)} genes are in some set"
        )
        if not matched:
            notes.append(f"{gene_sets.file}: no gene is shared with the atlas, so nothing is tested")
    elif not matched:
        raise _no_overlap(gene_sets, genes, organism)
    return MatchedSets(matched, tuple(notes))


def match_files(
    paths: Sequence[str | Path],
    genes: Sequence[str],
    organism: str,
    confidence: Sequence[str] | None = None,
) -> MatchedSets:
    """Read several files (:func:`read_sets`) and :func:`match` each.

    A name that several files use is kept as it is for the first and becomes ``name [file]`` for the others,
    which is noted.
    """
    sets: dict[str, tuple[str, ...]] = {}
    notes: list[str] = []
    for path in paths:
        matched = match(read_sets(path, confidence), genes, organism)
        notes += matched.notes
        shared = sorted(matched.sets.keys() & sets.keys())
        if shared:
            notes.append(
                f"{path}: set names that an earlier file uses carry the file's name: {listed(shared)}"
            )
        for name, members in matched.sets.items():
            unique = _free_name(f"{name} [{Path(path).name}]", sets) if name in sets else name
            sets[unique] = members
    if not paths:
        notes.append("no gene sets are given, so nothing is tested")
    return MatchedSets(sets, tuple(notes))


def _lines(path: str | Path) -> list[str]:
    """The lines of a text file, gzipped where its first bytes say so."""
    try:
        content = Path(path).read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(path, "no such file", "Give the path of a GMT file") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(path, f"cannot be read as text ({error})", "Give a GMT file in UTF-8") from None
    # not splitlines(): a set's name may hold any other separator of Unicode
    return text.replace("\r\n", "\n").split("\n")


def _parse_line(line: str, where: str) -> tuple[str, tuple[str, ...]]:
    """Name and distinct genes of a GMT line."""
    fields = line.split("\t")
    if len(fields) < 3:
        found = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
        raise InputError(
            where,
            f"has {found} separated by tabs instead of at least 3: {line[:60]!r}",
            "Write name, description and genes, separated by tabs",
        )
    name = fields[0]
    if not name.strip():
        raise InputError(where, f"has no set name: {line[:60]!r}", "Name the set in the first field")
    genes = (_WEIGHT.sub("", field.strip()) for field in fields[2:])
    return name, tuple(dict.fromkeys(gene for gene in genes if gene))


def _free_name(name: str, taken: dict[str, tuple[str, ...]]) -> str:
    """``name``, or ``name [2]``, ``name [3]``, ... where it is taken."""
    new, number = name, 1
    while new in taken:
        number += 1
        new = f"{name} [{number}]"
    return new


def organism_by_case(symbols: Iterable[str]) -> str | None:
    """Organism by the case of most symbols; None where most have neither spelling or are Ensembl ids."""
    words = [
        symbol for symbol in symbols if any(c.isalpha() for c in symbol) and not _ENSEMBL.fullmatch(symbol)
    ]
    upper = sum(word.isupper() for word in words)
    capitalised = sum(word[0].isupper() and any(c.islower() for c in word) for word in words)
    if 2 * upper > len(words):
        return "human"
    return "mouse" if 2 * capitalised > len(words) else None


def _spelling(gene: str) -> str:
    """``C1orf43`` as ``C1ORF43``, an Ensembl id without its version; every other name as it is."""
    if _ENSEMBL.fullmatch(gene):
        return gene.partition(".")[0]
    return _HUMAN_ORF.sub(r"C\1ORF\2", gene)


def _mostly_ensembl(names: Iterable[str]) -> bool:
    names = list(names)
    return 2 * sum(_ENSEMBL.fullmatch(name) is not None for name in names) > len(names)


def _same_kind_of_names(gene_sets: GeneSets, genes: Sequence[str]) -> None:
    """Refuse Ensembl ids on one side and symbols on the other."""
    members = list(dict.fromkeys(gene for found in gene_sets.sets.values() for gene in found))
    if _mostly_ensembl(genes) == _mostly_ensembl(members):
        return
    if _mostly_ensembl(genes):
        raise InputError(
            gene_sets.file,
            f"holds gene symbols ({listed(members, 3)}) but the atlas has Ensembl ids ({listed(genes, 3)})",
            "Name the column of gene symbols in the atlas's key symbol_column",
        )
    raise InputError(
        gene_sets.file,
        f"holds Ensembl ids ({listed(members, 3)}) but the atlas has gene symbols ({listed(genes, 3)})",
        "Give a GMT file of gene symbols",
    )


def _no_overlap(gene_sets: GeneSets, genes: Sequence[str], organism: str) -> InputError:
    """The error for sets of the atlas's own organism that hold none of its genes."""
    members = list(dict.fromkeys(gene for found in gene_sets.sets.values() for gene in found))
    looks = organism_by_case(genes)
    remedy = "Give gene sets of the same organism and the same kind of gene names"
    if looks is not None and looks != organism:
        remedy = f"The atlas's genes look like {looks} symbols: set its key organism to {looks}"
    return InputError(
        gene_sets.file,
        f"none of the atlas's {len(genes)} genes ({listed(genes, 3)}) is among the {len(members)} genes of "
        f"the {len(gene_sets.sets)} sets ({listed(members, 3)}); organism: {organism}",
        remedy,
    )
