"""Heat map of gene sets and the factors that move them, beside the same model's with permuted sets."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from latentree.plots.style import WIDTH, Target, drawing, fit_title, new_figure, save, shortened

_COLOURS = "Blues"


def draw_groups(weights: pd.DataFrame, path: Target, *, max_sets: int = 40) -> None:
    """Draw the effects of factors (columns) on the sets (rows) that they move most.

    Parameters
    ----------
    weights
        Rows of one fit and of its control from :func:`latentree.group_tables.weights_table`.
    path
        SVG or PNG to write, or several files of the same picture.
    max_sets
        Sets shown at most, shared out evenly among the factors (at least one each).
    """
    kinds = [kind for kind in ("given", "permuted") if (weights["sets"] == kind).any()]
    shown = {kind: effects(weights[weights["sets"] == kind], max_sets) for kind in kinds}
    n_factors = max(table.shape[1] for table in shown.values())
    n_rows = max(len(table) for table in shown.values())
    with drawing():
        width = 2.6 + len(kinds) * max(1.2, 0.2 * n_factors)
        figure = new_figure(max(WIDTH, width), 1.5 + max(1.0, 0.155 * n_rows))
        first = weights.iloc[0]
        heading = f"{fit_title(first['model'], first['n_factors'])}: gene sets that they move"
        figure.suptitle(heading, x=0.01, ha="left", fontsize=10)
        panels = figure.subplots(1, len(kinds), squeeze=False)[0]
        for axes, kind in zip(panels, kinds, strict=True):
            every = weights[weights["sets"] == kind]
            left = f"{int((every['weight'].astype(float) != 0).sum())} of {len(every)} pairs left"
            _heat_map(axes, shown[kind], named=kind == kinds[0])
            axes.set_title(f"{kind} gene sets\n{left}", pad=8, fontsize=8)
        save(figure, path)


def effects(weights: pd.DataFrame, max_sets: int) -> pd.DataFrame:
    """Sets x factors: effects as a share of the factor's largest, the strongest sets of f1 first.

    Sets that no factor moves are left out, and each set is there once.
    """
    factors = sorted(weights["factor"].unique(), key=lambda name: int(name[1:]))
    table = weights.pivot(index="gene_set", columns="factor", values="effect")[factors].astype(float)
    each = max(1, max_sets // len(factors))
    chosen: list[str] = []
    for factor in factors:
        largest = table[factor].sort_values(ascending=False, kind="stable")[:each]
        chosen += [name for name in largest[largest > 0].index if name not in chosen]
    return (table / table.max().replace(0, 1)).loc[chosen]


def _heat_map(axes: Axes, table: pd.DataFrame, named: bool) -> None:
    """Sets as coloured cells, 0 white; the control's are no sets, so they have no names."""
    values = table.to_numpy() if len(table) else np.zeros((1, table.shape[1]))
    mesh = axes.pcolormesh(values, cmap=_COLOURS, vmin=0, vmax=1, edgecolors="#e4e4e4", linewidth=0.4)
    axes.invert_yaxis()
    axes.xaxis.tick_top()
    axes.set_xticks(np.arange(table.shape[1]) + 0.5, table.columns, fontsize=7, rotation=90)
    names = [shortened(name, 42) for name in table.index] if named else []
    axes.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=7)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if not len(table):
        axes.text(table.shape[1] / 2, 0.5, "no factor moves any set", ha="center", va="center", fontsize=7)
    if named:
        bar = axes.figure.colorbar(mesh, ax=axes, location="bottom", aspect=20, pad=0.02, ticks=[0, 0.5, 1])
        bar.set_label("effect / largest of its factor")
        bar.outline.set_visible(False)
