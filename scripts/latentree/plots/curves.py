"""Training curves of the models fitted epoch by epoch."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from latentree.plots.style import COLOURS, GREY, WIDTH, Target, drawing, new_figure, save, save_sentence, say

_NOT_A_LOSS = ("epoch", "cpu_seconds", "wall_seconds")
_PANELS_PER_ROW = 2


def draw_training(history: pd.DataFrame, path: Target, *, title: str | None = None) -> None:
    """Draw every column of a ``history.tsv`` against the epoch, one panel each.

    The parts of a loss differ by orders of magnitude, so that each has its own axis.

    Parameters
    ----------
    history
        One row per epoch: epoch, the loss by its parts, validation_loss, learning_rate.
    path
        SVG or PNG to write, or several files of the same picture.
    title
        Above all panels.
    """
    values = history.apply(pd.to_numeric, errors="coerce")
    # validation first: it decides when to stop
    columns = sorted(
        (name for name in values if name not in _NOT_A_LOSS), key=lambda c: c != "validation_loss"
    )
    if values.empty or not columns:
        save_sentence("No epochs were recorded.", path, title)
        return
    epochs = values["epoch"] if "epoch" in values else pd.Series(np.arange(1, len(values) + 1))
    rows = -(-len(columns) // _PANELS_PER_ROW)
    with drawing():
        figure = new_figure(WIDTH, 1.6 * rows + 0.4)
        panels = figure.subplots(rows, min(len(columns), _PANELS_PER_ROW), squeeze=False, sharex=True).ravel()
        for axes, name in zip(panels, columns, strict=False):
            _curve(axes, epochs.to_numpy(), values[name].to_numpy(), name)
        for axes in panels[len(columns) :]:
            axes.set_axis_off()
        # the lowest panel of each column carries the label, also where the last row is not full
        for axes in panels[max(0, len(columns) - _PANELS_PER_ROW) : len(columns)]:
            axes.set_xlabel("epoch")
            axes.tick_params(labelbottom=True)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        save(figure, path)


def _curve(axes: Axes, epochs: np.ndarray, values: np.ndarray, name: str) -> None:
    """One column (n_epochs,) against the epoch; the best validation loss is marked."""
    axes.set_title(name.replace("_", " "), fontsize=9)
    finite = np.isfinite(values)
    if not finite.any():
        say(axes, "no value")
        return
    few = int(finite.sum()) < 3
    axes.plot(epochs[finite], values[finite], color=COLOURS[0], marker="o" if few else "", linewidth=1.2)
    axes.margins(y=0.1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    if name == "validation_loss":
        best = int(np.nanargmin(values))
        axes.plot(epochs[best], values[best], marker="o", color=COLOURS[5], markersize=5)
        axes.axvline(epochs[best], color=GREY, linewidth=0.6, linestyle=":")
        axes.set_title(f"validation loss, lowest at epoch {epochs[best]:g}", fontsize=9)
