"""The panels of a factor's page, laid out in inches so that no name can run into another."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from latentree.consensus import STABLE
from latentree.factor_matching import FOUND
from latentree.plots.style import COLOURS, GREY, SIGNS, fitted

SIGNIFICANT = 0.05
MOST_GENES = 20
MOST_SETS = 10
# points
_NAME = 7.0
_HEADING = 9.0
# inches
_ROW = 0.165
_ABOVE = 0.36
_BELOW = 0.5
_GAP = 0.07
_PALE = {"up": "#fbdcb5", "down": "#dcd7ea", "both": "#e2e2e2"}


class Panel(Protocol):
    """A part of the page that knows its height."""

    @property
    def height(self) -> float:
        """Inches, with heading and axis."""
        ...

    @property
    def heading(self) -> str:
        """What is seen."""
        ...

    def draw(self, figure: Figure, box: "Box") -> None:
        """Draw the rows into a box below the heading."""
        ...


class Box:
    """A place on a figure: inches from its left and its upper edge."""

    def __init__(self, figure: Figure, x: float, y: float, width: float, height: float) -> None:
        self.figure, self.x, self.y, self.width, self.height = figure, x, y, width, height

    def axes(self, left: float = 0.0, width: float | None = None) -> Axes:
        """Axes over the whole height, from ``left`` inches on."""
        across, down = self.figure.get_size_inches()
        width = self.width - left if width is None else width
        place = (self.x + left) / across, 1 - (self.y + self.height) / down
        return self.figure.add_axes((*place, width / across, self.height / down))


def draw_panel(figure: Figure, panel: Panel, x: float, y: float, width: float) -> None:
    """Heading and rows of a panel whose upper left corner is at (x, y) inches."""
    across, down = figure.get_size_inches()
    figure.text(x / across, 1 - (y + 0.1) / down, panel.heading, fontsize=_HEADING, va="top")
    panel.draw(figure, Box(figure, x, y + _ABOVE, width, panel.height - _ABOVE - _BELOW))


def _rows_height(n_rows: int) -> float:
    return _ABOVE + _ROW * max(n_rows, 1) + _BELOW


def _frame_rows(axes: Axes, n_rows: int, names: Sequence[str] = ()) -> None:
    """Rows from the top, with names left of them; texts and not ticks, which take three times as long."""
    axes.yaxis.set_visible(False)
    axes.set_ylim(n_rows - 0.4, -0.6)
    across = axes.get_yaxis_transform() + ScaledTranslation(-0.05, 0, axes.figure.dpi_scale_trans)
    for i, name in enumerate(names):
        axes.text(0, i, name, fontsize=_NAME, ha="right", va="center_baseline", transform=across)
    axes.tick_params(labelsize=_NAME, length=2, pad=2)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color="#e8e8e8", linewidth=0.5)
    axes.set_axisbelow(True)


def _nothing(axes: Axes, message: str) -> None:
    axes.set_axis_off()
    axes.text(0, 1, message, color=GREY, fontsize=8, va="top", transform=axes.transAxes)


def _signed_bars(axes: Axes, values: np.ndarray) -> None:
    """Bars to either side of zero, in the colour of their sign; one-sided where all have one sign."""
    colours = [SIGNS[int(value > 0)] for value in values]
    axes.barh(np.arange(len(values)), values, height=0.72, color=colours)
    axes.axvline(0, color=GREY, linewidth=0.7)
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    room = 0.04 * (high - low or 1.0)
    if low == high:
        low, high = -1.0, 1.0
    axes.set_xlim(low - (room if low < 0 else 0), high + (room if high > 0 else 0))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))


class GenesPanel:
    """The genes with the largest loadings."""

    _NAMES = 1.15

    def __init__(self, genes: pd.DataFrame) -> None:
        order = genes["loading"].abs().sort_values(ascending=False, kind="stable").index
        self.n_listed = len(genes)
        self.shown = genes.loc[order[:MOST_GENES]]

    @property
    def height(self) -> float:
        return _rows_height(len(self.shown))

    @property
    def heading(self) -> str:
        if len(self.shown) < self.n_listed:
            return f"Top genes ({len(self.shown)} of the {self.n_listed} in genes.tsv)"
        return "Genes"

    def draw(self, figure: Figure, box: Box) -> None:
        if self.shown.empty:
            _nothing(box.axes(), "No gene is listed.")
            return
        axes = box.axes(self._NAMES)
        _signed_bars(axes, self.shown["loading"].to_numpy(dtype=float))
        names = [fitted(str(name), _NAME, self._NAMES - _GAP) for name in self.shown["gene"]]
        _frame_rows(axes, len(names), names)
        axes.set_xlabel("loading", fontsize=8, labelpad=2)


class SetsPanel:
    """Gene sets that overlap with the factor's genes more than chance, best first, each named once."""

    _COUNTS = 0.95

    def __init__(self, enrichment: pd.DataFrame) -> None:
        tested = enrichment[enrichment["method"] == "ora"]
        self.any_tested = len(tested) > 0
        # near-duplicates of better sets are in the table only
        found = tested[(tested["q_value"] < SIGNIFICANT) & (tested["like"] == "")]
        found = found.sort_values(["q_value", "p_value", "gene_set"], kind="stable")
        self.n_found = len(found)
        self.shown = found.head(MOST_SETS)

    @property
    def height(self) -> float:
        return _rows_height(len(self.shown)) + (0.02 * len(self.shown))

    @property
    def heading(self) -> str:
        some = f" ({len(self.shown)} of {self.n_found})" if len(self.shown) < self.n_found else ""
        return f"Gene sets by over-representation, q < {SIGNIFICANT:g}{some}".replace("0.", ".")

    def draw(self, figure: Figure, box: Box) -> None:
        if self.shown.empty:
            _nothing(box.axes(), "None." if self.any_tested else "No gene set was tested.")
            return
        inches = box.width - self._COUNTS
        axes = box.axes(width=inches)
        bars = -np.log10(self.shown["q_value"].to_numpy(dtype=float).clip(1e-300))
        colours = [_PALE.get(way, _PALE["both"]) for way in self.shown["direction"]]
        axes.barh(np.arange(len(bars)), bars, height=0.8, color=colours)
        _frame_rows(axes, len(bars))
        axes.set_xlim(0, 1.02 * bars.max())
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.set_xlabel("−log10 q", fontsize=8, labelpad=2)
        across = axes.get_yaxis_transform()
        for i, (name, way, n_overlap, n_set) in enumerate(
            self.shown[["gene_set", "direction", "n_overlap", "n_set"]].itertuples(index=False)
        ):
            # the names stand on the bars, where they have the whole width
            text = fitted(str(name), _NAME, inches - 2 * _GAP)
            axes.text(_GAP / inches, i, text, fontsize=_NAME, va="center_baseline", transform=across)
            said = fitted(f"{n_overlap:g} of {n_set:g} {way}", _NAME, self._COUNTS - _GAP)
            axes.text(1 + _GAP / inches, i, said, fontsize=_NAME, va="center_baseline", transform=across)


class UsagePanel:
    """How much each cell type uses the factor: its mean, and the share of its cells."""

    _NAMES = 2.2
    _SHARES = 0.75

    def __init__(self, usage: pd.DataFrame) -> None:
        self.shown = usage.sort_values("mean_usage", ascending=False, kind="stable")

    @property
    def height(self) -> float:
        return _rows_height(len(self.shown))

    @property
    def heading(self) -> str:
        return "Usage by cell type (number of cells): mean, share"

    def draw(self, figure: Figure, box: Box) -> None:
        if self.shown.empty:
            _nothing(box.axes(), "No usage is listed.")
            return
        means = box.axes(self._NAMES, box.width - self._NAMES - self._SHARES - 0.2)
        _signed_bars(means, self.shown["mean_usage"].to_numpy(dtype=float))
        _frame_rows(means, len(self.shown), self._names())
        means.set_xlabel("sd above all cells", fontsize=8, labelpad=2)
        shares = box.axes(box.width - self._SHARES, self._SHARES)
        percents = 100 * self.shown["share_using"].to_numpy(dtype=float)
        place = np.arange(len(percents))
        shares.hlines(place, 0, percents, color="#c8c8c8", linewidth=1)
        shares.plot(percents, place, "o", color=COLOURS[0], markersize=3.2, clip_on=False)
        _frame_rows(shares, len(percents))
        shares.set_xlim(0, 100)
        shares.set_xticks([0, 50, 100])
        shares.set_xlabel("% of cells using it", fontsize=8, labelpad=2)

    def _names(self) -> list[str]:
        """Each type with its cells, the name cut so that both fit."""
        return [
            fitted(str(name), _NAME, self._NAMES - _GAP, after=f" ({n_cells:,})")
            for name, n_cells in zip(self.shown["cell_type"], self.shown["n_cells"], strict=True)
        ]


class StabilityPanel:
    """How well the factor is found again: by other seeds, and in other cells."""

    _NAMES = 1.15
    _KEY = 0.18
    _ROWS = ("between seeds", "halves of the seeds", "halves of the cells")
    _UNKNOWN = ("found by one seed only", "too few seeds to halve", "no refits to halves")

    def __init__(self, stability: pd.Series) -> None:
        self.mean, self.lowest, half_agreement, halves_of_cells, self.chance, self.pca = (
            float(stability[name])
            for name in (
                "stability_mean",
                "stability_lowest",
                "half_agreement",
                "halves_of_cells",
                "chance_95",
                "pca_reference",
            )
        )
        self.values = (self.mean, half_agreement, halves_of_cells)

    @property
    def height(self) -> float:
        return _rows_height(len(self._ROWS)) + self._KEY

    @property
    def heading(self) -> str:
        return "Stability: strength of the match, 0 to 1"

    def draw(self, figure: Figure, box: Box) -> None:
        box.height -= self._KEY
        axes = box.axes(self._NAMES, box.width - self._NAMES - 0.1)
        blue = COLOURS[0]
        axes.plot([self.lowest, self.mean], [0, 0], color=blue, linewidth=1.5)
        said = "this factor; line: to its weakest pair"
        handles = [Line2D([], [], color=blue, marker="o", markersize=5, label=said)]
        for i, (value, unknown) in enumerate(zip(self.values, self._UNKNOWN, strict=True)):
            if np.isfinite(value):
                axes.plot([value], [i], "o", color=blue, markersize=5.5, zorder=4, clip_on=False)
            else:
                axes.text(0.5, i, unknown, color=GREY, fontsize=_NAME, ha="center", va="center_baseline")
        for i, needed in ((0, STABLE), (2, FOUND)):
            needs = axes.plot([needed], [i], "k|", markersize=9, label="needed to be stable")
        handles += needs
        if np.isfinite(self.chance):
            label = "95% of permuted pairs below"
            handles.append(axes.axvline(self.chance, color=GREY, linestyle=":", linewidth=1.2, label=label))
        if np.isfinite(self.pca):
            label = "PCA, halves of the cells"
            handles += axes.plot([self.pca], [2], "D", mfc="white", mec=COLOURS[5], markersize=5, label=label)
        _frame_rows(axes, len(self._ROWS), self._ROWS)
        # room for the dots at either end
        axes.set_xlim(-0.04, 1.04)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
        figure.legend(
            handles=handles,
            fontsize=_NAME,
            ncols=2,
            loc="upper left",
            bbox_to_anchor=(0, -0.42),
            bbox_transform=axes.transAxes + ScaledTranslation(-self._NAMES, 0, figure.dpi_scale_trans),
            borderaxespad=0,
            handletextpad=0.5,
            columnspacing=1.0,
        )
