"""Which genes regulate which: a plain list or a table of pairs, and the rows of it that count."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from latentree.errors import InputError, listed
from latentree.pair_table import chosen_rows
from latentree.tbr_config import TBRConfig

# what reading a table raises for a broken file, a broken gzip and a text that is no table
_UNREADABLE = (
    OSError, EOFError, zlib.error, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError,
)  # fmt: skip


@dataclass(frozen=True)
class Regulators:
    """Genes that may be inputs.

    Parameters
    ----------
    source
        The file, for messages.
    targets
        For each regulator the genes it regulates; None where the list does not say.
    """

    source: str
    targets: dict[str, frozenset[str] | None]

    @classmethod
    def read(
        cls,
        path: str | Path,
        sources: Sequence[str] | None = None,
        confidence: Sequence[str] | None = None,
    ) -> "Regulators":
        """Read a plain list (one gene a line, ``#`` starts a comment) or a table (tsv, csv, also .gz).

        A table has the columns ``tf`` and ``target``; others but the two below are ignored.

        Parameters
        ----------
        path
            The file.
        sources
            Rows to use by the column ``source``: those that name at least one of these. A cell may hold
            several, joined by ``;`` or ``,``. None: all rows.
        confidence
            Rows to use by the column ``confidence``, alike.

        Raises
        ------
        InputError
            The file cannot be read, is a plain list although rows are asked for, lacks a column, lacks
            a value asked for, or has no row left.
        """
        try:
            table = pd.read_csv(path, sep=_separator(path), dtype=str, keep_default_na=False, comment="#")
        except _UNREADABLE as error:
            raise InputError(
                path, f"cannot be read as regulators ({error})", "Give one gene a line, or a table tf, target"
            ) from error
        choices = {"source": sources, "confidence": confidence}
        asked = {column: values for column, values in choices.items() if values is not None}
        if {"tf", "target"} <= set(table.columns):
            table = chosen_rows(table, asked, path, _KEYS)
            pairs = table[["tf", "target"]].apply(lambda column: column.str.strip())
            return cls(str(path), {tf: frozenset(rows) for tf, rows in pairs.groupby("tf")["target"]})
        if table.shape[1] != 1:
            raise InputError(
                path,
                f"has columns {listed(table.columns)}, but not tf and target",
                "Name the columns tf and target, or give one gene a line",
            )
        for column in asked:
            raise InputError(
                _KEYS[column],
                f"chooses rows of a table, but {path} is a plain list of genes",
                "Leave the key out, or give a table with columns tf, target and " + column,
            )
        # the first line of a plain list is a gene, not a header
        genes = [str(table.columns[0]).strip(), *table.iloc[:, 0].str.strip()]
        return cls(str(path), {gene: None for gene in genes if gene})

    @classmethod
    def asked(cls, settings: TBRConfig, path: str | Path | None = None) -> "Regulators | None":
        """The regulators of a config, None where it names no file.

        Parameters
        ----------
        settings
            regulators, regulator_sources and regulator_confidence are used.
        path
            Where the file is, if not where the settings say.
        """
        file = path or settings.regulators
        if not file:
            return None
        return cls.read(file, settings.regulator_sources, settings.regulator_confidence)

    def of(self, targets: Sequence[str]) -> set[str]:
        """Regulators of at least one of the targets."""
        wanted = set(targets)
        return {tf for tf, known in self.targets.items() if known is None or known & wanted}


# config keys that choose rows, by the table's column
_KEYS = {"source": "tbr.regulator_sources", "confidence": "tbr.regulator_confidence"}


def _separator(path: str | Path) -> str:
    return "," if ".csv" in Path(path).suffixes else "\t"
