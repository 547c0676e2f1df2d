"""One page per factor: its genes, gene sets, usage by cell type and stability."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from latentree.plots.factor_panels import (
    GenesPanel,
    Panel,
    SetsPanel,
    StabilityPanel,
    UsagePanel,
    draw_panel,
)
from latentree.plots.style import GREY, Target, drawing, fit_title, save, save_sentence
from latentree.seeds import CONSENSUS

_FACTOR = ["model", "n_factors", "factor"]
# inches
_LEFT, _RIGHT = 3.8, 4.4
_BETWEEN = 0.3
_EDGE = 0.25
_WIDTH = _LEFT + _RIGHT + _BETWEEN + 2 * _EDGE
_TITLE = 0.3
_LINE = 0.17
_NOTE_LETTERS = 118
_DPI = 144


@dataclass(frozen=True)
class FactorPage:
    """What one page shows: the rows of one factor in each table, and its row of consensus.tsv.

    ``stability`` is None where the factor is dead.
    """

    model: str
    n_factors: int
    factor: str
    genes: pd.DataFrame
    sets: pd.DataFrame
    usage: pd.DataFrame
    stability: pd.Series | None

    @property
    def title(self) -> str:
        """Which factor of which model this is."""
        return f"{fit_title(self.model, self.n_factors)}: {self.factor}"

    @property
    def is_dead(self) -> bool:
        """Whether no seed's fit has a program for it."""
        return self.stability is None and self.genes.empty


def factor_pages(
    genes: pd.DataFrame,
    enrichment: pd.DataFrame,
    usage: pd.DataFrame,
    consensus: pd.DataFrame,
    fits: Sequence[tuple[str, int]],
) -> list[FactorPage]:
    """The pages of all factors, f1 first, of the consensus of each fit (model, n_factors).

    Parameters
    ----------
    genes, enrichment, usage
        genes.tsv, enrichment.tsv, usage.tsv; only rows with ``seed`` = ``consensus`` are read.
    consensus
        consensus.tsv.
    fits
        In the order wanted.
    """
    of_all = [table[table["seed"].astype(str) == CONSENSUS] for table in (genes, enrichment, usage)]
    # sorted into factors once, because a run has hundreds of them
    in_parts = [
        (table.iloc[:0], dict(iter(table.groupby(_FACTOR, sort=False)))) for table in (*of_all, consensus)
    ]
    pages = []
    for model, n_factors in fits:
        for i in range(n_factors):
            key = model, n_factors, f"f{i + 1}"
            own_genes, own_sets, own_usage, own_stability = (
                parts.get(key, nothing) for nothing, parts in in_parts
            )
            stability = own_stability.iloc[0] if len(own_stability) else None
            pages.append(FactorPage(*key, own_genes, own_sets, own_usage, stability))
    return pages


def draw_factor_page(page: FactorPage, path: Target) -> None:
    """Draw one page; that of a dead factor says that it is dead."""
    if page.is_dead:
        save_sentence(f"{page.factor} is dead: the model leaves it unused.", path, page.title)
        return
    left: list[Panel] = [GenesPanel(page.genes)]
    if page.stability is not None:
        left.append(StabilityPanel(page.stability))
    right: list[Panel] = [UsagePanel(page.usage)]
    # the gene sets fill the shorter column
    min(left, right, key=_height).append(SetsPanel(page.sets))
    lines = header_lines(page.stability)
    top = _EDGE + _TITLE + _LINE * len(lines)
    height = top + max(_height(left), _height(right)) + _EDGE
    with drawing():
        # laid out by hand: matplotlib's own layout takes longer than all the rest
        figure = Figure(figsize=(_WIDTH, height))
        _write_header(figure, page.title, lines, height)
        for panels, x, width in ((left, _EDGE, _LEFT), (right, _WIDTH - _EDGE - _RIGHT, _RIGHT)):
            y = top
            for panel in panels:
                draw_panel(figure, panel, x, y, width)
                y += panel.height
        save(figure, path, dpi=_DPI)


def header_lines(stability: pd.Series | None) -> list[str]:
    """In words: whether the factor is stable, how many seeds found it, and what is to be known of that."""
    if stability is None:
        return ["Stability: not measured."]
    found, of = stability["seeds_found"], stability["n_seeds"]
    seeds = "One seed only." if of == 1 else f"Found by {found:g} of {of:g} seeds."
    note = str(stability["note"]) if isinstance(stability["note"], str) else ""
    return [f"Stable: {stability['stable']}. {seeds}", *textwrap.wrap(note, _NOTE_LETTERS)[:2]]


def _height(panels: Sequence[Panel]) -> float:
    return float(np.sum([panel.height for panel in panels]))


def _write_header(figure: Figure, title: str, lines: Sequence[str], height: float) -> None:
    """Title and lines at the top left; the first line is what counts, the others are notes."""
    x = _EDGE / _WIDTH
    figure.text(x, 1 - (_EDGE - 0.05) / height, title, fontsize=12, fontweight="bold", va="top")
    for i, line in enumerate(lines):
        y = 1 - (_EDGE + _TITLE - 0.06 + _LINE * i) / height
        kind = {"fontsize": 9} if i == 0 else {"fontsize": 7.5, "color": GREY}
        figure.text(x, y, line, va="top", **kind)
