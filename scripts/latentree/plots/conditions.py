"""Effects of conditions on factors: with intervals over all types, as a heat map by cell type."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from latentree.plots.style import (
    COLOURS,
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
from latentree.plots.usage import COLUMN, ROW, named_grid

ALL_TYPES = "all"
SIGNIFICANT = 0.05
_PANEL = 1.6  # inches of the intervals' panel
_MOST_CONDITIONS = 4


def draw_conditions(table: pd.DataFrame, path: Target, *, title: str | None = None) -> None:
    """Draw one fit's differences between conditions, at most four of them, one below the other.

    Parameters
    ----------
    table
        tables/conditions.tsv, the rows of one fit.
    path
        SVG or PNG to write, or several files of the same picture.
    title
        Default: the model and its number of factors.
    """
    if table.empty:
        save_sentence("No factor is alive: there is nothing to compare.", path, title)
        return
    factors = list(dict.fromkeys(table["factor"]))
    conditions = sorted(table["condition"].unique())
    shown = conditions[:_MOST_CONDITIONS]
    types = sorted(set(table["cell_type"]) - {ALL_TYPES})
    first = table.iloc[0]
    heading = title or f"{fit_title(first['model'], first['n_factors'])}: between conditions"
    if len(shown) < len(conditions):
        heading += f" ({len(shown)} of {len(conditions)})"
    width = max(WIDTH, 2.3 + COLUMN * len(factors))
    height = _PANEL + 0.9 + ROW * len(types)
    with drawing():
        figure = new_figure(width, 0.8 + height * len(shown))
        panels = figure.subplots(
            2 * len(shown), 1, height_ratios=[_PANEL, max(ROW * len(types), 0.5)] * len(shown), squeeze=False
        )[:, 0]
        largest = float(np.nanmax(np.abs(table["effect"]), initial=0)) or 1.0
        for i, condition in enumerate(shown):
            mine = table[table["condition"] == condition]
            _intervals(panels[2 * i], mine[mine["cell_type"] == ALL_TYPES], factors, width)
            names = [shortened(name, 14) for name in (condition, str(first["reference"]))]
            panels[2 * i].set_ylabel(textwrap.fill(f"{names[0]} − {names[1]}, sd", 20))
            mesh = _heat_map(panels[2 * i + 1], mine[mine["cell_type"] != ALL_TYPES], types, factors, largest)
        _key(figure, panels[-1], mesh)
        figure.suptitle(heading, x=0.01, ha="left", fontsize=10)
        save(figure, path)


def _intervals(axes: Axes, rows: pd.DataFrame, factors: list[str], width: float) -> None:
    """Effect over all types of every factor with its interval; hollow where nothing was tested."""
    rows = rows.set_index("factor").reindex(factors)
    effect, q_value = rows["effect"].to_numpy(dtype=float), rows["q_value"].to_numpy(dtype=float)
    place = np.arange(len(factors))
    low, high = rows["lower"].to_numpy(dtype=float), rows["upper"].to_numpy(dtype=float)
    limit = 1.6 * float(np.nanmax(np.abs(effect), initial=0)) or 1.0
    axes.axhline(0, color=GREY, linewidth=0.7)
    axes.vlines(place, low.clip(-limit, limit), high.clip(-limit, limit), color=GREY, linewidth=1.2)
    tested, found = np.isfinite(low), q_value < SIGNIFICANT
    for mask, face in ((~tested, "white"), (tested & ~found, GREY), (found, COLOURS[5])):
        axes.scatter(place[mask], effect[mask], s=26, c=face, edgecolors=GREY, linewidths=0.8, zorder=3)
    axes.set(xlim=(-0.5, len(factors) - 0.5), ylim=(-limit, limit))
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    notes = sorted({str(note) for note in rows["note"].dropna() if note})
    said = "all types, cells only, nothing tested"
    if tested.any():
        said = f"all types, 95% intervals (cut at the frame), orange: q < {SIGNIFICANT}".replace("0.", ".")
        said += "" if tested.all() else ", hollow: not tested"
    lines = textwrap.wrap("; ".join([said, *notes]), int(15 * (width - 1.9)))
    axes.set_title("\n".join(lines[:4]), fontsize=7, color="#404040")


def _heat_map(
    axes: Axes, rows: pd.DataFrame, types: list[str], factors: list[str], largest: float
) -> QuadMesh:
    """Effects (n_types, n_factors) as colours; a dot at q < .05, a cross where there are no cells."""
    effects = rows.pivot(index="cell_type", columns="factor", values="effect").reindex(types)[factors]
    q_values = rows.pivot(index="cell_type", columns="factor", values="q_value").reindex(types)[factors]
    named_grid(axes, [shortened(name, 30) for name in types], factors)
    axes.grid(visible=False)
    mesh = axes.pcolormesh(
        np.arange(len(factors) + 1) - 0.5,
        np.arange(len(types) + 1) - 0.5,
        effects.to_numpy(dtype=float),
        cmap=DIVERGING,
        vmin=-largest,
        vmax=largest,
        edgecolors="#e4e4e4",
        linewidth=0.4,
    )
    y, x = np.nonzero(q_values.to_numpy() < SIGNIFICANT)
    # white in black is seen on every colour
    axes.scatter(x, y, s=11, c="white", edgecolors="black", linewidths=0.8)
    y, x = np.nonzero(effects.isna().to_numpy())
    axes.scatter(x, y, s=9, c=GREY, marker="x", linewidths=0.8)
    return mesh


def _key(figure: Figure, axes: Axes, mesh: QuadMesh) -> None:
    """The colours' scale below the last heat map."""
    bar = figure.colorbar(mesh, ax=axes, location="bottom", aspect=40, pad=0.03, shrink=0.9)
    bar.set_label(f"difference of means, sd; dot: q < {SIGNIFICANT}".replace("0.", ".") + "; cross: no cells")
    bar.outline.set_visible(False)
