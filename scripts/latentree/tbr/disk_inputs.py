"""Inputs that stay on disk: read window by window, never whole."""

import itertools
from collections.abc import Iterator
from typing import Any

import anndata
import h5py
import numpy as np
from scipy import sparse

from latentree.errors import InputError

# a window's size as float32; what a fit holds of the inputs beside its buffer
_WINDOW_BYTES = 2**23
# rows further apart than this are read on their own: passing over so much takes as long as a new read
_GAP_BYTES = 2**15


class DiskInputs:
    """A matrix in an HDF5 file, seen as float32 rows.

    Parameters
    ----------
    stored
        A dense ``h5py.Dataset``, or ``X`` of an AnnData opened with ``backed="r"``: dense, or sparse by
        rows. Its file must stay open.

    Raises
    ------
    InputError
        It is no matrix of numbers, sparse by columns, or its file is closed.
    """

    def __init__(self, stored: Any) -> None:
        group = stored.group if isinstance(stored, anndata.abc.CSRDataset | anndata.abc.CSCDataset) else None
        if not (stored if group is None else group):
            raise InputError("X", "its file is closed", "Keep the file open until the fit is done")
        if isinstance(stored, anndata.abc.CSCDataset) or not isinstance(group, h5py.Group | None):
            raise InputError(
                "X",
                "is stored as a sparse matrix by columns, or not in HDF5, so that no rows can be read alone",
                'Write it by rows: `adata.X = adata.X.tocsr()`, then `adata.write_h5ad("by_rows.h5ad")`',
            )
        self._dense = stored if group is None else None
        self._sparse = group
        self.shape: tuple[int, ...] = tuple(int(size) for size in stored.shape or ())
        if len(self.shape) != 2 or self.shape[1] == 0:
            raise InputError("X", f"has shape {self.shape}", "Give a matrix of cells by inputs")
        values = stored if group is None else group["data"]
        if values.dtype.kind not in "fiub":
            raise InputError("X", f"holds {values.dtype}, not numbers", "Give a matrix of numbers")
        #: Rows that lie in one piece of the file, 1 where any rows can be read alone
        self.rows_in_piece = 1
        if values.chunks is not None:
            per_row = 1 if group is None else max(1.0, values.shape[0] / max(1, self.shape[0]))
            self.rows_in_piece = max(1, int(values.chunks[0] / per_row))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Rows of a slice, or with these ascending int64 numbers, float32 (n_rows, n_inputs)."""
        if isinstance(rows, slice):
            start, stop, stride = rows.indices(len(self))
            if stride != 1:
                raise IndexError("rows of a slice must lie side by side")
            return self._read(start, max(start, stop))
        out = np.empty((len(rows), self.shape[1]), dtype=np.float32)
        for begin, end in self._pieces(rows):
            first = int(rows[begin])
            block = self._read(first, int(rows[end - 1]) + 1)
            out[begin:end] = block if len(block) == end - begin else block[rows[begin:end] - first]
        return out

    def _pieces(self, rows: np.ndarray) -> Iterator[tuple[int, int]]:
        """Ranges of ``rows`` that one read serves: no wide gaps, no more than a window between the ends."""
        gap = max(self.rows_in_piece, _GAP_BYTES // (4 * self.shape[1]))
        edges = [0, *(np.flatnonzero(np.diff(rows) > gap) + 1).tolist(), len(rows)]
        size = rows_in_window(self.shape[1])
        for begin, end in itertools.pairwise(edges):
            while begin < end:
                until = begin + int(np.searchsorted(rows[begin:end], rows[begin] + size))
                yield begin, until
                begin = until

    def _read(self, start: int, stop: int) -> np.ndarray:
        try:
            if self._dense is not None:
                return np.ascontiguousarray(self._dense[start:stop], dtype=np.float32)
            assert self._sparse is not None
            pointers = self._sparse["indptr"][start : stop + 1].astype(np.int64)
            within = slice(*pointers[[0, -1]].tolist())
            parts = (self._sparse["data"][within], self._sparse["indices"][within], pointers - pointers[0])
        except (OSError, ValueError) as error:
            raise InputError(
                "X", f"cells {start} to {stop - 1} cannot be read ({error})", "Write the file again"
            ) from error
        rows = sparse.csr_matrix(parts, shape=(stop - start, self.shape[1]))
        return np.ascontiguousarray(rows.toarray(), dtype=np.float32)


def is_on_disk(X: Any) -> bool:
    """Whether X is a matrix in a file, as :class:`DiskInputs` reads it."""
    return isinstance(X, h5py.Dataset | anndata.abc.CSRDataset | anndata.abc.CSCDataset)


def rows_in_window(n_inputs: int) -> int:
    """Rows that are handled at a time."""
    return max(1, _WINDOW_BYTES // (4 * n_inputs))


def windows(X: np.ndarray | DiskInputs, rows: np.ndarray | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """All rows in order, or those of ascending int64 numbers: a window's first place, and its rows.

    Rows (n_rows, n_inputs) from disk are float32 and checked.

    Raises
    ------
    InputError
        A value on disk is NaN or infinite; told with the number of such values and the first cell.
    """
    size = rows_in_window(X.shape[1])
    for start in range(0, X.shape[0] if rows is None else len(rows), size):
        block = X[start : start + size] if rows is None else X[rows[start : start + size]]
        if isinstance(X, DiskInputs) and not np.isfinite(block.sum(dtype=np.float64)):
            _refuse(X, size)
        yield start, block


def _refuse(X: DiskInputs, size: int) -> None:
    """Count what is not finite and say where the first such cell is."""
    n_bad, first = 0, -1
    for begin in range(0, len(X), size):
        bad = ~np.isfinite(X[begin : begin + size])
        n_bad += int(bad.sum())
        if first < 0 and bad.any():
            first = begin + int(np.flatnonzero(bad.any(axis=1))[0])
    if n_bad:
        raise InputError(
            "X",
            f"{n_bad} value(s) are NaN or infinite, the first in cell {first}",
            "Drop these cells or fill the values in",
        )


def moments_of_inputs(X: np.ndarray | DiskInputs, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd of each input over some rows in one pass, and a check of all rows on disk.

    Parameters
    ----------
    X
        (n_cells, n_inputs).
    rows
        Ascending int64 row numbers.

    Returns
    -------
    float64 (n_inputs,) each; the sd of an input that does not vary is 1.
    """
    n_inputs = X.shape[1]
    count, mean, squares = 0, np.zeros(n_inputs), np.zeros(n_inputs)
    largest = np.zeros(n_inputs)
    for start, block in windows(X):
        begin, end = np.searchsorted(rows, [start, start + len(block)])
        n = int(end - begin)
        if n == 0:
            continue
        chosen = (block if n == len(block) else block[rows[begin:end] - start]).astype(np.float64)
        largest = np.maximum(largest, np.abs(chosen).max(axis=0))
        # the sums of windows are joined as by Chan, Golub and LeVeque (1983), which loses no digits
        own = chosen.mean(axis=0)
        chosen -= own
        away = own - mean
        squares += np.einsum("ij,ij->j", chosen, chosen) + away**2 * (count * n / (count + n))
        count += n
        mean += away * (n / count)
    sd = np.sqrt(squares / max(count, 1))
    return mean, np.where(sd > 1e-7 * largest, sd, 1.0)
