"""Named libraries of gene sets: fetched once, kept beside the results."""

from pathlib import Path
from urllib.parse import quote

from latentree.download import download
from latentree.enrichment_config import ENRICHR, LIBRARY
from latentree.errors import InputError
from latentree.files import atomic_path
from latentree.gene_sets import read_gmt


def fetch_library(name: str, path: str | Path, address: str = ENRICHR) -> str:
    """Fetch a library; it appears at ``path`` whole and as gene sets, or not at all.

    Parameters
    ----------
    name
        As the server calls it.
    path
        Where the GMT file goes.
    address
        http(s) address that the name is appended to.

    Returns
    -------
    The file's SHA-256: a server may give other sets under the same name one day.

    Raises
    ------
    InputError
        The server cannot be reached or knows no such library, or what it sends are no gene sets.
    """
    url = address + quote(name)
    try:
        with atomic_path(path) as temporary:
            found = download(url, temporary)
            try:
                read_gmt(temporary)
            except InputError as error:
                raise InputError(url, f"is no GMT file: {error.problem}", "") from error
    except InputError as error:
        raise InputError(
            f"{LIBRARY}{name}",
            f"{error.where}: {error.problem}",
            f"Check its name and the network; without one, fetch the file elsewhere and copy it to {path}",
        ) from error
    return found
