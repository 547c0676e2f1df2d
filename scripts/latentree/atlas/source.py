"""An atlas opened: its tables of cells and genes, and the matrices that may hold its values."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import h5py
import pandas as pd

from latentree.atlas.stored import StoredMatrix, stored_in_file, stored_in_memory
from latentree.errors import InputError, listed
from latentree.obs_columns import plain_name

_HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError)
"""What h5py raises on damaged files, by the place of the damage."""

_GIVE_H5AD = "Give an .h5ad file as AnnData's write_h5ad writes it"


@dataclass(frozen=True)
class Candidate:
    """A matrix that may hold the expression values.

    Attributes
    ----------
    name
        ``X``, ``raw.X`` or ``layers['...']``.
    key
        What the setting ``matrix`` calls it: ``X``, ``raw`` or the layer's name.
    matrix
        The matrix where it lies; None where the element is no matrix at all.
    genes
        Its table of genes, (n_genes, any columns); raw.X has its own.
    """

    name: str
    key: str
    matrix: StoredMatrix | None
    genes: pd.DataFrame


@dataclass(frozen=True)
class Source:
    """An opened atlas: ``shown`` is how messages call it, ``obs`` its table of cells."""

    shown: str
    obs: pd.DataFrame
    candidates: tuple[Candidate, ...]
    prepared: bool

    @property
    def n_genes(self) -> int:
        return max((len(candidate.genes) for candidate in self.candidates), default=0)


@contextmanager
def open_source(source: anndata.AnnData | Path, shown: str) -> Iterator[Source]:
    """Open an atlas in memory or in a file; a file stays open for the block.

    Raises
    ------
    InputError
        A file that is missing, is not an h5ad, or is damaged.
    """
    if isinstance(source, anndata.AnnData):
        yield _from_memory(source.to_memory() if source.isbacked else source, shown)
        return
    _check_is_hdf5(source, shown)
    try:
        with h5py.File(source, "r") as file:
            _check_is_h5ad(file, shown)
            yield _from_old_file(source, shown) if _is_old(file) else _from_file(file, shown)
    except InputError:
        raise
    except _HDF5_ERRORS as error:
        raise damaged(shown, error) from None


def damaged(shown: str, error: BaseException) -> InputError:
    """The error for a file that HDF5 or anndata cannot read to its end."""
    reason = " ".join(str(error).split())[:300]
    return InputError(
        shown,
        f"is a truncated or damaged h5ad ({reason})",
        "Copy or download it again and compare the sizes",
    )


def _check_is_hdf5(path: Path, shown: str) -> None:
    if path.is_dir():
        raise InputError(shown, "is a folder, not an h5ad file", _GIVE_H5AD)
    try:
        with open(path, "rb") as stream:
            start = stream.read(8)
    except FileNotFoundError:
        raise InputError(
            shown, f"no such file (looked at {path.absolute()})", "Correct the path; it starts where you run"
        ) from None
    except OSError as error:
        raise InputError(shown, f"cannot be read ({error.strerror})", "Mend the file's permissions") from None
    if start.startswith(b"\x1f\x8b"):
        raise InputError(shown, "is gzip-compressed, not an h5ad file", "Unpack it with gunzip first")
    if start != b"\x89HDF\r\n\x1a\n":
        raise InputError(shown, f"is not an h5ad file (it starts with {start!r})", _GIVE_H5AD)


def _check_is_h5ad(file: h5py.File, shown: str) -> None:
    lacking = [key for key in ("obs", "var") if key not in file]
    if not lacking:
        return
    remedy = _GIVE_H5AD
    if "matrix" in file:
        remedy = "It looks like 10x or loom: read it with scanpy, add the cell types, then use write_h5ad"
    elif "mod" in file:
        remedy = "It looks like MuData: write its RNA modality with write_h5ad"
    raise InputError(
        shown, f"is HDF5 but not an h5ad: it has no {listed(lacking)} but {listed(file)}", remedy
    )


def _is_old(file: h5py.File) -> bool:
    """Whether anndata before 0.7 wrote the file: tables as records, matrices without an encoding."""
    matrices = [file[key] for key in ("X", "raw.X") if key in file]
    return (
        isinstance(file["obs"], h5py.Dataset)
        or "raw.X" in file
        or any("h5sparse_format" in matrix.attrs for matrix in matrices)
    )


def _from_old_file(path: Path, shown: str) -> Source:
    """Old files are read whole by anndata itself, which knows how to bring them up to date."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _from_memory(anndata.read_h5ad(path), shown)
    except Exception as error:
        raise InputError(
            shown,
            f"is an h5ad of before 2020 that today's anndata cannot read ({error})",
            "Read it with the anndata of its time, or mend what is named here, and write it again",
        ) from None


def _from_file(file: h5py.File, shown: str) -> Source:
    obs, var = _plain_names(_frame(file["obs"], "obs", shown)), _frame(file["var"], "var", shown)
    candidates = [Candidate("X", "X", stored_in_file(file["X"]), var)] if _has_values(file, "X") else []
    raw = file.get("raw")
    if raw is not None and _has_values(raw, "X"):
        genes = _with_columns_of(_frame(raw["var"], "raw/var", shown), var)
        candidates.append(Candidate("raw.X", "raw", stored_in_file(raw["X"]), genes))
    for key, layer in file.get("layers", {}).items():
        candidates.append(Candidate(f"layers[{key!r}]", key, stored_in_file(layer), var))
    _check_shapes(candidates, len(obs), shown)
    return Source(shown, obs, tuple(candidates), "latentree" in file.get("uns", {}))


def _from_memory(adata: anndata.AnnData, shown: str) -> Source:
    candidates = []
    if adata.X is not None:
        candidates.append(Candidate("X", "X", stored_in_memory(adata.X), adata.var))
    if adata.raw is not None:
        genes = _with_columns_of(adata.raw.var, adata.var)
        candidates.append(Candidate("raw.X", "raw", stored_in_memory(adata.raw.X), genes))
    for key, layer in adata.layers.items():
        candidates.append(Candidate(f"layers[{key!r}]", key, stored_in_memory(layer), adata.var))
    return Source(shown, _plain_names(adata.obs), tuple(candidates), "latentree" in adata.uns)


def _has_values(group: Any, key: str) -> bool:
    # AnnData without X writes an element of encoding "null"
    return key in group and group[key].attrs.get("encoding-type") != "null"


def _frame(element: Any, what: str, shown: str) -> pd.DataFrame:
    try:
        frame = anndata.io.read_elem(element)
    except OSError:
        raise
    except Exception as error:
        raise damaged(shown, error) from None
    if not isinstance(frame, pd.DataFrame):
        raise InputError(shown, f"its {what} is a {type(frame).__name__}, not a table", _GIVE_H5AD)
    return frame


def _plain_names(obs: pd.DataFrame) -> pd.DataFrame:
    """Columns by the names that the prepared atlas will have them under; of the same ones the first."""
    names = [plain_name(column) for column in obs.columns]
    if names == list(obs.columns):
        return obs
    return obs.set_axis(pd.Index(names), axis=1).loc[:, ~pd.Index(names).duplicated()]


def _with_columns_of(raw: pd.DataFrame, var: pd.DataFrame) -> pd.DataFrame:
    """Raw's table of genes with the columns that only var has; genes that var lacks get missing values."""
    absent = [column for column in var.columns if column not in raw.columns]
    if not absent or var.index.has_duplicates or raw.index.has_duplicates:
        return raw
    return raw.join(var[absent])


def _check_shapes(candidates: list[Candidate], n_cells: int, shown: str) -> None:
    """A file can hold tables and matrices that do not belong together."""
    for candidate in candidates:
        expected = (n_cells, len(candidate.genes))
        if candidate.matrix is not None and candidate.matrix.shape != expected:
            raise InputError(
                shown,
                f"{candidate.name} has shape {candidate.matrix.shape}, its tables say {expected}",
                "Write the file again; matrices and tables do not belong together",
            )
