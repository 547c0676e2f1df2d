"""Columns of obs and size of an h5ad file, read without its data: quick enough to check before any job."""

from pathlib import Path

from latentree.errors import InputError, listed, nearest

# columns that the atlas stage writes itself, and what it adds to the file's own name where both are there
_WRITTEN = ("cell_type", "split", "library_size")
_FOUND = "_found"
# the atlas stage says what is wrong with such a file; an environment for Snakemake alone may lack h5py
_UNREADABLE = (ImportError, OSError, KeyError, TypeError, RuntimeError)


def plain_name(column: object) -> str:
    """A column's name as the prepared atlas has it: the h5ad format keeps "_index" and "/" for itself."""
    return "index" if column == "_index" else str(column).replace("/", "_")


def obs_columns(path: str | Path) -> list[str]:
    """The columns as the prepared atlas will call them; empty where the file cannot be read this way."""
    try:
        import h5py  # not at the top, because the workflow asks only where it has to

        with h5py.File(path) as file:
            obs = file["obs"]
            names = obs.dtype.names if isinstance(obs, h5py.Dataset) else list(obs.attrs["column-order"])
    except _UNREADABLE:
        return []
    return [plain_name(name) for name in names or ()]


def atlas_size(path: str | Path) -> tuple[int, int] | None:
    """Numbers of cells and of genes, of X or raw, whichever has more; None where the file does not say."""
    try:
        import h5py

        with h5py.File(path) as file:
            found = [file[key] for key in ("X", "raw/X", "raw.X") if key in file]
            shapes = [one.shape if isinstance(one, h5py.Dataset) else one.attrs["shape"] for one in found]
            sizes = [(int(n_cells), int(n_genes)) for n_cells, n_genes in shapes]
    except (*_UNREADABLE, ValueError):
        return None
    return max(sizes, key=lambda size: size[1], default=None)


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
