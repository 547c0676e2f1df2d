"""The tree of cell types: leaves to the right, branch lengths along the axis where all are known."""

import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from latentree.plots.style import COLOURS, GREY, Target, drawing, new_figure, save, text_inches
from latentree.tree import Tree

TREE_INCHES = 4.6
LEAF_INCHES = 0.21
LABEL_POINTS = 8.5
_NODE_POINTS = 6.0
_INK = "#333333"


def draw_tree(
    tree: Tree,
    path: Target,
    *,
    n_cells: Mapping[str, int] | None = None,
    title: str = "Tree of the cell types",
) -> None:
    """Draw a rooted tree.

    Parameters
    ----------
    tree
        Drawn with its branch lengths, or with aligned leaves where any length is unknown.
    path
        SVG or PNG to write, or several files of the same picture.
    n_cells
        Cells of each type by its name, written beside it. Internal nodes with cells get a large name
        too, because they are types; the names of other internal nodes are small.
    title
        Above the tree.
    """
    counts = n_cells or {}
    x, by_length = depths(tree)
    y = heights(tree)
    labels = [node_label(name, counts) for name in tree.names]
    leaf_width = max(text_inches(labels[i], LABEL_POINTS) for i in np.flatnonzero(tree.is_leaf))
    n_leaves = int(tree.is_leaf.sum())
    with drawing():
        figure = new_figure(TREE_INCHES + leaf_width + 0.4, max(1.4, LEAF_INCHES * n_leaves + 1.1))
        axes = figure.add_subplot()
        draw_branches(axes, tree, x, y)
        write_names(axes, tree, x, y, labels, counts)
        frame(axes, x, y, leaf_width, by_length)
        if title:
            axes.set_title(textwrap.fill(title, 90))
        save(figure, path)


def depths(tree: Tree, *, aligned: bool = False) -> tuple[np.ndarray, bool]:
    """(n_nodes,) distance from the root, and whether it is made of branch lengths.

    ``aligned``: leaves below each other and one step per branch, whatever the lengths are.
    """
    if not aligned and tree.has_lengths and tree.branch_lengths.sum() > 0:
        depth = np.zeros(tree.n_nodes)
        for node in range(1, tree.n_nodes):
            depth[node] = depth[tree.parents[node]] + tree.branch_lengths[node]
        return depth, True
    # aligned leaves: a node stands as far left as the longest way down from it has branches
    levels = np.zeros(tree.n_nodes)
    for node in range(tree.n_nodes - 1, 0, -1):
        parent = tree.parents[node]
        levels[parent] = max(levels[parent], levels[node] + 1)
    return levels[0] - levels, False


def heights(tree: Tree) -> np.ndarray:
    """(n_nodes,) rows: leaves 0, 1, ... from the top, parents in the middle of their children."""
    order = np.cumsum(tree.is_leaf) - 1.0
    lowest, highest = order.copy(), order.copy()
    lowest[~tree.is_leaf], highest[~tree.is_leaf] = np.inf, -np.inf
    y = order.copy()
    for node in range(tree.n_nodes - 1, -1, -1):
        if not tree.is_leaf[node]:
            y[node] = (lowest[node] + highest[node]) / 2
        parent = tree.parents[node]
        if parent >= 0:
            lowest[parent] = min(lowest[parent], y[node])
            highest[parent] = max(highest[parent], y[node])
    return y


def draw_branches(axes: Axes, tree: Tree, x: np.ndarray, y: np.ndarray) -> None:
    """Every branch as a line, and a line across the children of each node."""
    above = tree.parents[1:]
    axes.hlines(y[1:], x[above], x[1:], color=_INK, linewidth=1.1)
    axes.vlines(x[above], np.minimum(y[above], y[1:]), np.maximum(y[above], y[1:]), color=_INK, linewidth=1.1)


def write_names(
    axes: Axes,
    tree: Tree,
    x: np.ndarray,
    y: np.ndarray,
    labels: list[str],
    counts: Mapping[str, int],
    lift: float = 1.5,
) -> None:
    """Names of the nodes, those without cells small and grey; inner ones ``lift`` points above the line."""
    for node, name in enumerate(tree.names):
        is_type = bool(tree.is_leaf[node]) or counts.get(name, 0) > 0
        if is_type:
            axes.plot(x[node], y[node], "o", color=COLOURS[0], markersize=3.5, zorder=3)
        if tree.is_leaf[node]:
            shift, align, across = (5.0, 0.0), "left", "center_baseline"
        else:
            shift, align, across = (-2.0, lift), "right", "bottom"
        axes.annotate(
            labels[node],
            (x[node], y[node]),
            xytext=shift,
            textcoords="offset points",
            ha=align,
            va=across,
            fontsize=LABEL_POINTS if is_type else _NODE_POINTS,
            color="black" if is_type else GREY,
            # names of short branches lie across the lines; an outline of the letters would make the SVG ten
            # times as large
            bbox=None if tree.is_leaf[node] else {"facecolor": "white", "edgecolor": "none", "pad": 0.1},
        )


def frame(
    axes: Axes,
    x: np.ndarray,
    y: np.ndarray,
    leaf_width: float,
    by_length: bool,
    tree_inches: float = TREE_INCHES,
) -> None:
    """Ranges, and the axis of lengths; the names of the leaves (inches) get their room."""
    longest = x.max() or 1.0
    # the names stand inside the axes, so their room is part of its range
    room = longest * (leaf_width + 0.15) / tree_inches
    axes.set_xlim(-0.03 * longest, longest + room)
    axes.set_ylim(y.max() + 0.7, -0.9)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    if not by_length:
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        return
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= longest * 1.001])
    axes.spines["bottom"].set_bounds(0, longest)
    axes.set_xlabel("distance from the root (branch lengths)", loc="left")


def node_label(name: str, counts: Mapping[str, int]) -> str:
    """The whole name on one line, with its cells."""
    line = " ".join(name.split()) or repr(name)
    return f"{line} ({counts[name]:,})" if counts.get(name, 0) > 0 else line
