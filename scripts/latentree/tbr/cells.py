"""What a fit is given, checked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import h5py
import numpy as np
import pandas as pd
from anndata.abc import CSRDataset
from scipy import sparse

from latentree.errors import InputError, listed, nearest
from latentree.tbr.disk_inputs import DiskInputs, is_on_disk
from latentree.tree import Tree

_VALIDATION_SHARE = 0.1
_PART = 2**20
Matrix: TypeAlias = np.ndarray | sparse.spmatrix | h5py.Dataset | CSRDataset
Names: TypeAlias = Sequence[str] | np.ndarray | pd.Series | pd.Categorical


@dataclass(frozen=True)
class Cells:
    """The checked cells of one fit.

    ``X`` (n_cells, n_inputs) float32 in memory, or on disk; ``y`` (n_cells,) float64; ``environments``
    (n_cells,) categorical of node names; ``train`` and ``validation`` ascending int64 row numbers.
    """

    X: np.ndarray | DiskInputs
    y: np.ndarray
    environments: pd.Categorical
    train: np.ndarray
    validation: np.ndarray


def checked_cells(
    X: Matrix,
    y: Sequence[float] | np.ndarray | pd.Series,
    environments: Names,
    tree: Tree,
    train: np.ndarray | None,
    validation: np.ndarray | None,
    rng: np.random.Generator,
) -> Cells:
    """Check inputs, phenotype, environments and split; each problem is an :class:`InputError`."""
    inputs = checked_inputs(X)
    target = np.asarray(y, dtype=np.float64)
    shapes = inputs.shape, target.shape, getattr(environments, "shape", (len(environments),))
    if not shapes[0][:1] == shapes[1] == shapes[2]:
        raise InputError(
            "X, y, environments",
            f"have shapes {shapes[0]}, {shapes[1]} and {shapes[2]}",
            "Give one row of X, one number and one node name for each cell",
        )
    check_finite(target, "y")
    names = checked_names(environments, tree)
    train, validation = _split(len(inputs), train, validation, rng)
    if target[train].std() <= 1e-9 * np.abs(target[train]).max(initial=0):
        raise InputError(
            "y",
            f"is constant ({target[train][0]:g}) over the {len(train)} training cells",
            "Give a phenotype that varies between cells",
        )
    return Cells(inputs, target, names, train, validation)


def checked_inputs(X: Matrix) -> np.ndarray | DiskInputs:
    """Inputs as float32 (n_cells, n_inputs) without missing values.

    A matrix on disk stays there, and its values are checked when they are first read.
    """
    if is_on_disk(X):
        return DiskInputs(X)
    dense = np.asarray(X.toarray() if isinstance(X, sparse.spmatrix | sparse.sparray) else X)
    if dense.ndim != 2 or dense.shape[1] == 0:
        raise InputError("X", f"has shape {dense.shape}", "Give a matrix of cells by inputs")
    inputs = np.ascontiguousarray(dense, dtype=np.float32)
    check_finite(inputs, "X")
    return inputs


def check_finite(values: np.ndarray, name: str) -> None:
    """Refuse NaN and infinite values, with their number and the first cell."""
    # the sum is finite only if all are, and needs no second array of the size of the data
    if np.isfinite(values.sum(dtype=np.float64)):
        return
    bad = ~np.isfinite(values)
    row = int(np.flatnonzero(bad.reshape(len(values), -1).any(axis=1))[0])
    raise InputError(
        name,
        f"{int(bad.sum())} value(s) are NaN or infinite, the first in cell {row}",
        "Drop these cells or fill the values in",
    )


def checked_names(environments: Names, tree: Tree) -> pd.Categorical:
    """Environments as a categorical (n_cells,), which takes little memory; all must be nodes of the tree."""
    known = _categorical(environments)
    used = np.unique(known.codes)
    names = [known.categories[code] if code >= 0 else math.nan for code in used.tolist()]
    strange = sorted({str(name) for name in names if name not in tree.index})
    if strange:
        raise InputError(
            "environments",
            f"{len(strange)} name(s) are no nodes of the tree: {listed(strange)}"
            f"{nearest(strange[0], tree.names)}",
            f"Use the tree's nodes: {listed(tree.names)}",
        )
    return known


def check_names(environments: Names, tree: Tree) -> None:
    """Refuse environments that are no nodes of the tree."""
    checked_names(environments, tree)


def _categorical(environments: Names) -> pd.Categorical:
    values = environments.array if isinstance(environments, pd.Series | pd.Index) else environments
    if isinstance(values, pd.Categorical):
        return values
    # in parts, so that names of a fixed width are never all held as Python's strings
    array = values if isinstance(values, np.ndarray) else np.asarray(values, dtype=object)
    codes = np.empty(len(array), dtype=np.int32)
    number: dict[Any, int] = {}
    for start in range(0, len(array), _PART):
        part, found = pd.factorize(array[start : start + _PART].astype(object))
        names = [number.setdefault(name, len(number)) for name in found]
        codes[start : start + _PART] = np.array([*names, -1])[part]
    return pd.Categorical.from_codes(codes, categories=pd.Index(list(number), dtype=object))


def _split(
    n_cells: int, train: np.ndarray | None, validation: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit and rows to choose by; a tenth is held back where neither is given."""
    if train is None:
        if validation is None:
            held_back = rng.random(n_cells) < _VALIDATION_SHARE
            train, validation = np.flatnonzero(~held_back), np.flatnonzero(held_back)
        else:
            train = np.setdiff1d(np.arange(n_cells), validation)
    rows = {"train": train, "validation": np.arange(0) if validation is None else validation}
    for name, given in rows.items():
        array = np.asarray(given)
        if array.dtype == bool and array.shape == (n_cells,):
            array = np.flatnonzero(array)
        if array.ndim != 1 or (len(array) and not (array.min() >= 0 and array.max() < n_cells)):
            raise InputError(name, "is not a list of row numbers of X", f"Give numbers below {n_cells}")
        ascending = bool((np.diff(array) > 0).all())
        rows[name] = (array if ascending else np.unique(array)).astype(np.int64, copy=False)
    if len(rows["train"]) < 2:
        raise InputError("train", f"{len(rows['train'])} training cell(s)", "Give at least 2")
    return rows["train"], rows["validation"]
