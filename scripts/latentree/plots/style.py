"""What all pictures share: colours, marks, letters, and SVG files that are the same on every run."""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from matplotlib import style as matplotlib_style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from latentree.files import atomic_path

# Okabe and Ito (2008), told apart with every common colour vision; their yellow is left out, because
# it cannot be seen on white
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#767676"
DPI = 200
_SVG_DPI = 144  # of the many cells in an SVG, which are pixels
WIDTH = 5.0
"""Inches: letters stay legible on a narrow screen, and two pictures fit side by side on a wide one."""
DIVERGING = "PuOr_r"
SIGNS = ("#542788", "#B35806")
"""Below and above zero: the ends of ``DIVERGING``."""

Target = str | Path | Sequence[str | Path]
"""An SVG or PNG to write, or several files of the same picture."""

_FONT = "DejaVu Sans"
_SETTINGS = {
    # letters as outlines: the same picture on every machine, with no font fetched or missing
    "svg.fonttype": "path",
    "svg.hashsalt": "latentree",
    # a name such as "$x$" is a name, not a formula
    "text.parse_math": False,
    "font.family": _FONT,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}


@dataclass(frozen=True)
class Mark:
    """How one cell type is drawn: colour, marker and its number in the legend."""

    colour: str
    marker: str
    number: int


def cell_type_styles(names: Sequence[str]) -> dict[str, Mark]:
    """A mark for each name, in the order given.

    The first 49 differ in colour or marker; beyond that the number alone tells two apart.
    """
    return {
        name: Mark(
            colour=COLOURS[i % len(COLOURS)],
            marker=MARKERS[i // len(COLOURS) % len(MARKERS)],
            number=i + 1,
        )
        for i, name in enumerate(names)
    }


def series_mark(i: int) -> tuple[str, str]:
    """Colour and marker of one line among others; the first 49 differ in either."""
    return COLOURS[i % len(COLOURS)], MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]


def fit_title(model: object, n_factors: object) -> str:
    """A model and its number of factors, as titles have them."""
    return f"{model}, {n_factors} factor{'' if n_factors == 1 else 's'}"


def shortened(name: str, limit: int = 30) -> str:
    """The name on one line, cut with an ellipsis beyond ``limit`` characters."""
    line = " ".join(str(name).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def text_inches(text: str, points: float) -> float:
    """Width of a text in inches."""
    font = FontProperties(family=_FONT, size=points)
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72


@lru_cache(maxsize=4096)
def fitted(name: str, points: float, inches: float, after: str = "") -> str:
    """The name on one line and what comes ``after`` it, cut with an ellipsis where it is too wide."""
    line = " ".join(name.split())
    if text_inches(line + after, points) <= inches:
        return line + after
    low, high = 0, len(line)
    while low < high:
        middle = (low + high + 1) // 2
        fits = text_inches(f"{line[:middle].rstrip()}…{after}", points) <= inches
        low, high = (middle, high) if fits else (low, middle - 1)
    return f"{line[:low].rstrip()}…{after}"


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib's defaults and latentree's own settings, whatever the user's matplotlibrc says.

    Make, fill and save a figure inside this block; settings are restored after it.
    """
    with matplotlib_style.context(["default", _SETTINGS]):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure (inches) that lays itself out and belongs to no window."""
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Target, *, dpi: int = DPI) -> None:
    """Write a figure to each path, atomically; the same figure gives the same bytes."""
    for file in [path] if isinstance(path, str | Path) else path:
        with atomic_path(file) as temporary:
            # neither the time nor matplotlib's version
            if temporary.suffix == ".svg":
                figure.savefig(temporary, dpi=_SVG_DPI, metadata={"Date": None})
            else:
                # packed harder, files are hardly smaller and take twice as long
                packing = {"compress_level": 3}
                figure.savefig(temporary, dpi=dpi, metadata={"Software": None}, pil_kwargs=packing)
        # laid out once: it takes as long as the drawing, and the files show the same
        figure.set_layout_engine("none")


def say(axes: Axes, message: str) -> None:
    """Write a sentence where a picture cannot be drawn."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, textwrap.fill(message, 50), ha="center", va="center", color=GREY)


def save_sentence(message: str, path: Target, title: str | None = None) -> None:
    """A small figure that says why there is nothing to see."""
    with drawing():
        figure = new_figure(5, 1.5)
        axes = figure.add_subplot()
        say(axes, message)
        if title:
            axes.set_title(title)
        save(figure, path)
