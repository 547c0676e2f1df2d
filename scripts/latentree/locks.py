"""One writer in a folder at a time; the operating system lets go of the lock when its holder is killed."""

import errno
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from latentree.files import write_json

logger = logging.getLogger(__name__)

LOCK_FILES = ("lock", "holder.json")
"""What :func:`locked` leaves in its folder."""


class HeldError(Exception):
    """Another process holds the folder; the message says which, on which machine, and since when."""


@contextmanager
def locked(folder: Path, timeout: float) -> Iterator[None]:
    """Hold a folder, which is made where it is missing.

    A file system that knows no locks (Lustre mounted without them) is said in the log, and then all is
    done unlocked: a lock in a plain file would outlive a holder that was killed.

    Raises
    ------
    HeldError
        Another process did not let go within ``timeout`` seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock", fallback_to_soft=False)
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        raise HeldError(_holder(folder)) from None
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        logger.warning("%s: the file system knows no locks (%s); going on without", folder, error.strerror)
        yield
        return
    try:
        me = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}
        write_json(me, folder / "holder.json")
        yield
    finally:
        (folder / "holder.json").unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    try:
        holder = json.loads((folder / "holder.json").read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError):
        return "process unknown"
