"""What code a script runs: its static import closure within the library, and a hash of it.

Snakemake sees that a script changed, not that a module it imports did; the rules therefore carry
this hash as a parameter, and every job record holds it.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = "latentree"


def import_closure(script: str | Path, library: Path | None = None) -> list[Path]:
    """The script and every file of the library that it reaches by imports, sorted.

    Imports inside functions count; imports for type checkers only do not. Data files
    (templates) of a reached subpackage belong to it.

    Parameters
    ----------
    script
        A Python file: one beside the folder ``latentree``, or a module inside it.
    library
        The folder that holds ``latentree``; None: the script's own.
    """
    script = Path(script).resolve()
    library = script.parent if library is None else library.resolve()
    reached: set[Path] = set()
    followed: set[str] = set()
    entered: set[Path] = set()
    waiting = [script]
    while waiting:
        path = waiting.pop()
        if path in reached:
            continue
        reached.add(path)
        if path.suffix == ".py":
            modules = _imported_modules(path.read_bytes(), path.relative_to(library)) - followed
            followed |= modules
            waiting.extend(file for module in modules for file in _files_of(module, library, entered))
    return sorted(reached)


def code_hash(script: str | Path, library: Path | None = None) -> str:
    """SHA-256 over names and contents of :func:`import_closure`."""
    script = Path(script).resolve()
    library = script.parent if library is None else library.resolve()
    digest = hashlib.sha256()
    for path in import_closure(script, library):
        digest.update(str(path.relative_to(library)).encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


# kept by content, because a run hashes all of its scripts and they share most of the library
@cache
def _imported_modules(source: bytes, place: Path) -> frozenset[str]:
    """Dotted names that a file at a place in the library imports from the package.

    Some may be attributes, not modules.
    """
    found: set[str] = set()
    for node in _runtime_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, place)
            found.update((base, *(f"{base}.{alias.name}" for alias in node.names)))
    return frozenset(name for name in found if name.split(".")[0] == PACKAGE)


def _runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Statements but those under ``if TYPE_CHECKING:``, which never run; no expression imports."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting.extend(node.orelse)
        else:
            waiting.extend(n for n in ast.iter_child_nodes(node) if not isinstance(n, ast.expr))


def _absolute(node: ast.ImportFrom, place: Path) -> str:
    """The dotted name behind ``from``, relative imports resolved."""
    if node.level == 0:
        return node.module or ""
    package = place.parts[: -node.level]
    return ".".join([*package, *([node.module] if node.module else [])])


def _files_of(module: str, library: Path, entered: set[Path]) -> Iterator[Path]:
    """Files that importing a dotted name runs: each package on the way, and the module itself.

    Packages that were ``entered`` before are not looked through again.
    """
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        place = library.joinpath(*parts[:depth])
        if place in entered:
            continue
        if (place / "__init__.py").is_file():
            entered.add(place)
            yield place / "__init__.py"
            if depth > 1:
                yield from (file for file in place.rglob("*") if file.is_file() and _is_data(file))
        elif place.with_suffix(".py").is_file():
            yield place.with_suffix(".py")


def _is_data(file: Path) -> bool:
    return file.suffix not in {".py", ".pyc"} and not file.name.startswith(".")
