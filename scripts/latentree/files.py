"""Files written whole or not at all, and their checksums."""

import csv
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentree.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


# names stay text ("007", "NA", an empty one); numbers may be empty
_NAMES = (
    "agrees", "atlas", "bootstrap_unit", "branch", "carried_by", "cell_type", "cell_types_below",
    "comparison", "condition", "direction", "environment", "estimator", "experiment", "explanation",
    "factor", "fit_metric", "gene", "gene_set", "genes", "held_out", "input_source", "latent",
    "latent_source", "like", "members", "method", "metric", "model", "nearest", "node", "note", "paper",
    "parent", "phenotype", "published", "quantity", "recommended", "reference", "reference_seed", "seed",
    "setting", "split", "stable", "test",
)  # fmt: skip
_NUMBERS = (
    "agreement", "alive_factors", "branch_length", "chance_95", "change", "control_max", "control_mean",
    "effect", "enriched_share", "half_agreement", "halves_of_cells", "held_out_mean", "held_out_sd",
    "importance", "inclusion", "loading", "lower", "mean", "nes", "nmse", "nmse_sd", "odds_ratio",
    "ours_mean", "ours_sd", "p_value", "pca_reference", "q_value", "ratio", "reference_halves", "score",
    "sd", "seeds_found", "share_nonzero", "specificity", "stability_halves", "stability_lowest",
    "stability_mean", "stability_seeds", "stable_factors", "upper", "value", "weight",
)  # fmt: skip


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block ends without an error.

    A reader sees the old file or the new one, never half of one; an error leaves the old one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # the suffix stays, because writers such as matplotlib choose the format by it
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; results are shared as the user's umask says
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        # on the disk before it has its name: a node may lose its power
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(text: str, path: str | Path) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(value: Any, path: str | Path) -> None:
    """Write JSON atomically, indented, in the order given."""
    write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", path)


def read_json(path: str | Path) -> Any:
    """Read JSON; a broken file is an :class:`InputError` that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            path, f"not valid JSON ({error})", "Delete it and rerun the rule that writes it"
        ) from error


def write_table(table: "pd.DataFrame", path: str | Path) -> None:
    """Write a tidy tab-separated table atomically; empty tables keep their header.

    Floats are written with 9 significant digits: enough to give a float32 back exactly. Any text comes
    back from :func:`read_table` as it was, but for the character NUL, which no HDF5 file can hold either.
    """
    # csv quotes line feeds, tabs and quotes by itself, and a carriage return only among all text
    texts = table.select_dtypes(exclude=["number", "bool"])
    returns = any(texts[column].astype(str).str.contains("\r", regex=False).any() for column in texts)
    with atomic_path(path) as temporary:
        table.to_csv(
            temporary,
            sep="\t",
            index=False,
            float_format="%.9g",
            lineterminator="\n",
            quoting=csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL,
        )


def read_table(path: str | Path) -> "pd.DataFrame":
    """Read a table of :func:`write_table`; names such as "NA" or "007" stay text, empty numbers are NaN."""
    # here and not above: a job sets its thread counts before anything loads numpy
    import pandas as pd

    return pd.read_csv(
        path,
        sep="\t",
        keep_default_na=False,
        na_values={key: [""] for key in _NUMBERS},
        dtype=dict.fromkeys(_NAMES, str),
        lineterminator="\n",
    )


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def join_names(names: Iterable[str]) -> str:
    r"""Names in one cell, joined by ``;``; in a name ``\`` becomes ``\\`` and ``;`` becomes ``\;``."""
    return ";".join(name.replace("\\", "\\\\").replace(";", "\\;") for name in names)
