"""Tree-based regularisation: what the estimators reach beside chance, noise floor and baseline."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

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

_PANELS = {
    "mcc": ("MCC of latents", {"mcc_chance": "chance", "mcc_chance_95": "its 95th percentile"}),
    "span_r2": ("span R² of latents", {}),
    "nmse": ("phenotype NMSE", {"nmse_floor": "noise floor", "nmse_types": "cell type alone"}),
    "log_loss": ("phenotype, log loss", {"log_loss_types": "cell type alone"}),
    "auroc": ("phenotype, AUROC", {"auroc_types": "cell type alone"}),
}
_DASHES = {"mcc_chance_95": ":"}
_ERRORS = ("nmse", "log_loss")


def draw_tbr(tbr: pd.DataFrame, path: Target, *, title: str = "Tree-based regularisation") -> None:
    """Draw the scores of every estimator, one group per kind of phenotype.

    MCC, span R² and NMSE of a simulated phenotype; NMSE, or log loss and AUROC, of a measured one.

    Parameters
    ----------
    tbr
        ``tables/tbr.tsv``: estimator, phenotype, n_latents, n_changes, seed, metric, value.
    path
        SVG or PNG to write, or several files of the same picture.
    title
        Above the panels.
    """
    table = tbr.copy()
    table["value"] = pd.to_numeric(table["value"], errors="coerce")
    table = table.dropna(subset="value")
    panels = [name for name in _PANELS if (table["metric"] == name).any()]
    if not panels:
        save_sentence("No estimator was scored.", path, title)
        return
    table["group"] = [
        _group(d, c) for d, c in zip(table["n_latents"], table["n_changes"].astype(str), strict=True)
    ]
    groups = list(dict.fromkeys(table["group"]))
    estimators = list(dict.fromkeys(table.loc[table["metric"].isin(panels), "estimator"]))
    with drawing():
        figure = new_figure(max(WIDTH, 0.8 * len(groups)), 1.05 + 1.8 * len(panels))
        grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
        for axes, metric in zip(grid, panels, strict=True):
            _panel(axes, table, metric, groups, estimators)
        figure.legend(
            *_named(figure.axes[0], set(estimators)), loc="outside lower left", ncols=len(estimators)
        )
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        save(figure, path)


def _group(n_latents: int, n_changes: str) -> str:
    """``3 latents, 1 change`` on two lines; a measured phenotype's changes are not known."""
    latents = f"{n_latents} latent{'' if n_latents == 1 else 's'}"
    if not n_changes.isdigit():
        return latents
    return f"{latents}\n{n_changes} change{'' if n_changes == '1' else 's'}"


def _panel(axes: Axes, table: pd.DataFrame, metric: str, groups: list[str], estimators: list[str]) -> None:
    """One metric: a mark per estimator and seed, a grey line per reference level and group."""
    label, references = _PANELS[metric]
    offsets = np.linspace(-0.22, 0.22, len(estimators)) if len(estimators) > 1 else [0.0]
    rows = table[table["metric"] == metric]
    for i, estimator in enumerate(estimators):
        mine = rows[rows["estimator"] == estimator]
        places = [groups.index(group) + offsets[i] for group in mine["group"]]
        colour, marker = series_mark(i)
        axes.plot(places, mine["value"], marker, color=colour, alpha=0.75, mew=0, label=estimator)
    for reference, name in references.items():
        levels = table[table["metric"] == reference].groupby("group")["value"].mean()
        for j, (group, level) in enumerate(levels.items()):
            at = groups.index(str(group))
            axes.plot(
                [at - 0.42, at + 0.42],
                [level, level],
                color=GREY,
                linestyle=_DASHES.get(reference, "--"),
                label=name if j == 0 else None,
            )
    handles, labels = _named(axes, set(references.values()))
    if labels:
        axes.legend(
            handles, labels, ncols=2, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0
        )
    axes.set_xticks(range(len(groups)), groups)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    if metric not in _ERRORS:
        axes.set_ylim(top=1.02)
    axes.set_title(label, fontsize=9)


def _named(axes: Axes, names: set[str]) -> tuple[list[Any], list[str]]:
    """The handles and labels of a panel that bear one of the names."""
    pairs = [pair for pair in zip(*axes.get_legend_handles_labels(), strict=True) if pair[1] in names]
    return [handle for handle, _ in pairs], [label for _, label in pairs]
