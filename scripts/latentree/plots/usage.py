"""Which cell types use which factors: a dot for each pair, by share of cells and mean usage."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from latentree.plots.style import (
    DIVERGING,
    GREY,
    WIDTH,
    Target,
    drawing,
    fit_title,
    new_figure,
    save,
    save_sentence,
    shortened,
)

ROW = 0.17
"""Inches of a cell type's row: 47 of them fit on a page."""
COLUMN = 0.3
_LARGEST = 9.0  # points, a dot's width where all cells of the type use the factor
_SIZES = 20  # of dots, steps of 5%
_LIMIT = 2.0  # sd at which colours end


def draw_usage(table: pd.DataFrame, path: Target, *, title: str | None = None) -> None:
    """Draw the usage of one fit's factors (columns) by cell type (rows).

    Parameters
    ----------
    table
        tables/usage.tsv, the rows of one fit.
    path
        SVG or PNG to write, or several files of the same picture.
    title
        Default: the model and its number of factors.
    """
    if table.empty:
        save_sentence("No factor is alive: there is no usage to show.", path, title)
        return
    factors = list(dict.fromkeys(table["factor"]))
    means = table.pivot(index="cell_type", columns="factor", values="mean_usage")[factors]
    types = type_order(means)
    shares = table.pivot(index="cell_type", columns="factor", values="share_using").loc[types, factors]
    sizes = table.groupby("cell_type")["n_cells"].first()
    first = table.iloc[0]
    with drawing():
        figure = new_figure(max(WIDTH, 2.3 + COLUMN * len(factors)), 1.5 + ROW * len(types))
        axes = figure.add_subplot()
        named_grid(axes, [f"{shortened(name, 26)} ({sizes[name]:,})" for name in types], factors)
        _dots(figure, axes, means.loc[types].to_numpy(), shares.to_numpy())
        axes.set_title(title or f"{fit_title(first['model'], first['n_factors'])}: usage by cell type", pad=8)
        save(figure, path)


def type_order(means: pd.DataFrame) -> list[str]:
    """Types (rows) by the factor (column) that they use most, then by how much."""
    values = means.to_numpy()
    favourite = values.argmax(axis=1)
    order = np.lexsort((-values.max(axis=1), favourite))
    return [str(name) for name in means.index[order]]


def named_grid(axes: Axes, rows: list[str], columns: list[str]) -> None:
    """A frame with a name for each row, first on top, and each column."""
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    axes.xaxis.tick_top()
    axes.set_xticks(np.arange(len(columns)), columns)
    axes.set_yticks(np.arange(len(rows)), rows, fontsize=7)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(color="#e8e8e8", linewidth=0.5)


def _dots(figure: Figure, axes: Axes, means: np.ndarray, shares: np.ndarray) -> None:
    """A dot for every type and factor, both tables (n_types, n_factors), and the two keys below."""
    norm = Normalize(-_LIMIT, _LIMIT)
    # one size at a time: an SVG then holds each circle once, and a reference to it for every dot
    steps = np.ceil(np.nan_to_num(shares) * _SIZES).astype(int)
    for step in np.unique(steps[steps > 0]):
        y, x = np.nonzero(steps == step)
        axes.scatter(
            x,
            y,
            s=_LARGEST**2 * step / _SIZES,
            c=means[y, x],
            cmap=DIVERGING,
            norm=norm,
            edgecolors=GREY,
            linewidths=0.3,
        )
    bar = figure.colorbar(
        ScalarMappable(norm, DIVERGING),
        ax=axes,
        location="bottom",
        aspect=40,
        pad=0.02,
        shrink=0.9,
        extend="both",
        ticks=[-2, -1, 0, 1, 2],
    )
    bar.set_label("mean usage beside all cells, sd")
    bar.outline.set_visible(False)
    keys = [
        Line2D(
            [],
            [],
            linestyle="",
            marker="o",
            markersize=_LARGEST * np.sqrt(share),
            color="white",
            mec=GREY,
            mew=0.5,
        )
        for share in (0.1, 0.5, 1.0)
    ]
    figure.legend(
        keys,
        ["10%", "50%", "100% of the type's cells use it"],
        loc="outside lower center",
        ncols=3,
        fontsize=8,
        handletextpad=0.2,
    )
