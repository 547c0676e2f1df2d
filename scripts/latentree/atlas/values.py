"""What a matrix's values look like, and which matrix of an atlas to take."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from latentree.atlas.source import Candidate
from latentree.atlas.stored import StoredMatrix
from latentree.errors import InputError, listed, nearest

Kind = Literal["counts", "log", "normalised"]

LARGEST_LOG = 25.0
"""log2 of a million is 20: larger values are not logarithms of counts."""

_COUNT_LIKE = re.compile(r"count|umi|raw", re.IGNORECASE)
_PART_OF_COUNTS = re.compile(r"unspliced|ambiguous|spanning", re.IGNORECASE)


@dataclass(frozen=True)
class ValueSummary:
    """What was seen in all stored values of a matrix."""

    n_stored: int
    n_nan: int
    n_infinite: int
    n_negative: int
    n_fractional: int
    minimum: float
    maximum: float

    @property
    def problem(self) -> str | None:
        """Why the values cannot be expression values, in words with counts; None where they can."""
        if self.n_nan or self.n_infinite:
            return f"{self.n_nan} NaN and {self.n_infinite} infinite values"
        if self.n_negative:
            return f"{self.n_negative} negative values (smallest {self.minimum:.4g})"
        if self.maximum <= 0:
            return "nothing but zeros"
        return None

    @property
    def kind(self) -> Kind:
        """Counts are integers above 1 (0 and 1 alone may be a mask); logarithms are small."""
        if self.n_fractional == 0 and self.maximum > 1:
            return "counts"
        return "log" if self.maximum <= LARGEST_LOG else "normalised"


@dataclass(frozen=True)
class Choice:
    """The matrix taken, what its values are, why, and what was seen on the way (for qc.json)."""

    candidate: Candidate
    matrix: StoredMatrix
    kind: Kind
    why: str
    seen: list[dict[str, Any]]


def summarise(matrix: StoredMatrix) -> ValueSummary:
    """Look at every stored value of a matrix (n_cells, n_genes), block by block.

    Zeros that a sparse matrix leaves out count as values for minimum and maximum.
    """
    n_stored = n_nan = n_infinite = n_negative = n_fractional = 0
    minimum, maximum = np.inf, -np.inf
    for block in matrix.blocks():
        block = block.ravel()
        n_stored += block.size
        if block.dtype.kind == "f":
            finite = np.isfinite(block)
            if not finite.all():
                bad_nan = int(np.isnan(block).sum())
                n_nan += bad_nan
                n_infinite += int((~finite).sum()) - bad_nan
                block = block[finite]
            n_fractional += int(np.count_nonzero(block != np.rint(block)))
        if block.size:
            n_negative += int(np.count_nonzero(block < 0))
            minimum, maximum = min(minimum, float(block.min())), max(maximum, float(block.max()))
    if n_stored < matrix.shape[0] * matrix.shape[1] or not np.isfinite(minimum):
        minimum, maximum = min(minimum, 0.0), max(maximum, 0.0)
    return ValueSummary(n_stored, n_nan, n_infinite, n_negative, n_fractional, minimum, maximum)


def choose_matrix(
    candidates: Sequence[Candidate], asked: str, shown: str, key: Callable[[str], str]
) -> Choice:
    """Choose the matrix of expression values by its values.

    Parameters
    ----------
    candidates
        The matrices that the atlas has.
    asked
        The setting ``matrix``: ``auto`` or the key of one.
    shown
        How messages call the atlas.
    key
        How messages call a setting.

    Raises
    ------
    InputError
        No such matrix, or none whose values can be expression values.
    """
    if asked != "auto":
        return _named(candidates, asked, shown, key)
    seen: list[dict[str, Any]] = []
    usable: list[tuple[Candidate, StoredMatrix, Kind]] = []
    problems: list[str] = []
    for candidate in sorted(candidates, key=_order):
        problem, summary = _look(candidate)
        seen.append(_row(candidate, problem, summary))
        if problem or summary is None or candidate.matrix is None:
            problems.append(f"{candidate.name} has {problem}")
        elif summary.kind == "counts":
            why = "the first of the matrices looked at that holds counts (non-negative integers)"
            return Choice(candidate, candidate.matrix, "counts", why, seen)
        else:
            usable.append((candidate, candidate.matrix, summary.kind))
    if not usable:
        raise InputError(
            shown,
            "no usable matrix: " + ("; ".join(problems) or "it has neither X nor raw nor layers"),
            "Give an atlas with counts, or with normalised values that are finite and not negative",
        )
    # logarithms are what models want; values that still need one come after them
    best, matrix, kind = min(usable, key=lambda entry: entry[2] != "log")
    why = f"no matrix holds counts; the first with {_IN_WORDS[kind]}"
    return Choice(best, matrix, kind, why, seen)


_IN_WORDS = {
    "counts": "counts",
    "log": "values as small as logarithms",
    "normalised": "non-negative values that are neither counts nor logarithms",
}


def _named(candidates: Sequence[Candidate], asked: str, shown: str, key: Callable[[str], str]) -> Choice:
    found = [c for c in candidates if asked in (c.key, c.name)]
    if not found:
        names = [c.key for c in candidates]
        raise InputError(
            key("matrix"),
            f"{shown} has no matrix {asked!r}{nearest(asked, names)}",
            f"Use 'auto' or one of {listed(names, limit=30)}",
        )
    candidate = found[0]
    problem, summary = _look(candidate)
    if problem or summary is None or candidate.matrix is None:
        raise InputError(
            key("matrix"),
            f"{candidate.name} of {shown} was asked for and has {problem}",
            "Name a matrix of counts or of non-negative normalised values, or use 'auto'",
        )
    kind = "counts" if summary.n_fractional == 0 else summary.kind
    return Choice(
        candidate, candidate.matrix, kind, "asked for by `matrix`", [_row(candidate, None, summary)]
    )


def _order(candidate: Candidate) -> int:
    """Where counts are looked for first: layers named after them, raw.X, X, other layers."""
    if candidate.name == "raw.X":
        return 1
    if candidate.name == "X":
        return 2
    if _PART_OF_COUNTS.search(candidate.key):
        return 4
    return 0 if _COUNT_LIKE.search(candidate.key) else 3


def _look(candidate: Candidate) -> tuple[str | None, ValueSummary | None]:
    if candidate.matrix is None or not candidate.matrix.is_numeric:
        return "no numbers", None
    summary = summarise(candidate.matrix)
    return summary.problem, summary


def _row(candidate: Candidate, problem: str | None, summary: ValueSummary | None) -> dict[str, Any]:
    """One matrix's entry in qc.json."""
    row: dict[str, Any] = {"name": candidate.name}
    if candidate.matrix is not None:
        n_cells, n_genes = candidate.matrix.shape
        row |= {"n_cells": n_cells, "n_genes": n_genes, "storage": candidate.matrix.storage}
        row["dtype"] = str(candidate.matrix.values.dtype)
    if summary is not None:
        row |= {"n_stored": summary.n_stored, "min": summary.minimum, "max": summary.maximum}
        row |= {"n_fractional": summary.n_fractional, "n_negative": summary.n_negative}
        row |= {"n_nan": summary.n_nan, "n_infinite": summary.n_infinite}
    row["looks_like"] = f"unusable: {problem}" if problem else _IN_WORDS[summary.kind] if summary else ""
    return row
