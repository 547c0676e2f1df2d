"""Newick text in and out (grammar: https://phylipweb.github.io/phylip/newicktree.html).

Names of any kind survive: what is not plain letters and digits is quoted, ``'`` doubled. Unlike the
oldest readers, underscores in unquoted names stay underscores, and blanks inside an unquoted name
are kept, because cell types have both.
"""

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from latentree.errors import InputError

# "_" is quoted too: scikit-bio and DendroPy turn an unquoted one into a blank
_PLAIN_NAME = re.compile(r"[A-Za-z0-9.\-]+")
_TOKEN = re.compile(r"(?P<blank>\s+)|(?P<quoted>'(?:[^']|'')*')|(?P<mark>[(),:;])|(?P<text>[^\s()\[\]':;,]+)")


class NewickNodes(NamedTuple):
    """Nodes as they stand in the text, every parent before its children."""

    names: list[str | None]  # None where the text gives an internal node no name
    parents: list[int]  # position of the parent, -1 for the root
    branch_lengths: list[float]  # nan where the text gives none


class _Token(NamedTuple):
    kind: str  # "name", one of "(),:;", or "end"
    value: str
    position: int


def parse_newick(text: str, source: str = "Newick") -> NewickNodes:
    """The nodes of one tree; iterative, so that depth is no limit.

    Raises :class:`InputError` naming ``source`` and the character where the text stops making sense.
    """
    nodes = NewickNodes([], [], [])
    open_nodes: list[int] = []  # internal nodes whose ")" has not come yet
    last: int | None = None  # the node that a name, a length or "," now belongs to
    tokens = _tokens(text, source)

    def add(name: str | None) -> int:
        nodes.names.append(name)
        nodes.parents.append(open_nodes[-1] if open_nodes else -1)
        nodes.branch_lengths.append(math.nan)
        return len(nodes.names) - 1

    closed = False  # whether `last` is an internal node that may still get its name
    for token in tokens:
        if token.kind == "(" and last is None:
            open_nodes.append(add(None))
        elif token.kind == "name" and last is None:
            last, closed = add(token.value), False
        elif token.kind == "name" and closed and last is not None:
            nodes.names[last], closed = token.value, False
        elif token.kind == ":" and last is not None and math.isnan(nodes.branch_lengths[last]):
            nodes.branch_lengths[last] = _length(next(tokens), text, source)
            closed = False
        elif token.kind == "," and open_nodes and last is not None:
            last = None
        elif token.kind == ")" and open_nodes and last is not None:
            last, closed = open_nodes.pop(), True
        elif token.kind == ";" and last is not None and not open_nodes:
            _expect_end(next(tokens), text, source)
            return nodes
        else:
            raise _error(_complaint(token, last, len(open_nodes)), token.position, text, source)
    raise AssertionError("the token stream ends with an 'end' token, which is refused above")


def format_newick(names: Sequence[str], parents: Sequence[int], branch_lengths: Sequence[float]) -> str:
    """One line of Newick with a name on every node; lengths in full precision, left out where nan.

    Parents must come before their children; the root's own length is not written.
    """
    children: list[list[int]] = [[] for _ in names]
    for node, parent in enumerate(parents):
        if parent >= 0:
            children[parent].append(node)

    parts: list[str] = []
    # a node is met twice: before its children (opens the bracket) and after them (closes it)
    todo: list[tuple[int, bool]] = [(0, False)]
    while todo:
        node, children_done = todo.pop()
        if children[node] and not children_done:
            parts.append("(")
            todo.append((node, True))
            todo.extend((child, False) for child in reversed(children[node]))
            continue
        parts.append(_quote(names[node]))
        length = float(branch_lengths[node])
        if parents[node] >= 0:
            parts.append("" if math.isnan(length) else f":{length!r}")
            parts.append("," if node != children[parents[node]][-1] else ")")
    return "".join(parts) + ";"


def _quote(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else "'" + name.replace("'", "''") + "'"


def _tokens(text: str, source: str) -> Iterator[_Token]:
    position = 0
    while position < len(text):
        if text[position] == "[":
            position = _end_of_comment(text, position, source)
            continue
        match = _TOKEN.match(text, position)
        if match is None:  # only a quote without its end or a "]" without its start get here
            problem = "a quote that is never closed" if text[position] == "'" else "a ']' without its '['"
            raise _error(problem, position, text, source)
        start, position = position, match.end()
        if match["quoted"] is not None:
            yield _Token("name", match["quoted"][1:-1].replace("''", "'"), start)
        elif match["mark"] is not None:
            yield _Token(match["mark"], match["mark"], start)
        elif match["text"] is not None:
            words = [match["text"]]
            # blanks inside an unquoted name belong to it: (CD4 T cells,B cells);
            while (more := re.compile(r"\s+([^\s()\[\]':;,]+)").match(text, position)) is not None:
                words.append(more[1])
                position = more.end()
            yield _Token("name", " ".join(words), start)
    yield _Token("end", "", len(text))


def _end_of_comment(text: str, start: int, source: str) -> int:
    depth = 0
    for match in re.compile(r"[\[\]]").finditer(text, start):
        depth += 1 if match[0] == "[" else -1
        if depth == 0:
            return match.end()
    raise _error("a comment '[' that is never closed", start, text, source)


def _length(token: _Token, text: str, source: str) -> float:
    try:
        value = float(token.value) if token.kind == "name" else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _error(f"{token.value!r} is not a branch length", token.position, text, source)
    if value < 0:
        raise _error(f"the branch length {value:g} is negative", token.position, text, source)
    return value


def _expect_end(token: _Token, text: str, source: str) -> None:
    if token.kind != "end":
        raise _error("more text after the ';' that ends the tree", token.position, text, source)


def _complaint(token: _Token, last: int | None, n_open: int) -> str:
    if token.kind == "end":
        return f"the text ends with {n_open} '(' still open" if n_open else "the text ends without a ';'"
    if token.kind == ")" and not n_open:
        return "a ')' without its '('"
    if token.kind == ";" and n_open:
        return f"the tree ends with {n_open} '(' still open"
    if token.kind in "),;" and last is None:
        return "a leaf without a name"
    return f"{token.value!r} cannot stand here"


def _error(problem: str, position: int, text: str, source: str) -> InputError:
    excerpt = text[max(0, position - 20) : position + 20]
    return InputError(
        source,
        f"not a Newick tree: {problem} (character {position + 1}, near {excerpt!r})",
        "Write one tree such as ('CD4+ T':1,(B,NK)lymphoid)root; with names other than letters, digits, "
        "'.' and '-' in single quotes and every ' inside them doubled",
    )
