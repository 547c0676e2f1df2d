"""What is wrong with an atlas under a config: as the atlas stage would find it, on a sample of the values."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from latentree.atlas.cleaning import GeneNames, cell_names, gene_names
from latentree.atlas.prepare import checked_sha256
from latentree.atlas.sampling import Sampled, sampled_atlas
from latentree.atlas.values import Choice, choose_matrix
from latentree.commands.column_checks import (
    column_problems,
    comparison_notes,
    confounded_notes,
    label_notes,
    labels_in,
    missing_in,
)
from latentree.config import AtlasSettings, Config
from latentree.errors import InputError, listed
from latentree.gene_sets import match, read_sets
from latentree.input_checks import Locate, factor_problems, header_problems, noted, own_files
from latentree.tbr_regulators import Regulators
from latentree.tree import Tree

_QUICKLY_HASHED = 2**30
"""Bytes of a file whose checksum takes a second or two; that of a larger one is left to its job."""


@dataclass(frozen=True)
class AtlasFacts:
    """What an atlas is, for people and for estimates.

    Attributes
    ----------
    n_cells, n_types
        Cells and cell types that are kept.
    n_genes, n_modelled
        Genes of the matrix taken, and those of them that are modelled at most.
    n_stored
        Stored values of the matrix taken.
    bytes
        Size of the file.
    description
        One line for people.
    notes
        Remarks that are no problems.
    """

    n_cells: int
    n_types: int
    n_genes: int
    n_modelled: int
    n_stored: int
    bytes: int
    has_counts: bool
    description: str
    notes: tuple[str, ...] = ()


class AtlasChecks:
    """Checks atlases one by one; ``facts`` holds by name what the good ones are."""

    def __init__(self, locate: Locate) -> None:
        self._locate = locate
        self.facts: dict[str, AtlasFacts] = {}

    def __call__(self, name: str, atlas: AtlasSettings, config: Config, path: Path) -> list[InputError]:
        """Everything that is wrong with one atlas that is a file."""
        found: list[InputError] = []
        if atlas.sha256 is not None and path.stat().st_size <= _QUICKLY_HASHED:
            with noted(found):
                checked_sha256(path, atlas, f"config key atlases.{name}.{{}}".format)
        with noted(found):
            sampled = sampled_atlas(path, atlas.path)
            found += header_problems(name, atlas, config, path)
            found += self._looked_at(name, atlas, config, path, sampled)
        return found

    def _looked_at(
        self, name: str, atlas: AtlasSettings, config: Config, path: Path, sampled: Sampled
    ) -> list[InputError]:
        found: list[InputError] = []
        key = partial("config key atlases.{}.{}".format, name)
        obs = sampled.source.obs
        with noted(found):
            cell_names(obs, atlas.path)
        types = Counter[str]()
        labels = labels_in(obs, atlas.cell_type)
        # where types are not known, other columns are looked at as if all cells were of one
        kept, known = np.ones(len(obs), dtype=bool), np.full(len(obs), "", dtype=object)
        if labels is not None:
            with noted(found):
                kept = _kept_cells(obs, labels, atlas, config, key("cell_type"))
                known, types = labels, Counter(labels[kept].tolist())
                found += self._tree_problems(config, set(types))
        found += column_problems(obs, known, kept, atlas, config, key)
        choice, named, notes = None, None, list[str]()
        with noted(found):
            choice = choose_matrix(sampled.source.candidates, atlas.matrix, atlas.path, key)
            named = gene_names(choice.candidate.genes, atlas.symbol_column, atlas.path, key("symbol_column"))
            for file in own_files(atlas.gene_sets):
                notes += self._match(file, list(named.names), atlas, config, found)
            found += self._regulator_problems(config, set(named.names), atlas)
        if choice is not None and named is not None:
            facts = _facts(atlas, config, types, choice, named, sampled, path.stat().st_size)
            if labels is not None and types:
                least = config.environments.min_cells_per_type
                notes += label_notes(obs, labels, atlas, least)
                notes += confounded_notes(obs[kept], labels[kept], atlas)
                notes += comparison_notes(obs[kept], atlas)
            facts = replace(facts, notes=tuple(notes))
            self.facts[name] = facts
            if types:
                found += _size_problems(config, atlas, facts, found)
        return found

    def _match(
        self, file: str, names: list[str], atlas: AtlasSettings, config: Config, found: list[InputError]
    ) -> list[str]:
        """A file of gene sets against an atlas's genes; the remarks on it."""
        try:
            sets = read_sets(self._locate(file), atlas.regulon_confidence)
        except (InputError, OSError):
            return []  # said where the file itself is checked
        with noted(found):
            matched = match(sets, names, atlas.organism).sets
            least = config.downstream.min_set_size
            if not any(len(genes) >= least for genes in matched.values()):
                return [
                    f"{file}: no set has {least} of the genes (downstream.min_set_size): nothing is tested"
                ]
        return []

    def _regulator_problems(self, config: Config, names: set[str], atlas: AtlasSettings) -> list[InputError]:
        """A file of regulators that says nothing of an atlas: any text is a list of genes."""
        if config.tbr is None or config.tbr.regulators is None:
            return []
        try:
            regulators = Regulators.asked(config.tbr, self._locate(config.tbr.regulators))
        except (InputError, OSError):
            return []  # said where the file itself is checked
        if regulators is None or names & set(regulators.targets):
            return []
        known = f"the {len(regulators.targets)} regulators of {config.tbr.regulators}"
        said = f"none of {known} ({listed(regulators.targets, limit=3)}) is among the genes of {atlas.path}"
        remedy = "Name a file of regulators by the atlas's gene symbols"
        return [InputError("config key tbr.regulators", said, remedy)]

    def _tree_problems(self, config: Config, types: set[str]) -> list[InputError]:
        file, found = config.environments.tree.file, list[InputError]()
        if file is None:
            return found
        try:
            tree = Tree.from_file(self._locate(file))
        except InputError:
            return found  # said where the file itself is checked
        with noted(found):
            tree.require_leaves(types, file)
        return found


def _kept_cells(
    obs: pd.DataFrame, labels: np.ndarray, atlas: AtlasSettings, config: Config, key: str
) -> np.ndarray:
    """The cells (n_cells,) bool that the atlas stage will keep, as far as obs tells."""
    if obs[atlas.cell_type].dtype.kind == "f" and any("." in label for label in set(labels) - {None}):
        raise InputError(
            key,
            f"obs column {atlas.cell_type!r} of {atlas.path} holds measurements, such as"
            f" {listed(sorted(set(labels) - {None}), limit=3)}",
            "Name a column of cell types",
        )
    keep = ~missing_in(labels)
    keep &= ~np.isin(labels.astype(str), atlas.ignore_cell_types)
    for column in (atlas.split_by, atlas.batch):
        values = labels_in(obs, column)
        if values is not None:
            keep &= ~missing_in(values)
    least = config.environments.min_cells_per_type
    sizes = Counter(labels[keep].tolist())
    large = [name for name, size in sizes.items() if size >= least]
    if len(large) < 2:
        what = f"one cell type only, {large[0]!r}" if large else "no cell type"
        small = sorted(name for name, size in sizes.items() if size < least)
        dropped = f"; with fewer cells: {listed(small)}" if small else ""
        raise InputError(
            key,
            f"obs column {atlas.cell_type!r} of {atlas.path} has {what} of at least {least} cells{dropped}",
            "Name a column with at least two cell types, or lower environments.min_cells_per_type",
        )
    return keep & np.isin(labels.astype(str), large)


def _size_problems(
    config: Config, atlas: AtlasSettings, facts: AtlasFacts, found: list[InputError]
) -> list[InputError]:
    """More factors than cells or genes, where the file's header did not tell."""
    said = {problem.where for problem in found}
    asked = factor_problems(config, atlas.path, facts.n_cells, facts.n_genes)
    return [problem for problem in asked if problem.where not in said]


def _facts(
    atlas: AtlasSettings,
    config: Config,
    types: Counter[str],
    choice: Choice,
    named: GeneNames,
    sampled: Sampled,
    size: int,
) -> AtlasFacts:
    n_genes = len(named.names)
    asked = n_genes if config.preprocess.gene_selection == "all" else config.preprocess.n_genes
    n_found = len(sampled.source.obs)
    least = min(types.values(), default=0)
    found = f"{len(types)} cell types in {atlas.cell_type!r}, the smallest of {least} cells"
    said = (
        f"{n_found:,} cells x {n_genes:,} genes ({named.kind}); "
        f"{found if types else 'no usable cell types'}; {choice.candidate.name} holds {_KINDS[choice.kind]}"
    )
    return AtlasFacts(
        n_cells=sum(types.values()),
        n_types=len(types),
        n_genes=n_genes,
        n_modelled=min(asked, n_genes),
        n_stored=sampled.n_stored[choice.candidate.name],
        bytes=size,
        has_counts=choice.kind == "counts",
        description=said,
    )


_KINDS = {
    "counts": "counts",
    "log": "logarithms (the file has no counts)",
    "normalised": "normalised values, of which logarithms are taken (the file has no counts)",
}
