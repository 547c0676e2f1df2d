"""Files fetched over http(s), taken only when they are what was meant."""

import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from latentree.errors import InputError
from latentree.files import atomic_path

_PIECE = 1 << 20
_TIMEOUT = 60.0


def download(url: str, path: str | Path, sha256: str | None = None, *, timeout: float = _TIMEOUT) -> str:
    """Fetch a file; it appears at ``path`` whole and with the right checksum, or not at all.

    Parameters
    ----------
    url
        http or https address.
    path
        Where the file goes.
    sha256
        64 hexadecimal digits that the file must have; None: any file is taken.
    timeout
        Seconds without an answer after which to give up.

    Returns
    -------
    The file's SHA-256.

    Raises
    ------
    InputError
        Another kind of address, no answer, an error of the server, or a file with another checksum.
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(url, "is not an http(s) address", "Give one, or name a local file as it is")
    with atomic_path(path) as temporary:
        found = _fetch(url, temporary, timeout)
        if sha256 is not None and found != sha256.lower():
            raise InputError(
                url,
                f"the file has sha256 {found}, the config says {sha256.lower()}; nothing was kept",
                "Check the address; correct sha256 if this is the file that was meant",
            )
    return found


def _fetch(url: str, temporary: Path, timeout: float) -> str:
    """Write what the address holds to ``temporary``; its checksum."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer, open(temporary, "wb") as stream:
            return _copy(answer, stream)
    except urllib.error.HTTPError as error:
        problem = f"the server answered {error.code} {error.reason}"
    except TimeoutError:
        problem = f"no answer within {timeout:g} s"
    except urllib.error.URLError as error:
        problem = f"cannot be reached ({error.reason})"
    except (http.client.HTTPException, ConnectionError, ValueError) as error:
        # ValueError: an address such as http://[; the others: a connection that broke off
        problem = f"the download failed ({type(error).__name__}: {error})"
    raise InputError(
        url, problem, "Check the address and the network, or download it by hand and name the file"
    )


def _copy(answer: http.client.HTTPResponse, stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    while piece := answer.read(_PIECE):
        stream.write(piece)
        digest.update(piece)
    expected = answer.length
    if expected:
        # read(n) ends without complaint where the server closes early; length is what it still owed
        raise http.client.IncompleteRead(b"", expected)
    return digest.hexdigest()
