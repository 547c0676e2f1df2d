"""Markdown tables, and bars with what was measured against them."""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

Formatter = Callable[[Any], str]


@dataclass(frozen=True)
class Bar:
    """A target, the number that was measured, and whether that meets it."""

    what: str
    target: str
    measured: str
    met: bool


@dataclass(frozen=True)
class Section:
    """Part of the page: lines of Markdown, and the bars that its numbers decide."""

    lines: Sequence[str]
    bars: Sequence[Bar] = ()


def read(folder: Path, name: str) -> pd.DataFrame:
    """A table of this run; empty where it was not measured."""
    files = sorted(folder.glob(f"{name}.tsv"))
    tables = [pd.read_csv(file, sep="\t") for file in files if file.stat().st_size > 1]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def markdown(table: pd.DataFrame, columns: Mapping[str, tuple[str, Formatter]]) -> list[str]:
    """Lines of a table: of each column of ``table`` its heading and how its values are written."""
    headings = [heading for heading, _ in columns.values()]
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    for _, row in table.iterrows():
        cells = [write(row[key]) if key in row else "" for key, (_, write) in columns.items()]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def flow(prose: str) -> str:
    """A paragraph, broken into lines."""
    return textwrap.fill(prose, 112, break_long_words=False, break_on_hyphens=False)


def text(value: Any) -> str:
    """As it is."""
    return "" if _missing(value) else str(value)


def whole(value: Any) -> str:
    """A whole number, with commas."""
    return "" if _missing(value) else f"{value:,.0f}"


def share(value: Any) -> str:
    """Three decimals without the zero before the point."""
    return "" if _missing(value) else f"{value:.3f}".replace("0.", ".", 1)


def number(value: Any) -> str:
    """Three significant digits, never an exponent."""
    if _missing(value):
        return ""
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{min(max(digits, 0), 6)}f}"


def percent(value: Any) -> str:
    """Whole percent."""
    return "" if _missing(value) else f"{100 * value:.0f}%"


def at_least(what: str, values: pd.Series, least: float | pd.Series, write: Formatter, note: str = "") -> Bar:
    """All of these are at least so much; the measured number shown is the worst one."""
    margin = values - least
    worst = margin.idxmin()
    target = f"at least {write(least)}" if isinstance(least, float) else f"at least {note}"
    shown = f"{write(values[worst])} ({worst})"
    if isinstance(least, pd.Series):
        shown = f"{write(values[worst])} against {write(least[worst])} ({worst})"
    return Bar(what, target, shown, bool((margin >= 0).all()))


def at_most(what: str, values: pd.Series, most: float | pd.Series, write: Formatter, note: str = "") -> Bar:
    """All of these are at most so much."""
    margin = values - most
    worst = margin.idxmax()
    target = f"at most {write(most)}" if isinstance(most, float) else f"at most {note}"
    shown = f"{write(values[worst])} ({worst})"
    if isinstance(most, pd.Series):
        shown = f"{write(values[worst])} against {write(most[worst])} ({worst})"
    return Bar(what, target, shown, bool((margin <= 0).all()))


def absent(title: str, why: str = "Not measured in this run.") -> Section:
    """A section without numbers."""
    return Section([f"## {title}", why, ""])


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
