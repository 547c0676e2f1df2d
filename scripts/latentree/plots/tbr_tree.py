"""The tree of cell types with marks on the branches where latent effects on a phenotype change."""

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import Affine2DBase, ScaledTranslation

from latentree.plots.style import COLOURS, GREY, Target, drawing, new_figure, save, text_inches
from latentree.plots.tree import (
    LABEL_POINTS,
    LEAF_INCHES,
    TREE_INCHES,
    depths,
    draw_branches,
    frame,
    heights,
    node_label,
    write_names,
)
from latentree.tree import Tree

_LEVEL_INCHES = 0.55
_WIDEST = 14.0
# marker areas in square points, of no change and of the largest one
_SMALLEST, _LARGEST = 16.0, 90.0
_GAP_POINTS = 12.0
_PLACE = 0.35
_LIFT = 4.5  # of names, above the marks
_PREFERRED = ("two_stage", "joint")


def shown_estimator(table: pd.DataFrame) -> str:
    """The estimator that is drawn: two_stage where it ran, else joint, else the first."""
    names = table["estimator"].tolist()
    return str(next((name for name in _PREFERRED if name in names), names[0]))


def shown_fit(changes: pd.DataFrame) -> pd.DataFrame:
    """The rows of the fit that is drawn: the shown estimator's first seed."""
    if changes.empty:
        return changes
    mine = changes[changes["estimator"] == shown_estimator(changes)]
    return mine[mine["seed"].astype(str) == str(mine["seed"].iloc[0])]


def excludes_zero(changes: pd.DataFrame) -> pd.Series:
    """Whether a change is there and its interval lies on its side of 0; false where there is no interval."""
    up = (changes["change"] > 0) & (changes["lower"] > 0)
    return up | ((changes["change"] < 0) & (changes["upper"] < 0))


def draw_tbr_tree(
    tree: Tree,
    changes: pd.DataFrame,
    path: Target,
    *,
    n_cells: Mapping[str, int] | None = None,
    title: str = "Branches on which effects on the phenotype change",
) -> None:
    """Draw the tree, leaves below each other, with a triangle for every change.

    A triangle points up where the effect grows and down where it shrinks, has its latent's colour and
    the size of the change, and is filled where the interval excludes 0.

    Parameters
    ----------
    changes
        Of one fit: branch, latent, change, lower, upper.
    path
        SVG or PNG to write, or several files of the same picture.
    n_cells
        Cells of each type by its name.
    title
        Above the tree.
    """
    counts = n_cells or {}
    x, _ = depths(tree, aligned=True)
    y = heights(tree)
    labels = [node_label(name, counts) for name in tree.names]
    leaf_width = max(text_inches(labels[i], LABEL_POINTS) for i in np.flatnonzero(tree.is_leaf))
    width = min(max(TREE_INCHES, _LEVEL_INCHES * float(x.max())), _WIDEST)
    n_leaves = int(tree.is_leaf.sum())
    latents = list(dict.fromkeys(changes["latent"]))
    drawn = changes[changes["change"] != 0]
    with drawing():
        figure = new_figure(width + leaf_width + 0.4, max(1.4, LEAF_INCHES * n_leaves + 0.5) + 0.8)
        axes = figure.add_subplot()
        draw_branches(axes, tree, x, y)
        write_names(axes, tree, x, y, labels, counts, lift=_LIFT)
        frame(axes, x, y, leaf_width, by_length=False, tree_inches=width)
        _draw_changes(axes, tree, drawn, latents, x, y, figure.dpi_scale_trans)
        handles = _legend(latents, drawn)
        if handles:
            figure.legend(handles=handles, loc="outside lower left", ncols=3, fontsize=8)
        else:
            figure.text(0.02, 0.02, "No effect changes on any branch.", color=GREY)
        if title:
            axes.set_title(textwrap.fill(title, 90))
        save(figure, path)


def _draw_changes(
    axes: Axes,
    tree: Tree,
    drawn: pd.DataFrame,
    latents: list[str],
    x: np.ndarray,
    y: np.ndarray,
    scale: Affine2DBase,
) -> None:
    """Triangles side by side on each branch."""
    if drawn.empty:
        return
    largest = float(drawn["change"].abs().max())
    marked = drawn.assign(sure=excludes_zero(drawn))
    for branch, mine in marked.groupby("branch", sort=False):
        node = tree.index[str(branch)]
        above = x[int(tree.parents[node])]
        # nearer to the parent, because the name of the child stands at the other end
        place = above + _PLACE * (x[node] - above)
        shifts = _GAP_POINTS * (np.arange(len(mine)) - (len(mine) - 1) / 2)
        for latent, change, sure, shift in zip(
            mine["latent"], mine["change"], mine["sure"], shifts, strict=True
        ):
            colour = _colour(latents, latent)
            axes.scatter(
                [place],
                [y[node]],
                s=_SMALLEST + (_LARGEST - _SMALLEST) * abs(change) / largest,
                marker="^" if change > 0 else "v",
                facecolors=colour if sure else "white",
                edgecolors=colour,
                linewidths=1.2,
                # beside each other by points, because branches differ in length
                transform=axes.transData + ScaledTranslation(shift / 72, 0, scale),
                zorder=4,
            )


def _legend(latents: list[str], drawn: pd.DataFrame) -> list[Line2D]:
    """What colours, directions and filling mean; nothing where nothing is drawn."""
    if drawn.empty:
        return []

    largest = drawn["change"].abs().max()

    def handle(colour: str, marker: str, face: str, text: str, points: float = 6) -> Line2D:
        handle = Line2D([], [], linestyle="", color=colour, marker=marker, markersize=points, label=text)
        handle.set_markerfacecolor(face)
        return handle

    changing = [latent for latent in latents if (drawn["latent"] == latent).any()]
    return [
        *(handle(_colour(latents, name), "s", _colour(latents, name), name) for name in changing),
        handle(GREY, "^", "white", "effect grows"),
        handle(GREY, "v", "white", "effect shrinks"),
        handle(GREY, "^", GREY, "filled: interval excludes 0"),
        handle(GREY, "^", "white", f"this size: change of {largest:.2g}", points=_LARGEST**0.5),
    ]


def _colour(latents: list[str], latent: str) -> str:
    colours = (*COLOURS, GREY)
    return colours[latents.index(latent) % len(colours)]
