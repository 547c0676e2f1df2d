"""The picture of the TBR paper's simulation: curves of means with standard deviations over data sets."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from latentree.metrics import mcc_chance
from latentree.plots.style import COLOURS, GREY, WIDTH, drawing, new_figure, save, say

_HEIGHT = 1.75
_MODELS = {"two_stage": COLOURS[0], "joint": COLOURS[1], "baseline": COLOURS[2]}
_MORE_COLOURS = COLOURS[3:]
_STYLES = ("-", "--", ":")


@dataclass(frozen=True)
class Panel:
    """One panel: title, axes, and whether MCC's chance level (of five latents, or of x) is drawn."""

    title: str
    x: str
    y: str
    scale: tuple[Literal["linear", "log"], Literal["linear", "log"]] = ("linear", "linear")
    chance: Literal["", "five", "x"] = ""


_MCC, _ERROR = "MCC", "MSE / noise"
PANELS = {
    "mcc, all nodes": Panel("all nodes observed", "changes per branch, k", _MCC, chance="five"),
    "mcc, leaves": Panel("leaves observed", "changes per branch, k", _MCC, chance="five"),
    "mse, all nodes": Panel("all nodes observed", "changes per branch, k", _ERROR, ("linear", "log")),
    "mse, leaves": Panel("leaves observed", "changes per branch, k", _ERROR, ("linear", "log")),
    "environments": Panel("environments, k 1", "environments", _MCC, ("log", "linear"), "five"),
    "dimension": Panel("number of latents", "latents, d", _MCC, chance="x"),
    "stochastic": Panel("random changes", "probability of a change", _MCC, chance="five"),
    "few shots": Panel("held-out leaves", "cells shown", "NMSE", ("log", "log")),
    "asked": Panel("latents asked for", "latents fitted", _ERROR, ("linear", "log")),
    "singular": Panel("singular values", "number", "share of the first", ("linear", "log")),
}


def draw_curves(samples: pd.DataFrame, path: Path) -> None:
    """All panels of which something was measured.

    Parameters
    ----------
    samples
        Columns panel, variant (empty or NaN: none), model, x, seed, value.
    """
    samples = samples.assign(variant=samples["variant"].fillna("").astype(str))
    shown = [name for name in PANELS if name in set(samples["panel"])]
    n_rows = -(-len(shown) // 2)
    with drawing():
        figure = new_figure(WIDTH, _HEIGHT * n_rows + 0.4)
        grid = figure.subplots(n_rows, 2, squeeze=False).ravel()
        for axes, name in zip(grid, shown, strict=False):
            _draw_panel(axes, PANELS[name], samples[samples["panel"] == name])
        for axes in grid[len(shown) :]:
            axes.set_axis_off()
        handles = [Line2D([], [], color=colour, marker="o", ms=3) for colour in _MODELS.values()]
        names = list(_MODELS)
        if any(PANELS[name].chance for name in shown):
            handles += [Line2D([], [], color=GREY, ls=style) for style in ("-", ":")]
            names += ["chance", "95% of chance"]
        figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=7)
        save(figure, path)


def _draw_panel(axes: Axes, panel: Panel, its: pd.DataFrame) -> None:
    variants = list(dict.fromkeys(its["variant"]))
    others = [name for name in dict.fromkeys(its["model"]) if name not in _MODELS]
    colours = {**_MODELS, **dict(zip(others, _MORE_COLOURS, strict=False))}
    means = its.groupby(["variant", "model", "x"], sort=False)["value"].agg(["mean", "std"]).reset_index()
    if not np.isfinite(means["mean"]).any():
        say(axes, "nothing measured")
        return
    axes.set(xscale=panel.scale[0], yscale=panel.scale[1], xlabel=panel.x, ylabel=panel.y)
    for (variant, model), curve in means.groupby(["variant", "model"], sort=False):
        curve = curve.sort_values("x")
        axes.errorbar(
            curve["x"],
            curve["mean"],
            yerr=_whiskers(curve, log=panel.scale[1] == "log"),
            color=colours.get(model, GREY),
            ls=_STYLES[variants.index(variant) % len(_STYLES)],
            marker="o",
            ms=3,
            lw=1.2,
            elinewidth=0.8,
        )
    if panel.chance:
        _draw_chance(axes, np.unique(means["x"]), by_x=panel.chance == "x")
        axes.set_ylim(0, 1.02)
    _plain_numbers(axes, panel, np.unique(means["x"]))
    axes.set_title(panel.title, fontsize=8)
    _name_curves(
        axes, [name for name in variants if name], {name: colours.get(name, GREY) for name in others}
    )


def _plain_numbers(axes: Axes, panel: Panel, x: np.ndarray) -> None:
    """Ticks of logarithmic axes as plain numbers: those along x where something was measured."""
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    if panel.scale[0] == "log":
        # of a single number matplotlib makes no limits
        axes.set_xlim(x[0] / 1.2, x[-1] * 1.2)
        axes.xaxis.set_major_locator(FixedLocator(list(_apart(x))))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(plain)
    if panel.scale[1] == "log":
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(plain)


def _apart(x: np.ndarray, ratio: float = 1.5) -> Iterator[float]:
    """Of ascending numbers those that are far enough from the one shown before."""
    last = 0.0
    for one in x.tolist():
        if one >= ratio * last:
            yield one
            last = one


def _whiskers(curve: pd.DataFrame, *, log: bool) -> np.ndarray:
    """Standard deviations below and above (2, n_points); below no further than a logarithm allows."""
    spread = curve["std"].fillna(0.0).to_numpy()
    below = np.minimum(spread, 0.9 * curve["mean"].to_numpy()) if log else spread
    return np.stack([below, spread])


def _draw_chance(axes: Axes, x: np.ndarray, *, by_x: bool) -> None:
    """MCC of a random rotation, mean and 95th percentile."""
    levels = np.array([mcc_chance(int(one) if by_x else 5) for one in x])
    if not by_x:
        axes.axhline(levels[0, 0], color=GREY, lw=0.8)
        axes.axhline(levels[0, 1], color=GREY, lw=0.8, ls=":")
        return
    for level, style in zip(levels.T, ("-", ":"), strict=True):
        axes.plot(x, level, color=GREY, lw=0.8, ls=style)


def _name_curves(axes: Axes, variants: list[str], others: dict[str, str]) -> None:
    """A small legend where the panel's curves are more than the estimators'."""
    handles = [Line2D([], [], color=colour) for colour in others.values()]
    handles += [
        Line2D([], [], color="black", ls=_STYLES[i % len(_STYLES)], lw=1) for i in range(len(variants))
    ]
    if handles:
        legend = axes.legend(handles, [*others, *variants], fontsize=6, handlelength=1.6)
        # a panel must not shrink to make room for names
        legend.set_in_layout(False)
