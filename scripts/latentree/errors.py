"""The one exception a user sees: bad input, told in three parts."""

import difflib
import operator
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


def whole_number(where: str, value: object, least: int) -> int:
    """The value as an int where it is a whole number (NumPy's too, bool not) of at least ``least``.

    Raises
    ------
    InputError
        Names ``where``, the value and the limit.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or number < least:
        raise InputError(where, f"{value!r} is no whole number >= {least}", "Give such a number")
    return number


def nearest(name: str, known: Iterable[str]) -> str:
    """``" (nearest: 'known')"`` for a misspelt name, or an empty string where none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (nearest: {close[0]!r})" if close else ""


def listed(names: Iterable[object], limit: int = 10) -> str:
    """The names for a message: quoted, comma-separated, cut after ``limit`` with a count."""
    quoted = [repr(str(name)) for name in names]
    more = f" and {len(quoted) - limit} more" if len(quoted) > limit else ""
    return ", ".join(quoted[:limit]) + more
