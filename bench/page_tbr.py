"""The page's section on tree-based regularisation."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from page_tools import (
    Bar,
    Section,
    absent,
    at_least,
    at_most,
    flow,
    markdown,
    number,
    read,
    share,
    text,
    whole,
)

_MIB = 1.048576
TITLE = "Tree-based regularisation"


def tbr(folder: Path) -> Section:
    """Many environments, rows from disk, time to disentangle; what was measured of it."""
    lines: list[str] = []
    bars: list[Bar] = []
    for part in (_paths, _many, _streaming, _accuracy):
        found = part(folder)
        lines += found.lines
        bars += found.bars
    if not lines:
        return absent(TITLE)
    return Section([f"## {TITLE}", *lines], bars)


def _paths(folder: Path) -> Section:
    table = read(folder, "tbr_paths")
    if table.empty:
        return Section([])
    lines = [
        flow(
            f"`bench/tbr.py`: weights of {whole(table['environments'].iloc[0])} environments, "
            f"{whole(table['latents'].iloc[0])} latents, with the gradients of all changes; wall time, "
            "median of 50. comb: every second node has two children, one of them a leaf. entries: of a "
            "sparse matrix of paths, which is not made; dense: the memory of a dense one."
        ),
        "",
        *markdown(
            table,
            {
                "tree": ("tree", text),
                "milliseconds": ("ms", number),
                "path_entries": ("entries", whole),
                "dense_mb": ("dense MB", whole),
            },
        ),
    ]
    named = table.set_index("tree")
    bar = at_most("16,000 environments: ms for weights and gradient", named["milliseconds"], 5.0, number)
    return Section(lines, [bar])


def _many(folder: Path) -> Section:
    table = read(folder, "tbr_many")
    if table.empty:
        return Section([])
    lines = [
        "A whole fit by two_stage with as many environments, 50 cells each:",
        "",
        *markdown(
            table,
            {
                "environments": ("environments", whole),
                "latents": ("latents", whole),
                "cells": ("cells", whole),
                "cpu_seconds": ("CPU s", number),
                "steps_seconds": ("of them gradient steps", number),
                "peak_mb": ("peak MB", whole),
                "mcc": ("MCC", share),
                "error_over_floor": ("error / noise", number),
            },
        ),
    ]
    return Section(lines)


def _streaming(folder: Path) -> Section:
    table = read(folder, "tbr_streaming")
    if table.empty:
        return Section([])
    lines = [
        flow(
            f"Inputs in a dense .h5ad sorted by environment: {table['inputs'].iloc[0]} inputs, "
            f"{whole(table['environments'].iloc[0])} environments, two_stage with defaults; a process "
            "for each size. check: the pass for means, sds and bad values; Gram: the pass of stage two "
            "(network and second moments), the best of three each; rest: what of the fit is no gradient "
            "step, three such passes and the solver. CPU seconds; peak: of the whole process, imports and "
            "phenotype included."
        ),
        "",
        *markdown(
            table,
            {
                "rows": ("rows", whole),
                "file_mb": ("file MB", whole),
                "read_per_million": ("check, s per million", number),
                "gram_per_million": ("Gram, s per million", number),
                "outside_steps_per_million": ("rest, s per million", number),
                "steps_seconds": ("gradient steps, s", number),
                "fit_seconds": ("fit, s", number),
                "fit_wall_seconds": ("fit, wall s", number),
                "peak_mb": ("peak MB", whole),
            },
        ),
    ]
    named = table.set_index(table["rows"].map(whole) + " rows")
    bars = [at_most("TBR from disk: peak MB", named["peak_mb"], 2048 * _MIB, whole)]
    if len(table) > 1:
        both = named["read_per_million"] + named["gram_per_million"]
        growth = pd.Series({"check and Gram": both.max() / both.min()})
        bars.append(at_most("TBR from disk: s per million rows, slowest by fastest", growth, 1.2, number))
    return Section(lines, bars)


def _accuracy(folder: Path) -> Section:
    table = read(folder, "tbr_accuracy")
    if table.empty:
        return Section([])
    grouped = table.groupby(["changes", "estimator"], sort=False)
    shown = pd.DataFrame(
        {
            "cpu": grouped["cpu_seconds"].mean(),
            "slowest": grouped["cpu_seconds"].max(),
            "mcc": grouped["mcc"].mean(),
            "worst": grouped["mcc"].min(),
            "error": grouped["error_over_floor"].mean(),
        }
    ).reset_index()
    lines = [
        flow(
            f"The paper's simulation, {whole(table['cells'].iloc[0])} cells (half of "
            f"them train, a quarter test), {table['seed'].nunique()} seeds:"
        ),
        "",
        *markdown(
            shown,
            {
                "changes": ("changes per branch", whole),
                "estimator": ("estimator", text),
                "cpu": ("CPU s, mean", number),
                "slowest": ("slowest", number),
                "mcc": ("MCC, mean", share),
                "worst": ("worst", share),
                "error": ("error / noise, mean", number),
            },
        ),
    ]
    bars = []
    for estimator, least, seconds in (("two_stage", 0.985, 10.0), ("joint", 0.98, 15.0)):
        own = table[(table["estimator"] == estimator) & (table["changes"] == 1)].set_index("seed")
        own.index = [f"seed {seed}" for seed in own.index]
        if len(own):
            bars.append(at_least(f"TBR {estimator}, one change: MCC", own["mcc"], least, share))
            bars.append(at_most(f"TBR {estimator}: CPU s", own["cpu_seconds"], seconds, number))
    for changes in (2, 3):
        own = table[(table["estimator"] == "two_stage") & (table["changes"] == changes)].set_index("seed")
        own.index = [f"seed {seed}" for seed in own.index]
        if len(own):
            bars.append(at_least(f"TBR two_stage, {changes} changes: MCC", own["mcc"], 0.98, share))
    return Section(lines, bars)


SECTIONS: list[Callable[[Path], Section]] = [tbr]
