"""Names of the obs columns of an h5ad file, read without its data: quick enough to check before any job."""

from pathlib import Path

from latentree.errors import InputError, listed, nearest

# columns that the atlas stage writes itself, and what it adds to the file's own name where both are there
_WRITTEN = ("cell_type", "split", "library_size")
_FOUND = "_found"


def obs_columns(path: str | Path) -> list[str]:
    """The columns as the prepared atlas will call them; empty where the file cannot be read this way."""
    import h5py  # not at the top, because the workflow asks only where it has to

    try:
        with h5py.File(path) as file:
            obs = file["obs"]
            names = obs.dtype.names if isinstance(obs, h5py.Dataset) else list(obs.attrs["column-order"])
    except (OSError, KeyError, TypeError):
        # the atlas stage says what is wrong with such a file
        return []
    return [str(name).replace("/", "_") for name in names or ()]


def require_obs_column(path: str | Path, column: str, key: str) -> None:
    """Refuse a column that the file has not, with the nearest name that it has."""
    known = obs_columns(path)
    if not known or column in (*known, *_WRITTEN) or column.endswith(_FOUND):
        return
    raise InputError(
        f"config key {key}",
        f"{path} has no obs column {column!r}{nearest(column, known)}; there are {listed(known, limit=40)}",
        "Name one of these",
    )
