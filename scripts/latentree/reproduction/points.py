"""Grids of points, the picture of several experiments; no part of drawing.py, which knows all of them."""

from pathlib import Path

import pandas as pd

from latentree.plots.style import COLOURS, drawing, new_figure, save

_PER_ROW = 4


def draw_points(samples: pd.DataFrame, path: Path, size: float = 1.6) -> None:
    """Panels of points in the plane, in the order of their first rows.

    Parameters
    ----------
    samples
        Columns panel, series, x, y; a series has one colour in all panels.
    size
        Inches of a panel's side.
    """
    panels = list(dict.fromkeys(samples["panel"]))
    colours = dict(zip(dict.fromkeys(samples["series"]), COLOURS, strict=False))
    n_columns = min(_PER_ROW, len(panels))
    n_rows = -(-len(panels) // n_columns)
    with drawing():
        figure = new_figure(size * n_columns, size * n_rows + 0.3)
        grid = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for axes, panel in zip(grid, panels, strict=False):
            for series, its in samples[samples["panel"] == panel].groupby("series", sort=False):
                axes.scatter(its["x"], its["y"], s=2, lw=0, color=colours.get(series), rasterized=True)
            axes.set(xticks=[], yticks=[], aspect="equal")
            axes.set_title(str(panel), fontsize=8)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        if len(colours) > 1:
            marks = [grid[0].scatter([], [], s=10, color=colour) for colour in colours.values()]
            figure.legend(marks, list(colours), loc="outside lower center", ncols=len(colours), fontsize=8)
        save(figure, path)
