"""Scores of all models beside their references, and agreement of factors between fits."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from latentree.plots.style import COLOURS, GREY, WIDTH, drawing, new_figure, save, save_sentence

_SHOWN = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy"}
_LINES = {"majority": "--", "chance": ":"}


def draw_scores(metrics: pd.DataFrame, path: str | Path, *, title: str | None = None) -> None:
    """Draw accuracy on test cells: a dot per seed, a bar at the mean, lines at majority and chance.

    Parameters
    ----------
    metrics
        ``tables/metrics.tsv``: model, n_factors, seed, metric, split, value.
    path
        SVG (or PNG) to write.
    title
        Above the panels.
    """
    rows = metrics[metrics["metric"].isin(list(_SHOWN)) & (metrics["split"] == "test")].copy()
    rows["value"] = pd.to_numeric(rows["value"], errors="coerce")
    rows = rows.dropna(subset="value")
    fits = rows[~rows["model"].isin(list(_LINES))]
    if fits.empty:
        save_sentence("No accuracy was measured.", path, title)
        return
    names = [_fit_name(*key) for key in fits[["model", "n_factors"]].drop_duplicates().to_numpy()]
    with drawing():
        figure = new_figure(WIDTH, 1.2 + 0.26 * len(names))
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
        handles, labels = figure.axes[0].get_legend_handles_labels()
        if labels:
            figure.legend(handles, labels, loc="outside upper right", ncols=len(labels))
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        save(figure, path)


def draw_stability(stability: pd.DataFrame, path: str | Path, *, title: str | None = None) -> None:
    """Draw agreement of matched factors between fits: a dot per factor, a bar at the mean of all.

    Parameters
    ----------
    stability
        ``tables/stability.tsv``: model, n_factors, comparison, factor, agreement (0 to 1).
    path
        SVG (or PNG) to write.
    title
        Above the panel.
    """
    table = stability.copy()
    table["agreement"] = pd.to_numeric(table["agreement"], errors="coerce")
    table = table.dropna(subset="agreement")
    if table.empty:
        save_sentence("Nothing to compare: agreement needs at least two fits of a model.", path, title)
        return
    groups = list(table.groupby(["model", "n_factors", "comparison"], sort=False))
    names = [f"{_fit_name(model, k)}, {comparison}" for (model, k, comparison), _ in groups]
    values = [rows.loc[rows["factor"].astype(str) != "all", "agreement"].to_numpy() for _, rows in groups]
    means = [rows.loc[rows["factor"].astype(str) == "all", "agreement"].mean() for _, rows in groups]
    with drawing():
        figure = new_figure(WIDTH, 1.1 + 0.26 * len(names))
        axes = figure.add_subplot()
        _dots(axes, names, values, means)
        axes.set_xlim(-0.02, 1.03)
        axes.set_xlabel("agreement of matched factors, |correlation|")
        if title:
            axes.set_title(title)
        save(figure, path)


def _fit_name(model: object, n_factors: object) -> str:
    return f"{model} k={n_factors}"


def _dots(
    axes: Axes, names: list[str], values: Sequence[np.ndarray], means: Sequence[float] | None = None
) -> None:
    """One row per name from the top: its values as dots, its mean as a bar."""
    for i, group in enumerate(values):
        mean = means[i] if means is not None else (group.mean() if len(group) else np.nan)
        axes.plot(group, np.full(len(group), i), "o", color=COLOURS[0], alpha=0.55, markersize=4.5, mew=0)
        if np.isfinite(mean):
            axes.plot([mean], [i], "|", color=COLOURS[5], markersize=12, mew=2)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)


def _reference_lines(axes: Axes, rows: pd.DataFrame) -> None:
    """Lines at the levels that need no model."""
    for model, dash in _LINES.items():
        level = rows.loc[rows["model"] == model, "value"].mean()
        if np.isfinite(level):
            axes.axvline(level, color=GREY, linestyle=dash, linewidth=1, label=model)
