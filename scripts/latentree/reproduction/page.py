"""docs/reproduction.md from the summary, and nothing by hand."""

from collections.abc import Iterator

import pandas as pd

from latentree.reproduction.records import FIGURE_ONLY
from latentree.reproduction.registry import EXPERIMENTS, experiment_module
from latentree.reproduction.sources import GENE_SETS, ZEISEL, ZHENG

FIGURES = "figures"
"""Folder of the pictures, beside the page."""

_HEAD = f"""\
# The papers' experiments, rerun

`make reproduce` runs everything on this page and writes it; nothing here is edited by hand. An interrupted
run goes on where it was, and a second call does nothing. `make reproduce-quick` (one seed, small grids) shows
in minutes that all of it runs. The same numbers as a table: `results/reproduction/summary.tsv`; every single
measurement: `results/reproduction/parts`.

Experiments on cells need `{ZEISEL}`, `{ZHENG}` and
`{GENE_SETS}` in a folder that `make reproduce REPRODUCE_DATA=FOLDER` (or the
config's `reproduction.data`) names; the one on ratings needs MovieLens-100k's `u.data`
(`make reproduce MOVIELENS=FILE`, from <https://grouplens.org/datasets/movielens/100k/>), which may not be
shipped. What lacks its data is skipped and says so.

How to read it: *published* is the paper's value, or its claim where it shows a figure only
("{FIGURE_ONLY}"). *Ours* is the mean (standard deviation) over n seeds or data sets. A claim about a
difference *agrees* where ours has the claimed sign by more than two standard errors of the paired
difference; a difference that noise could explain does not. "No harm" and "no gain" agree only where two
standard errors stay inside the margin told in the row, and where they reach beyond it nothing is said ("not
comparable"). Some rows are judged by a fixed limit instead, which the row tells, and some are bars that this
project set itself ("our own bar"), not the paper's. A cause is offered only where ours clearly has the other
sign.

No setting was tuned on the seeds of data sets, splits and fits reported here. The atlases themselves are
another matter: defaults were chosen with a look at other splits of the same cells.
"""
_QUICK = "\n**Quick variant: one seed, small grids, few epochs. No number below means anything.**\n"


def reproduction_page(summary: pd.DataFrame, *, quick: bool = False) -> str:
    """The page.

    Parameters
    ----------
    summary
        As from :func:`latentree.reproduction.summary.summarise`.
    quick
        Say on top that the numbers mean nothing.
    """
    return _HEAD + _QUICK * quick + "\n" + "\n".join([*_overview(summary), *_sections(summary)]) + "\n"


def _overview(summary: pd.DataFrame) -> Iterator[str]:
    yield "| experiment | paper | agrees | does not | not comparable |"
    yield "|---|---|---|---|---|"
    for name, experiment in EXPERIMENTS.items():
        agrees = summary.loc[summary["experiment"] == name, "agrees"]
        counts = [int((agrees == verdict).sum()) for verdict in ("yes", "no", "not comparable")]
        yield f"| {experiment.title} | {experiment.paper} | {' | '.join(map(str, counts))} |"


def _sections(summary: pd.DataFrame) -> Iterator[str]:
    for name, experiment in EXPERIMENTS.items():
        rows = summary[summary["experiment"] == name]
        yield f"\n## {experiment.title}\n"
        protocol = getattr(experiment_module(name), "PROTOCOL", "")
        if protocol:
            yield protocol.strip() + "\n"
        if experiment.figure is not None:
            yield f"![{experiment.figure}]({FIGURES}/{name}.svg)\n\n{experiment.figure}\n"
        told = (rows["agrees"] != "not comparable") | (rows["published"] != FIGURE_ONLY)
        yield from _table(rows[told]) if told.any() else []
        if not told.all():
            yield f"\n<details><summary>{(~told).sum()} more values, without a published number</summary>\n"
            yield from _table(rows[~told])
            yield "\n</details>"


def _table(rows: pd.DataFrame) -> Iterator[str]:
    yield "| setting | metric | published | ours | n | agrees | remarks |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows.to_dict("records"):
        cells = [row["setting"], row["metric"], row["published"], ours(row["ours_mean"], row["ours_sd"])]
        cells += [int(row["n_seeds"]), row["agrees"], row["explanation"]]
        yield "| " + " | ".join(_cell(text) for text in cells) + " |"


def ours(mean: float, sd: float) -> str:
    """``0.512 (0.031)``: three digits of the mean, and as many decimals of the standard deviation."""
    if pd.isna(mean):
        return ""
    size = f"{abs(mean):.2e}"
    exponent = int(size.partition("e")[2])
    decimals = min(max(2 - exponent, 0), 4)
    shown = f"{mean:.{decimals}f}"
    return shown if pd.isna(sd) else f"{shown} ({sd:.{decimals}f})"


def _cell(text: object) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")
