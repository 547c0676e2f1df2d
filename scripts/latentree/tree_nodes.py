"""From loose nodes to the nodes of one rooted tree: what a table, a text or a linkage must satisfy."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from latentree.errors import InputError, listed


def table_columns(
    rows: Iterable[Sequence[Any]] | pd.DataFrame, source: str
) -> tuple[list[str], list[str], list[float]]:
    """Names, parents' names ("" for none) and branch lengths (nan for none) of a table's rows."""
    if isinstance(rows, pd.DataFrame):
        missing = [column for column in ("node", "parent") if column not in rows.columns]
        if missing:
            raise InputError(
                source,
                f"no column {listed(missing)} (columns: {listed(rows.columns)})",
                "Give columns node, parent and perhaps branch_length",
            )
        columns = [column for column in ("node", "parent", "branch_length") if column in rows.columns]
        rows = rows[columns].itertuples(index=False, name=None)
    names, parents, lengths = [], [], []
    for row in rows:
        if len(row) not in (2, 3):
            raise InputError(
                source, f"a row of {len(row)} values: {row!r}", "Give (node, parent, length) rows"
            )
        names.append(_cell_name(row[0], source))
        parents.append(_cell_name(row[1], source))
        lengths.append(_cell_length(row[2], source) if len(row) == 3 else math.nan)
    return names, parents, lengths


def _cell_name(value: Any, source: str) -> str:
    if isinstance(value, str):
        return value
    if value is None or value is pd.NA or (isinstance(value, float | np.floating) and math.isnan(value)):
        return ""
    # cluster numbers: a column of them with one empty parent arrives as floats
    if isinstance(value, int | np.integer | float | np.floating) and float(value).is_integer():
        return str(int(value))
    raise InputError(source, f"{value!r} is not a node's name", "Give names as text")


def _cell_length(value: Any, source: str) -> float:
    if value is None or value is pd.NA or (isinstance(value, str) and not value.strip()):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise InputError(
            source, f"{value!r} is not a branch length", "Give a number, or nothing where it is unknown"
        ) from error


def preorder(names: Sequence[str | None], parents: Sequence[int], source: str) -> list[int]:
    """Nodes from the only root down, children in the order given; two roots and cycles are errors."""
    roots = [node for node, parent in enumerate(parents) if parent < 0]
    if len(roots) > 1:
        raise InputError(
            source,
            f"{len(roots)} roots: {listed(names[node] for node in roots)}",
            "Join them under one root, the only node without a parent",
        )
    children: list[list[int]] = [[] for _ in parents]
    for node, parent in enumerate(parents):
        if parent >= 0:
            children[parent].append(node)
    order, todo = [], roots
    while todo:
        node = todo.pop()
        order.append(node)
        todo.extend(reversed(children[node]))
    if len(order) < len(parents):
        seen = set(order)
        lost = [names[node] for node in range(len(parents)) if node not in seen]
        raise InputError(
            source,
            f"a cycle: {len(lost)} node(s) cannot be reached from a root: {listed(lost)}",
            "Give each node one parent that is nearer to the root",
        )
    return order


def with_names(names: Sequence[str | None]) -> list[str]:
    """Name the unnamed node1, node2, ... in order, with underscores before where a name is taken."""
    taken = {name for name in names if name is not None}
    n_unnamed = sum(name is None for name in names)
    prefix = "node"
    while any(f"{prefix}{i}" in taken for i in range(1, n_unnamed + 1)):
        prefix = "_" + prefix
    numbers = iter(range(1, n_unnamed + 1))
    return [f"{prefix}{next(numbers)}" if name is None else name for name in names]


def check_names(names: Sequence[str], source: str) -> None:
    """Every node has a name, and one of its own."""
    if not names:
        raise InputError(source, "no nodes", "Give at least a root")
    n_empty = sum(not name for name in names)
    if n_empty:
        raise InputError(source, f"{n_empty} node(s) with an empty name", "Name every leaf")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(
            source,
            f"{len(twice)} name(s) used by more than one node: {listed(twice)}",
            "Give every node a name of its own",
        )


def check_lengths(names: Sequence[str], lengths: np.ndarray, source: str) -> None:
    """Lengths (n_nodes,) are finite and not negative, or nan where unknown."""
    bad = np.flatnonzero((lengths < 0) | np.isinf(lengths))
    if len(bad):
        shown = listed(f"{names[int(i)]}: {lengths[i]:g}" for i in bad)
        raise InputError(
            source,
            f"{len(bad)} branch length(s) negative or infinite: {shown}",
            "Give finite lengths of 0 or more; linkages 'centroid' and 'median' cannot give them",
        )
