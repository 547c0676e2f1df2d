"""What a fit is given, checked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from latentree.errors import InputError, listed, nearest
from latentree.tree import Tree

_VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class Cells:
    """The checked cells of one fit.

    ``X`` (n_cells, n_inputs) float32; ``y`` (n_cells,) float64; ``environments`` (n_cells,) object array of
    node names; ``train`` and ``validation`` ascending int64 row numbers.
    """

    X: np.ndarray
    y: np.ndarray
    environments: np.ndarray
    train: np.ndarray
    validation: np.ndarray


def checked_cells(
    X: np.ndarray | sparse.spmatrix,
    y: Sequence[float] | np.ndarray,
    environments: Sequence[str] | np.ndarray,
    tree: Tree,
    train: np.ndarray | None,
    validation: np.ndarray | None,
    rng: np.random.Generator,
) -> Cells:
    """Check inputs, phenotype, environments and split; each problem is an :class:`InputError`."""
    inputs = checked_inputs(X)
    target = np.asarray(y, dtype=np.float64)
    names = np.asarray(environments, dtype=object)
    if target.ndim != 1 or names.ndim != 1 or not len(inputs) == len(target) == len(names):
        raise InputError(
            "X, y, environments",
            f"have shapes {inputs.shape}, {target.shape} and {names.shape}",
            "Give one row of X, one number and one node name for each cell",
        )
    check_finite(target, "y")
    check_names(names, tree)
    train, validation = _split(len(inputs), train, validation, rng)
    if target[train].std() <= 1e-9 * np.abs(target[train]).max(initial=0):
        raise InputError(
            "y",
            f"is constant ({target[train][0]:g}) over the {len(train)} training cells",
            "Give a phenotype that varies between cells",
        )
    return Cells(inputs, target, names, train, validation)


def checked_inputs(X: np.ndarray | sparse.spmatrix) -> np.ndarray:
    """Inputs as float32 (n_cells, n_inputs) without missing values."""
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


def check_names(environments: np.ndarray, tree: Tree) -> None:
    """Refuse environments that are no nodes of the tree."""
    strange = sorted({str(name) for name in set(environments.tolist()) if name not in tree.index})
    if strange:
        raise InputError(
            "environments",
            f"{len(strange)} name(s) are no nodes of the tree: {listed(strange)}"
            f"{nearest(strange[0], tree.names)}",
            f"Use the tree's nodes: {listed(tree.names)}",
        )


def _split(
    n_cells: int, train: np.ndarray | None, validation: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit and rows to choose by; a tenth is held back where neither is given."""
    if train is None:
        free = np.setdiff1d(np.arange(n_cells), np.arange(0) if validation is None else validation)
        if validation is None:
            held_back = rng.random(n_cells) < _VALIDATION_SHARE
            free, validation = np.flatnonzero(~held_back), np.flatnonzero(held_back)
        train = free
    rows = {"train": train, "validation": np.arange(0) if validation is None else validation}
    for name, given in rows.items():
        array = np.asarray(given)
        if array.dtype == bool and array.shape == (n_cells,):
            array = np.flatnonzero(array)
        if array.ndim != 1 or (len(array) and not (array.min() >= 0 and array.max() < n_cells)):
            raise InputError(name, "is not a list of row numbers of X", f"Give numbers below {n_cells}")
        rows[name] = np.unique(array).astype(np.int64)
    if len(rows["train"]) < 2:
        raise InputError("train", f"{len(rows['train'])} training cell(s)", "Give at least 2")
    return rows["train"], rows["validation"]
