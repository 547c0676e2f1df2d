"""An atlas looked at in passing: its tables whole, of its matrices a sample, so that size costs no time."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from latentree.atlas.source import Source, open_source
from latentree.atlas.stored import BLOCK, StoredMatrix

N_PIECES = 8
"""The sample is taken at this many places along a matrix."""

_ROWS = 64
_SMALL = 5_000_000


@dataclass(frozen=True)
class Sampled:
    """An atlas of which only tables were read whole.

    Attributes
    ----------
    source
        As :func:`latentree.atlas.source.open_source` gives it, with a sample of each matrix's stored
        values in memory in the place of the matrix.
    n_stored
        Stored values of each matrix, by its name (``X``, ``raw.X``, ``layers['...']``).
    sums
        By the matrix's name, rows (n_sampled,) and their sums (n_sampled,); not for a large matrix that is
        stored by columns.
    """

    source: Source
    n_stored: dict[str, int]
    sums: dict[str, tuple[np.ndarray, np.ndarray]]


def sampled_atlas(path: Path, shown: str) -> Sampled:
    """Look at an .h5ad file without loading a matrix.

    Parameters
    ----------
    shown
        How messages call the file.

    Raises
    ------
    InputError
        A file that is missing, is not an h5ad, or is damaged.
    """
    n_stored, sums, candidates = {}, {}, []
    with open_source(path, shown) as opened:
        for candidate in opened.candidates:
            matrix = candidate.matrix
            if matrix is not None:
                n_stored[candidate.name] = int(np.prod(matrix.values.shape))
                if matrix.is_numeric and (found := row_sums(matrix)) is not None:
                    sums[candidate.name] = found
                candidate = replace(candidate, matrix=sample_of(matrix))
            candidates.append(candidate)
        return Sampled(replace(opened, candidates=tuple(candidates)), n_stored, sums)


def sample_of(matrix: StoredMatrix) -> StoredMatrix:
    """A matrix of the same shape that holds some of the stored values; it can be summarised, not loaded."""
    per_step = 1 if matrix.values.ndim == 1 else max(1, matrix.shape[1])
    values = np.concatenate(
        [matrix.values[part] for part in _pieces(matrix.values.shape[0], BLOCK // per_step)]
    )
    return replace(matrix, values=values, indices=None, indptr=None)


def row_sums(matrix: StoredMatrix) -> tuple[np.ndarray, np.ndarray] | None:
    """Some rows (n_sampled,) int64 and their sums (n_sampled,) float64; None where rows are far to seek."""
    if matrix.storage == "CSC":
        if matrix.values.shape[0] > _SMALL:
            return None
        loaded = matrix.load()
        return np.arange(matrix.shape[0]), np.asarray(loaded.sum(axis=1), dtype=np.float64).ravel()
    rows, sums = [], []
    for part in _pieces(matrix.shape[0], N_PIECES * _ROWS):
        rows.append(np.arange(part.start, part.stop))
        if matrix.storage == "dense":
            sums.append(np.asarray(matrix.values[part], dtype=np.float64).sum(axis=1))
            continue
        ends = np.asarray(matrix.indptr[part.start : part.stop + 1], dtype=np.int64)
        stored = np.asarray(matrix.values[int(ends[0]) : int(ends[-1])], dtype=np.float64)
        running = np.concatenate([[0.0], np.cumsum(stored)])
        sums.append(np.diff(running[ends - ends[0]]))
    return np.concatenate(rows), np.concatenate(sums)


def _pieces(length: int, wanted: int) -> list[slice]:
    """``wanted`` of ``length`` places in some even pieces, or all in one where there are no more."""
    if length <= wanted:
        return [slice(0, length)]
    size = max(1, wanted // N_PIECES)
    starts = np.linspace(0, length - size, N_PIECES).astype(np.int64)
    return [slice(int(start), int(start) + size) for start in dict.fromkeys(starts.tolist())]
