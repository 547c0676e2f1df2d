"""Gene sets from a table of transcription factors and their targets: one set per factor, its regulon."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from latentree.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_KEY = "regulon_confidence"
_SIGNS = ("mor", "sign")


def is_pair_table(lines: Sequence[str]) -> bool:
    """Whether the lines of a text file start with a header that has the columns tf and target."""
    return {"tf", "target"} <= set(re.split('[\t,"]', _header(lines)))


def regulons(
    lines: Sequence[str], path: str | Path, confidence: Sequence[str] | None = None
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """The targets of every factor, those that it represses in a set of their own.

    Parameters
    ----------
    lines
        Lines of a table with the columns tf and target, separated by tabs or commas, in any order. ``#``
        starts a comment. Of the others, ``confidence`` chooses rows, and ``mor`` or ``sign`` below 0 says
        that the factor represses the target.
    path
        The file, for messages.
    confidence
        Rows to use: those with one of these values (:func:`latentree.pair_table.chosen_rows`). None: all.

    Returns
    -------
    Sets ``TF`` and ``TF [repressed]``, factors and targets in the order of the table, and notes on what was
    used. Pairs that lack a name are left out.

    Raises
    ------
    InputError
        The table cannot be read, a sign is no number, a confidence does not occur, or no pair is left.
    """
    # the Snakefile asks whether a file holds regulons, and must do without pandas
    import pandas as pd

    from latentree.pair_table import chosen_rows

    separator = "\t" if "\t" in _header(lines) else ","
    try:
        table = pd.read_csv(
            io.StringIO("\n".join(lines)),
            sep=separator,
            dtype=str,
            keep_default_na=False,
            comment="#",
            index_col=False,
        ).fillna("")
    except pd.errors.ParserError as error:
        raise InputError(
            path, f"cannot be read as a table ({error})", "Give columns tf and target"
        ) from error
    n_pairs = len(table)
    if confidence is not None:
        table = chosen_rows(table, {"confidence": confidence}, path, {"confidence": _KEY})
    table = table.assign(tf=table["tf"].str.strip(), target=table["target"].str.strip())
    used = table[(table["tf"] != "") & (table["target"] != "")]
    if used.empty:
        raise InputError(path, "has no pair", "Give at least one row with tf and target")
    names = used["tf"].where(~_represses(used, path), used["tf"] + " [repressed]")
    sets = {
        str(name): tuple(dict.fromkeys(targets))
        for name, targets in used["target"].groupby(names.to_numpy(), sort=False)
    }
    note = f"{path}: regulons of {used['tf'].nunique()} factors, from {len(used)} of {n_pairs} pairs"
    if confidence is None and "confidence" in table:
        note += f"; none is left out by its confidence ({_KEY} is not set)"
    return sets, (note,)


def _header(lines: Sequence[str]) -> str:
    return next((line for line in lines if line.strip() and not line.startswith("#")), "")


def _represses(pairs: "pd.DataFrame", path: str | Path) -> "pd.Series":
    """Which pairs have a negative sign; none where the table has no signs."""
    import pandas as pd

    column = next((name for name in _SIGNS if name in pairs), None)
    if column is None:
        return pd.Series(False, index=pairs.index)
    signs = pd.to_numeric(pairs[column].replace("", "0"), errors="coerce")
    if signs.isna().any():
        strange = pairs.loc[signs.isna(), column].iloc[0]
        raise InputError(path, f"{column} is {strange!r}", "Write signs as numbers, below 0 for repression")
    return signs < 0
