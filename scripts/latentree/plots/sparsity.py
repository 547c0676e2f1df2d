"""How sparse the loadings of each model are, against the number of factors."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from latentree.plots.style import (
    GREY,
    WIDTH,
    Target,
    drawing,
    new_figure,
    save,
    save_sentence,
    series_mark,
)
from latentree.seeds import CONSENSUS

_PANELS = {"zeros": "exact zeros, % of loadings", "active_genes": "genes per live factor"}
_LEGEND_COLUMNS = 4
_DODGE = 0.06  # between two models, as a share of the way to the next number of factors


def draw_sparsity(metrics: pd.DataFrame, path: Target, *, title: str = "How sparse the loadings are") -> None:
    """Draw the share of exact zeros and the genes per factor against K: mean, and range over seeds.

    Models none of whose loadings is exactly zero are one grey line.

    Parameters
    ----------
    metrics
        ``tables/metrics.tsv``.
    path
        SVG or PNG to write, or several files of the same picture.
    title
        Above the panels.
    """
    fits = sparsity_of_fits(metrics)
    if fits.empty:
        save_sentence("No fit has a live factor.", path, title)
        return
    largest = fits.groupby("model", sort=False)["zeros"].max()
    sparse = [str(name) for name in largest.index[largest > 0]]
    dense = [str(name) for name in largest.index[largest == 0]]
    with drawing():
        figure = new_figure(WIDTH, 2.8 + 0.19 * -(-len(sparse) // _LEGEND_COLUMNS))
        for axes, (column, label) in zip(figure.subplots(1, 2), _PANELS.items(), strict=True):
            if dense:
                _grey_line(axes, fits[fits["model"].isin(dense)], column)
            for i, model in enumerate(sparse):
                _line(axes, fits[fits["model"] == model], column, i, len(sparse))
            axes.set_title(label, fontsize=9)
            axes.set_xlabel("number of factors")
            _number_axis(axes, sorted(fits["n_factors"].unique()))
        figure.axes[0].set_ylim(-4, 104)
        figure.axes[1].set_ylim(bottom=0)
        figure.axes[1].margins(y=0.1)
        figure.legend(
            handles=[_handle(i, model) for i, model in enumerate(sparse)],
            title=textwrap.fill(f"dashed: {', '.join(dense)}, without exact zeros", 75) if dense else None,
            title_fontsize=8,
            alignment="left",
            loc="outside lower left",
            ncols=_LEGEND_COLUMNS,
            fontsize=8,
        )
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        save(figure, path)


def sparsity_of_fits(metrics: pd.DataFrame) -> pd.DataFrame:
    """A row per fit of a seed with live factors: model, n_factors, zeros (%), active_genes.

    Dead factors, which are all zero, count in neither number.
    """
    wanted = ["zeros", "active_genes", "alive_factors"]
    rows = metrics[metrics["metric"].isin(wanted) & ~metrics["seed"].isin(["none", CONSENSUS])]
    table = rows.pivot(index=["model", "n_factors", "seed"], columns="metric", values="value")
    table = table.reindex(columns=wanted).astype(float).reset_index()
    table = table[table["alive_factors"] > 0].dropna(subset=wanted)
    share_other = (1 - table["zeros"]) * table["n_factors"].astype(float) / table["alive_factors"]
    # both counts were divided and multiplied again; no share of zeros is as small as the rounding
    table["zeros"] = (100 * (1 - share_other)).where(share_other < 1 - 1e-7, 0.0)
    return table[["model", "n_factors", "zeros", "active_genes"]]


def _number_axis(axes: Axes, numbers: list[int]) -> None:
    """The numbers of factors that there are, or round ones where they are many."""
    if len(numbers) <= 6:
        axes.set_xticks(numbers)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    step = min(np.diff(numbers), default=1)
    axes.set_xlim(numbers[0] - 0.6 * step, numbers[-1] + 0.6 * step)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)


def _line(axes: Axes, fits: pd.DataFrame, column: str, i: int, n_models: int) -> None:
    """Mean over the seeds of one model, and a bar from the lowest to the highest."""
    of_numbers = fits.groupby("n_factors")[column].agg(["mean", "min", "max"])
    numbers = of_numbers.index.to_numpy(dtype=float)
    # beside each other, so that no model hides another
    place = numbers + _DODGE * min(np.diff(numbers), default=1) * (i - (n_models - 1) / 2)
    axes.vlines(place, of_numbers["min"], of_numbers["max"], color=series_mark(i)[0], linewidth=1.5)
    handle = _handle(i, str(fits["model"].iloc[0]))
    handle.set_data(place, of_numbers["mean"].to_numpy())
    axes.add_line(handle)
    axes.update_datalim(np.column_stack([place, of_numbers["max"]]))
    axes.autoscale_view()


def _handle(i: int, model: str) -> Line2D:
    colour, marker = series_mark(i)
    return Line2D([], [], color=colour, marker=marker, markersize=5, linewidth=1.2, label=model)


def _grey_line(axes: Axes, fits: pd.DataFrame, column: str) -> None:
    """What no model without exact zeros differs from: no zeros, and all genes."""
    axes.axhline(fits[column].mean(), color=GREY, linestyle="--", linewidth=1.2)
