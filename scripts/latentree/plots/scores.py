"""Scores of all models beside their references, and agreement of factors between fits."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from latentree.plots.style import COLOURS, GREY, WIDTH, Target, drawing, new_figure, save, save_sentence
from latentree.seeds import CONSENSUS

_SHOWN = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy"}
_COMPARISONS = {"halves": "disjoint halves", "resamples": "resamples", "seeds": "seeds"}
# chance is seen on the majority's line, too, where they are the same
_LINES = {"majority": ("#bdbdbd", "-", 2.5), "chance": ("black", ":", 1.2)}


def draw_scores(metrics: pd.DataFrame, path: Target, *, title: str = "Cell types told from latents") -> None:
    """Draw accuracy on test cells: a dot per seed, a bar at the mean, lines at majority and chance.

    Parameters
    ----------
    metrics
        ``tables/metrics.tsv``: model, n_factors, seed, metric, split, value.
    path
        SVG or PNG to write, or several files of the same picture.
    title
        Above the panels.
    """
    shown = metrics["metric"].isin(list(_SHOWN)) & (metrics["split"] == "test")
    rows = metrics[shown & (metrics["seed"].astype(str) != CONSENSUS)].copy()
    rows["value"] = pd.to_numeric(rows["value"], errors="coerce")
    rows = rows.dropna(subset="value")
    fits = rows[~rows["model"].isin(list(_LINES))]
    if fits.empty:
        save_sentence("No accuracy was measured.", path, title)
        return
    names = [_fit_name(*key) for key in fits[["model", "n_factors"]].drop_duplicates().to_numpy()]
    with drawing():
        figure = new_figure(WIDTH, 1.5 + 0.26 * len(names))
        for axes, (metric, label) in zip(figure.subplots(1, 2, sharey=True), _SHOWN.items(), strict=True):
            mine = fits[fits["metric"] == metric]
            values = [
                mine.loc[
                    [_fit_name(*key) == name for key in mine[["model", "n_factors"]].to_numpy()], "value"
                ]
                for name in names
            ]
            _dots(axes, names, [group.to_numpy() for group in values])
            _reference_lines(axes, rows[rows["metric"] == metric])
            axes.set_xlabel(f"{label}, test cells")
        lines, _ = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles=[*_key("seed"), *lines], loc="outside lower left", ncols=4, fontsize=8)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        save(figure, path)


def draw_stability(
    stability: pd.DataFrame, path: Target, *, title: str = "Agreement of matched factors between fits"
) -> None:
    """Draw agreement of matched factors between fits: a dot per factor, a bar at the mean of all.

    A panel for each comparison that there is: halves, resamples, seeds. References come last, in grey.

    Parameters
    ----------
    stability
        ``tables/stability.tsv``: model, n_factors, comparison, factor, agreement (0 to 1), reference_seed
        (``none`` for references).
    path
        SVG or PNG to write, or several files of the same picture.
    title
        Above the panels.
    """
    table = stability.copy()
    table["agreement"] = pd.to_numeric(table["agreement"], errors="coerce")
    table = table.dropna(subset="agreement")
    if table.empty:
        save_sentence("Nothing to compare: agreement needs at least two fits of a model.", path, title)
        return
    groups = list(table.groupby(["model", "n_factors"], sort=False))
    groups.sort(key=lambda item: _is_reference(item[1]))
    names = [_fit_name(*key) for key, _ in groups]
    colours = [GREY if _is_reference(rows) else COLOURS[0] for _, rows in groups]
    panels = [name for name in _COMPARISONS if (table["comparison"] == name).any()]
    with drawing():
        figure = new_figure(WIDTH, 1.8 + 0.26 * len(names))
        for axes, name in zip(
            figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True
        ):
            mine = [rows[rows["comparison"] == name] for _, rows in groups]
            overall = [rows["factor"].astype(str) == "all" for rows in mine]
            values = [rows.loc[~of, "agreement"].to_numpy() for rows, of in zip(mine, overall, strict=True)]
            means = [rows.loc[of, "agreement"].mean() for rows, of in zip(mine, overall, strict=True)]
            _dots(axes, names, values, means, colours)
            axes.set_xlim(-0.03, 1.03)
            axes.set_xlabel("|correlation|")
            axes.set_title(_COMPARISONS[name])
        figure.legend(handles=_key("factor", "reference"), loc="outside lower left", ncols=4, fontsize=8)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        save(figure, path)


def _is_reference(rows: pd.DataFrame) -> bool:
    """Whether rows of the table are of no model of the config."""
    return bool((rows["reference_seed"].astype(str) == "none").all())


def _fit_name(model: object, n_factors: object) -> str:
    return f"{model} k={n_factors}"


def _dots(
    axes: Axes,
    names: list[str],
    values: Sequence[np.ndarray],
    means: Sequence[float] | None = None,
    colours: Sequence[str] | None = None,
) -> None:
    """One row per name from the top: its values as dots, its mean as a bar."""
    for i, group in enumerate(values):
        mean = means[i] if means is not None else (group.mean() if len(group) else np.nan)
        colour = COLOURS[0] if colours is None else colours[i]
        axes.plot(group, np.full(len(group), i), "o", color=colour, alpha=0.55, markersize=4.5, mew=0)
        if np.isfinite(mean):
            axes.plot([mean], [i], "|", color=COLOURS[5], markersize=12, mew=2)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)


def _key(dot: str, grey: str | None = None) -> list[Line2D]:
    """What dots and bars are, and whose dots are grey."""
    names = {COLOURS[0]: dot, **({GREY: f"{dot} of a {grey}"} if grey else {})}
    dots = [
        Line2D([], [], linestyle="", marker="o", color=colour, mew=0, markersize=4.5, label=name)
        for colour, name in names.items()
    ]
    mean = Line2D([], [], linestyle="", marker="|", color=COLOURS[5], markersize=10, mew=2, label="mean")
    return [*dots, mean]


def _reference_lines(axes: Axes, rows: pd.DataFrame) -> None:
    """Lines at the levels that need no model."""
    for model, (colour, dash, width) in _LINES.items():
        level = rows.loc[rows["model"] == model, "value"].mean()
        if np.isfinite(level):
            axes.axvline(level, color=colour, linestyle=dash, linewidth=width, zorder=1, label=model)
