"""The one exception a user sees: bad input, told in three parts."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave is wrong; the message says where, what and how to mend it.

    Commands and rule scripts print it without a traceback and exit with code 2.

    Parameters
    ----------
    where
        The file, the config key or the argument that is wrong.
    problem
        What is wrong with it, with the value and the count.
    remedy
        What to do about it.
    """

    exit_code = 2

    def __init__(self, where: object, problem: str, remedy: str) -> None:
        self.where = str(where)
        self.problem = problem.rstrip(".")
        self.remedy = remedy.rstrip(".")
        super().__init__(f"{self.where}: {self.problem}. {self.remedy}.")


def nearest(name: str, known: Iterable[str]) -> str:
    """``" (nearest: 'known')"`` for a misspelt name, or an empty string where none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (nearest: {close[0]!r})" if close else ""


def listed(names: Iterable[object], limit: int = 10) -> str:
    """The names for a message: quoted, comma-separated, cut after ``limit`` with a count."""
    quoted = [repr(str(name)) for name in names]
    more = f" and {len(quoted) - limit} more" if len(quoted) > limit else ""
    return ", ".join(quoted[:limit]) + more
