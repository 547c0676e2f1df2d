"""What experiments take and give: scale, measurements, rows of the summary."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

Agreement = Literal["yes", "no", "not comparable"]
FIGURE_ONLY = "figure only"
NOT_RUN = "not_run"
"""The metric of the one measurement of a part that lacks its data."""


@dataclass(frozen=True)
class Scale:
    """How large an experiment is, and where data are that the project does not ship.

    Attributes
    ----------
    quick
        One seed and small grids: shows that the experiment runs, and means nothing else.
    data
        Folder of real cells.
    movielens
        The file u.data of MovieLens-100k.
    """

    quick: bool = False
    data: Path | None = None
    movielens: Path | None = None


@dataclass(frozen=True)
class Measurement:
    """One number that one fit (or one seed) gave.

    Attributes
    ----------
    setting
        What else was fixed, such as ``rho 0.2``; the same text for all seeds and models.
    model
        Name as in the config, with what sets it apart where one model is fitted in several ways.
    seed
        Of the data set or the fit: what the summary averages over.
    """

    experiment: str
    setting: str
    model: str
    metric: str
    seed: int
    value: float


@dataclass(frozen=True)
class Outcome:
    """What a part of an experiment gives where it also has something to draw.

    ``samples`` is a small table (a few thousand rows, any columns) that the experiment's own ``draw`` reads.
    """

    measurements: Sequence[Measurement]
    samples: "pd.DataFrame | None" = field(default=None, compare=False)


@dataclass(frozen=True)
class Row:
    """One row of summary.tsv: a published value or claim beside ours.

    Attributes
    ----------
    published
        The paper's value or claim as text; ``figure only`` where there is no number.
    ours_mean, ours_sd, n_seeds
        NaN where there is none.
    explanation
        One line; needed where ``agrees`` is not "yes", and also for what else must be known.
    """

    paper: str
    experiment: str
    setting: str
    metric: str
    published: str
    ours_mean: float
    ours_sd: float
    n_seeds: int
    agrees: Agreement
    explanation: str = ""


MEASUREMENT_COLUMNS = [one.name for one in fields(Measurement)]
SUMMARY_COLUMNS = [one.name for one in fields(Row)]
