"""What speaks for each number of factors."""

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

# where nothing is known a panel is left out
_PANELS = {
    "score": "share of the held-out gain",
    "stability_halves": "agreement, halves of cells",
    "alive_factors": "factors: alive, stable (open)",
    "enriched_share": "share of factors with a gene set",
}


def draw_n_factors(
    table: pd.DataFrame, path: Target, *, title: str = "What speaks for each number of factors"
) -> None:
    """Draw every model's fit, stability, live factors and enrichment against K; rings: recommended.

    Parameters
    ----------
    table
        ``tables/n_factors.tsv``.
    path
        SVG or PNG to write, or several files of the same picture.
    title
        Above the panels.
    """
    several = table.groupby("model")["n_factors"].transform("nunique") > 1
    shown = table[several]
    if shown.empty:
        save_sentence(
            "Each model was fitted with one number of factors: nothing to choose from.", path, title
        )
        return
    panels = [name for name in _PANELS if shown[name].notna().any()]
    models = list(shown["model"].unique())
    with drawing():
        rows = -(-len(panels) // 2)
        figure = new_figure(WIDTH, 1.9 * rows + 0.5)
        grid = figure.subplots(rows, 2, squeeze=False).ravel()
        for axes, name in zip(grid, panels, strict=False):
            for i, model in enumerate(models):
                _line(axes, shown[shown["model"] == model], name, i)
            axes.set_title(_PANELS[name], fontsize=9)
            axes.set_xlabel("number of factors")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
            axes.margins(0.08, 0.1)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        handles, _ = grid[0].get_legend_handles_labels()
        figure.legend(handles=[*handles, *_key()], loc="outside lower left", ncols=4, fontsize=8)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        save(figure, path)


def _key() -> list[Line2D]:
    """What ring and dashes mean."""
    return [
        Line2D([], [], linestyle="", marker="o", mfc="none", mec=GREY, markersize=9, label="recommended"),
        Line2D([], [], linestyle="--", color=GREY, linewidth=1, label="PCA or varimax"),
    ]


def _line(axes: Axes, rows: pd.DataFrame, name: str, i: int) -> None:
    """One model in one panel, its recommended number in a ring."""
    colour, marker = series_mark(i)
    k = rows["n_factors"]
    axes.plot(
        k, rows[name], color=colour, marker=marker, markersize=4, linewidth=1.2, label=rows["model"].iloc[0]
    )
    if name == "stability_halves":
        # the same line for every model, as the reference depends on K alone
        axes.plot(k, rows["reference_halves"], color=GREY, linestyle="--", linewidth=1, zorder=1)
        axes.set_ylim(0, 1.05)
    if name == "alive_factors":
        axes.plot(
            k, rows["stable_factors"], color=colour, marker=marker, mfc="white", markersize=4, linewidth=0.8
        )
    chosen = rows[rows["recommended"] == "yes"]
    axes.plot(chosen["n_factors"], chosen[name], "o", mfc="none", mec=colour, markersize=10, mew=1.2)
