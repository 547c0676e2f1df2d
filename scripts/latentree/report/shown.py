"""Numbers and tables as a reader sees them, with the full values behind them for sorting and downloads."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from markupsafe import Markup

NO_VALUE = "–"
_MINUS = "−"
_LONG = 50
"""Characters from which on a text is given room, so that a table does not squeeze it into a narrow column."""


class Cell(str):
    """Text as it is shown, with what lies behind it.

    Attributes
    ----------
    value, sd
        The number at full precision and its standard deviation; None where there is none.
    href
        Where in the page the text leads, or "".
    look
        A word of the style sheet that says how the text is set, or "".
    width
        Length of a bar beside the text in per cent, below 0 for one of the other sign; None for no bar.
    """

    value: float | None
    sd: float | None
    href: str
    look: str
    width: float | None

    def __new__(
        cls,
        text: str,
        value: float | None = None,
        *,
        sd: float | None = None,
        href: str = "",
        look: str = "",
        width: float | None = None,
    ) -> "Cell":
        """A cell that compares and sorts as its text."""
        cell = super().__new__(cls, text)
        cell.value, cell.sd, cell.href, cell.look, cell.width = value, sd, href, look, width
        return cell


def number_text(value: Any) -> str:
    """Three digits: ``12.3``, ``1234``, ``3e-8``, ``−0.5``; a dash for none. report.js writes them alike."""
    if value is None or pd.isna(value):
        return NO_VALUE
    size = abs(float(value))
    if float(value).is_integer() or size >= 1000:
        text = f"{size:.0f}"
    elif size < 0.001:
        mantissa, exponent = f"{size:.0e}".split("e")
        text = f"{mantissa}e{int(exponent)}"
    else:
        text = f"{float(f'{size:.3g}'):g}"
    return (_MINUS if value < 0 else "") + text


def number_cell(value: Any, text: str | None = None, *, sd: float | None = None) -> Cell:
    """A number as it is shown, its full value behind it."""
    known = not (value is None or pd.isna(value))
    shown = number_text(value) if text is None or not known else text
    return Cell(shown, float(value) if known else None, sd=sd)


def mean_and_sd(values: pd.Series, digits: int = 3) -> Cell:
    """``0.912 ± 0.004`` over seeds; without ± where no digit differs, a dash for none."""
    values = values.dropna()
    if values.empty:
        return Cell(NO_VALUE)
    text = f"{values.mean():.{digits}f}"
    sd = float(values.std(ddof=1))
    # a line may break before ±, not behind it
    shown = text if len(values) == 1 or float(f"{sd:.{digits}f}") == 0 else f"{text} ±\u00a0{sd:.{digits}f}"
    return Cell(shown, float(values.mean()), sd=sd if len(values) > 1 else None)


def names_text(joined: str) -> str:
    r"""``A, B;C`` for names in one cell of a table, joined by ``;`` with ``\`` before one that is theirs."""
    return ", ".join(re.sub(r"\\(.)", r"\1", part) for part in re.findall(r"(?:\\.|[^;\\])+", joined))


@dataclass(frozen=True)
class Table:
    """A table of text: the first ``n_labels`` columns of each row name it, the others hold values."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    n_labels: int = 1

    @cached_property
    def looks(self) -> tuple[str, ...]:
        """How the style sheet sets each column: numbers to the right, long texts wide."""
        return tuple(_look([row[place] for row in self.rows]) for place in range(len(self.columns)))


def _look(cells: Sequence[str]) -> str:
    if any(getattr(cell, "value", None) is not None for cell in cells):
        return "number"
    return "long" if any(len(cell) > _LONG for cell in cells) else ""


@dataclass(frozen=True)
class Column:
    """A column of a long table; ``names`` are joined by ``;``, ``bar`` is a number with a bar beside it."""

    name: str
    kind: Literal["text", "long", "number", "bar", "names"] = "text"

    @property
    def look(self) -> str:
        """As :attr:`Table.looks`; report.js says the same."""
        return {"number": "number", "bar": "number", "text": ""}.get(self.kind, "long")


@dataclass(frozen=True)
class LongTable:
    """A table of which the page holds every row as data and the first ones as text.

    The first rows are what is printed, and all that a reader without scripts sees.
    """

    anchor: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    n_first: int

    @cached_property
    def first(self) -> tuple[tuple[Cell, ...], ...]:
        """The first rows as they are shown."""
        largest = [
            max((abs(row[place]) for row in self.rows if row[place] is not None), default=0.0)
            if column.kind == "bar"
            else 0.0
            for place, column in enumerate(self.columns)
        ]
        return tuple(
            tuple(_shown(*cell) for cell in zip(row, self.columns, largest, strict=True))
            for row in self.rows[: self.n_first]
        )

    @cached_property
    def data(self) -> Markup:
        """All rows as JSON, in a form that ends no element and opens none."""
        text = json.dumps(
            {"columns": [[column.name, column.kind] for column in self.columns], "rows": self.rows},
            ensure_ascii=False,
            allow_nan=False,
            separators=(",", ":"),
        )
        return Markup(text.replace("<", "\\u003c"))  # nothing else can end a script element


def _shown(value: Any, column: Column, largest: float) -> Cell:
    if column.kind in ("number", "bar"):
        width = 100 * value / largest if column.kind == "bar" and largest and value is not None else None
        return Cell(number_text(value), width=width)
    return Cell(names_text(value) if column.kind == "names" else str(value))


def plain_rows(table: pd.DataFrame, columns: Sequence[str]) -> tuple[tuple[Any, ...], ...]:
    """Rows of text, whole numbers, numbers and None, as JSON knows them."""
    lists = [[_plain(value) for value in table[column].tolist()] for column in columns]
    return tuple(zip(*lists, strict=True))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
