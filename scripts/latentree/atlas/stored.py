"""Matrices as they are stored, in memory or in an open h5ad: looked at in blocks, loaded as float32 CSR."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from scipy import sparse

BLOCK = 1 << 20
"""Values looked at or converted at a time: small beside any atlas that could fill the memory."""

_SPARSE_ENCODINGS = {"csr_matrix": "CSR", "csc_matrix": "CSC"}


@dataclass(frozen=True)
class StoredMatrix:
    """A matrix where it lies; nothing of its size is copied before :meth:`load`.

    Attributes
    ----------
    storage
        ``"CSR"``, ``"CSC"`` or ``"dense"``.
    shape
        (n_cells, n_genes).
    values
        Array or h5py dataset: the stored values, (n_stored,), or (n_cells, n_genes) where dense.
    indices, indptr
        Of the sparse formats.
    """

    storage: str
    shape: tuple[int, int]
    values: Any
    indices: Any = None
    indptr: Any = None

    @property
    def is_numeric(self) -> bool:
        return self.values.dtype.kind in "biuf"

    def blocks(self) -> Iterator[np.ndarray]:
        """The stored values, about ``BLOCK`` at a time."""
        for part in self._slices():
            yield self.values[part]

    def load(self) -> sparse.csr_matrix:
        """The matrix as a new CSR matrix of float32, (n_cells, n_genes), sorted and without stored zeros.

        Raises
        ------
        ValueError
            Where indices and pointers do not describe a matrix of this shape.
        """
        if self.storage == "dense":
            rows = [sparse.csr_matrix(self.values[part].astype(np.float32)) for part in self._slices()]
            return sparse.vstack(rows, format="csr", dtype=np.float32)
        kind = sparse.csr_matrix if self.storage == "CSR" else sparse.csc_matrix
        index = np.int32 if max(*self.shape, self.values.shape[0]) < 2**31 else np.int64
        parts = (_read(self.values, np.float32), _read(self.indices, index), _read(self.indptr, index))
        matrix = kind(parts, shape=self.shape, copy=False)
        matrix.check_format(full_check=True)
        matrix = matrix.tocsr()
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        return matrix

    def _slices(self) -> Iterator[slice]:
        length = self.values.shape[0]
        step = BLOCK if self.values.ndim == 1 else max(1, BLOCK // max(1, self.shape[1]))
        for start in range(0, length, step):
            yield slice(start, min(start + step, length))


def _read(array: Any, dtype: type) -> np.ndarray:
    """A one-dimensional array or dataset as a new array of ``dtype``, without a second copy of its size."""
    out = np.empty(array.shape[0], dtype)
    for start in range(0, array.shape[0], BLOCK):
        part = slice(start, start + BLOCK)
        # an overflow to infinity is seen by the look at the values, not told by a warning here
        with np.errstate(over="ignore"):
            out[part] = array[part]
    return out


def stored_in_memory(matrix: Any) -> StoredMatrix | None:
    """A matrix of an AnnData in memory; None for a kind that cannot hold expression values."""
    if sparse.issparse(matrix):
        if matrix.format not in ("csr", "csc"):
            matrix = matrix.tocsr()
        return StoredMatrix(matrix.format.upper(), matrix.shape, matrix.data, matrix.indices, matrix.indptr)
    if isinstance(matrix, np.ma.MaskedArray):
        # a masked value is a missing one
        matrix = np.ma.filled(matrix.astype(np.float64), np.nan)
    if isinstance(matrix, np.ndarray) and matrix.ndim == 2:
        return StoredMatrix("dense", matrix.shape, np.asarray(matrix))
    return None


def stored_in_file(element: Any) -> StoredMatrix | None:
    """A matrix of an open h5ad; None for an element that is no matrix, or a link that leads nowhere."""
    if element is None:
        return None
    if isinstance(element, h5py.Dataset):
        return StoredMatrix("dense", element.shape, element) if element.ndim == 2 else None
    storage = _SPARSE_ENCODINGS.get(element.attrs.get("encoding-type", ""))
    if storage is None:
        return None
    n_cells, n_genes = (int(length) for length in element.attrs["shape"])
    return StoredMatrix(storage, (n_cells, n_genes), element["data"], element["indices"], element["indptr"])
