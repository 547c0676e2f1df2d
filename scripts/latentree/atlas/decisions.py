"""What was decided about an atlas and why: the content of qc.json, and the plain sentences in it."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from latentree.atlas.cleaning import GeneNames
from latentree.atlas.filtering import Ledger
from latentree.atlas.values import Choice, Kind
from latentree.config import AtlasSettings
from latentree.errors import InputError, listed
from latentree.settings import PreprocessSettings

_FEW_GENES = 3000
"""Below this, the sum of an atlas's counts is hardly a cell's library size."""


@dataclass
class Work:
    """One atlas in the making: what was asked, how messages call it, and what qc.json will say."""

    settings: AtlasSettings
    preprocess: PreprocessSettings
    min_cells_per_type: int
    key: Callable[[str], str]
    qc: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    @property
    def shown(self) -> str:
        return self.settings.path


@dataclass
class Found:
    """What was read: tables, labels and donors of the cells as found, and the matrix taken."""

    obs: pd.DataFrame
    genes: pd.DataFrame
    named: GeneNames
    labels: np.ndarray
    donors: np.ndarray | None
    batches: np.ndarray | None
    library_size: np.ndarray | None
    kind: Kind
    values: sparse.csr_matrix


def record_choice(choice: Choice, named: GeneNames, work: Work) -> None:
    name = choice.candidate.name
    work.qc["matrix"] = {"chosen": name, "values": choice.kind, "why": choice.why, "looked_at": choice.seen}
    work.qc["genes"] = {
        "n_found": len(named.names),
        "names": named.kind,
        "symbol_column": named.symbol_column,
        "n_without_symbol": named.n_without_symbol,
        "n_repeated_names": named.n_repeated,
    }
    for row in choice.seen:
        if row["looks_like"].startswith("unusable"):
            work.notes.append(f"{row['name']} was not used: {row['looks_like'].removeprefix('unusable: ')}.")
    if choice.kind == "log":
        work.notes.append(f"The atlas has no counts: the values of {name} are taken as they are.")
    elif choice.kind == "normalised":
        work.notes.append(
            f"The atlas has no counts, and the values of {name} are too large for logarithms: they are "
            "scaled to 10,000 per cell and their log1p is taken."
        )
    if named.kind != "symbols":
        work.notes.append(
            f"Genes are named by {named.kind}, and no var column of symbols was found; gene sets of symbols "
            "will not match (setting symbol_column)."
        )
    if named.n_repeated:
        text = f"{named.n_repeated} gene names occur again and were made unique by -1, -2, ... behind them."
        work.notes.append(text)
        warnings.warn(f"{work.shown}: {text}", UserWarning, stacklevel=2)


def record_filter(
    found: Found,
    ledger: Ledger,
    genes: np.ndarray,
    dropped_types: list[dict[str, str | int]],
    work: Work,
) -> None:
    n_cells, n_genes = int(ledger.keep.sum()), int(genes.sum())
    n_rare = len(genes) - n_genes
    rare = f"seen in fewer than {work.preprocess.min_cells_per_gene} cells (min_cells_per_gene)"
    work.qc["genes"] |= {"dropped": {rare: n_rare} if n_rare else {}, "n_kept": n_genes}
    work.qc["cells"] = {"n_found": len(found.obs), "dropped": ledger.dropped, "n_kept": n_cells}
    work.qc["dropped_cell_types"] = dropped_types
    absent = sorted(set(work.settings.ignore_cell_types) - set(found.labels))
    if absent:
        work.notes.append(f"ignore_cell_types names labels that no cell has: {listed(absent)}.")
    why = "; ".join(f"{count} cells: {reason}" for reason, count in ledger.dropped.items()) or "none dropped"
    if n_cells == 0 or n_genes == 0:
        raise InputError(
            work.shown,
            f"{n_cells} of {len(found.obs)} cells and {n_genes} of {len(genes)} genes are left ({why}; "
            f"{n_rare} genes: {rare})",
            f"Check the cell-type column {work.settings.cell_type!r}, or lower the limits named here",
        )
    types = sorted(set(found.labels[ledger.keep]))
    if len(types) < 2:
        dropped = "; dropped types: " + listed(row["cell_type"] for row in dropped_types)
        raise InputError(
            work.key("cell_type"),
            f"obs column {work.settings.cell_type!r} of {work.shown} has one cell type only, {types[0]!r} "
            f"({n_cells} cells{dropped if dropped_types else ''})",
            "Name a column with at least two types of enough cells, or lower min_cells_per_type",
        )


def record_scale(scale: str, library_size: np.ndarray | None, work: Work) -> None:
    column = work.settings.library_size
    work.qc["scale"] = {"x": scale, "library_size_from": None, "library_size": None}
    if library_size is None:
        if column is not None:
            work.notes.append(f"library_size ({column}) was not used: the values are logarithms already.")
        return
    work.qc["scale"]["library_size_from"] = column or "sum of the values over all genes found"
    quantiles = {"min": 0.0, "median": 0.5, "max": 1.0}
    work.qc["scale"]["library_size"] = {
        name: float(np.quantile(library_size, share)) for name, share in quantiles.items()
    }


def note_library_size(
    obs: pd.DataFrame, n_genes_found: int, sums: np.ndarray, library: np.ndarray, work: Work
) -> None:
    """Say where counts per 10k may not mean what they should."""
    column = work.settings.library_size
    if column is not None:
        # counts are exact, totals may have passed through float32
        n_smaller = int(np.count_nonzero(library < sums * (1 - 1e-6)))
        if n_smaller:
            work.notes.append(
                f"In {n_smaller} cells {column} is smaller than the sum of the counts it should contain."
            )
    elif n_genes_found < _FEW_GENES:
        work.notes.append(
            f"The matrix has {n_genes_found} genes only; counts are per 10,000 of these. If obs has a column "
            "of each cell's total, name it in library_size."
        )
