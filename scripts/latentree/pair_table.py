"""Rows of a table of transcription factors and their targets, chosen by its other columns."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from latentree.errors import InputError, listed, nearest


def chosen_rows(
    table: pd.DataFrame, asked: Mapping[str, Sequence[str]], path: str | Path, keys: Mapping[str, str]
) -> pd.DataFrame:
    """Rows of the table that hold one of the values asked for in each of the columns.

    Parameters
    ----------
    table
        Columns tf, target and others, as text. A cell may hold several values, joined by ``;`` or ``,``.
    asked
        Values to use by column.
    path, keys
        The file, and the config's key for each column, for messages.

    Raises
    ------
    InputError
        A column that is not there, a value that does not occur, or no row left.
    """
    kept = np.ones(len(table), dtype=bool)
    for column, values in asked.items():
        key = keys[column]
        if column not in table.columns:
            raise InputError(
                path,
                f"has no column {column}, which {key} needs; its columns are {listed(table.columns)}",
                f"Leave {key} out, or give a table with columns tf, target and {column}",
            )
        # tables of a whole organism repeat few values in many rows
        held = {text: {part.strip() for part in re.split("[;,]", text)} for text in table[column].unique()}
        known = sorted(set().union(*held.values()) - {""})
        strange = [value for value in values if value not in known]
        if strange:
            raise InputError(
                key,
                f"{listed(strange)} does not occur in {path}{nearest(strange[0], known)}",
                f"Use some of {listed(known, limit=30)}",
            )
        wanted = set(values)
        kept &= table[column].map({text: bool(parts & wanted) for text, parts in held.items()}).to_numpy(bool)
    if not kept.any():
        # each value occurs, but never in the same row
        raise InputError(
            " and ".join(keys[column] for column in asked) or path,
            f"leave none of the {len(table)} rows of {path}" if asked else "has no row",
            "Ask for more of its sources or levels of confidence" if asked else "Give at least one pair",
        )
    return table[kept]
