"""``latentree verify``: the files of a results folder against what its newest job records say."""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from latentree.errors import InputError
from latentree.files import read_json, sha256_of

# what Snakemake and killed fits write besides the outputs of jobs
_UNDECLARED = ("attempts", "benchmarks", "logs", "provenance")
_LEFT_OVER = ("checkpoint", ".snakemake")
_PROGRESS_SECONDS = 3.0

_Record: TypeAlias = Mapping[str, Any]


@dataclass
class Findings:
    """What :func:`compare` found; paths as they are now.

    Attributes
    ----------
    changed
        Outputs whose content is not what the newest record of their job says.
    missing
        Outputs and inputs that are not there.
    without_record
        Files in the results that no job's record names.
    inputs
        Inputs that changed since, and how many of the newest records read them before.
    n_files
        Files whose hash was computed.
    """

    changed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    without_record: list[str] = field(default_factory=list)
    inputs: dict[str, int] = field(default_factory=dict)
    n_files: int = 0

    def lines(self) -> Iterator[str]:
        yield from (f"changed: {path}" for path in self.changed)
        yield from (f"missing: {path}" for path in self.missing)
        yield from (f"no record: {path}" for path in self.without_record)
        for path, count in self.inputs.items():
            yield f"input changed since: {path} (read by {count} job{'s' if count > 1 else ''})"


def verify(results: str) -> int:
    """Print what is not as recorded; 0 where all is well, 1 otherwise.

    Raises
    ------
    InputError
        The folder has no records of jobs, or a broken one.
    """
    found = compare(Path(results))
    for line in found.lines():
        print(line)
    n_found = sum(1 for _ in found.lines())
    said = f"{n_found} finding{'s' * (n_found > 1)}" if n_found else "all as recorded"
    print(f"{found.n_files} files looked at in {results}: {said}")
    return 1 if n_found else 0


def compare(results: Path) -> Findings:
    """Hash the files that the newest records name and compare.

    Raises
    ------
    InputError
        The folder has no records of jobs, or a broken one.
    """
    records = _records(results)
    latest = newest(records)
    expected = {path: file["sha256"] for path, (file, _) in latest.items()}
    states = {path: record["state"] for path, (_, record) in latest.items()}
    readers = {id(record): record for _, record in latest.values()}.values()
    inputs = [(path, file["sha256"]) for record in readers for path, file in _inputs(record)]
    hashes = _hashes({*expected, *(path for path, _ in inputs)})
    found = Findings(n_files=sum(value is not None for value in hashes.values()))
    for path, sha256 in sorted(expected.items()):
        if hashes[path] is None:
            state = states[path]
            found.missing.append(
                path if state == "success" else f"{path} (the state of its last job: {state})"
            )
        elif hashes[path] != sha256:
            found.changed.append(path)
    changed = Counter(path for path, sha256 in inputs if hashes[path] is not None and hashes[path] != sha256)
    # a changed output is said once, not again as the input of other jobs
    found.inputs = {path: changed[path] for path in sorted(changed) if path not in found.changed}
    found.missing += sorted({path for path, _ in inputs if hashes[path] is None} - set(expected))
    found.without_record = sorted(set(_files(results)) - set(expected))
    return found


def newest(records: Iterable[_Record]) -> dict[str, tuple[Mapping[str, Any], _Record]]:
    """By path as it is now: what the newest record says of an output, and that record."""
    latest: dict[str, tuple[Mapping[str, Any], _Record]] = {}
    for record in sorted(records, key=lambda record: str(record.get("ended") or record["started"])):
        for file in record.get("outputs", ()):
            latest[_now(file["path"], record)] = (file, record)
    return latest


def _records(results: Path) -> list[dict[str, Any]]:
    """All job records, each with the place of the results then and now."""
    folder = results / "provenance"
    if not folder.is_dir():
        raise InputError(results, "has no folder 'provenance'", "Name the results folder of a latentree run")
    records = []
    runs = sorted(path for path in folder.iterdir() if path.is_dir())
    opened = [read_json(run / "run.json") if (run / "run.json").is_file() else {} for run in runs]
    # records of before 2027 do not say it themselves, and a killed run may not either
    then = {
        "results": next((run["config"]["results"] for run in opened if run.get("config")), None),
        "working_directory": next(
            (run["working_directory"] for run in opened if "working_directory" in run), None
        ),
    }
    for run in runs:
        for file in sorted(run.glob("jobs/*.json")):
            record = read_json(file)
            if not isinstance(record, dict) or "started" not in record:
                raise InputError(file, "is no record of a job", "Restore it from a backup, or delete it")
            records.append({**then, **record, "now": str(results)})
    if not records:
        raise InputError(folder, "holds no record of a job", "Name the results folder of a latentree run")
    return records


def _inputs(record: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for file in record.get("inputs", ()):
        if file["sha256"] is not None:
            yield _now(file["path"], record), file


def _now(path: str, record: Mapping[str, Any]) -> str:
    """Where a recorded file is now: results may have been moved, or be looked at from elsewhere."""
    then = record.get("results")
    if then is not None:
        inside = os.path.relpath(path, then)
        if inside != os.pardir and not inside.startswith(os.pardir + os.sep):
            return os.path.join(record["now"], inside)
    folder = record.get("working_directory")
    return path if folder is None else os.path.relpath(os.path.join(folder, path))


def _files(results: Path) -> Iterator[str]:
    """Files that should have a record."""
    for folder, folders, names in os.walk(results):
        if Path(folder) == results:
            folders[:] = [name for name in folders if name not in _UNDECLARED]
        folders[:] = [name for name in folders if name not in _LEFT_OVER]
        # a hidden file is one that is being written
        yield from (os.path.join(folder, name) for name in names if not name.startswith("."))


def _hashes(paths: set[str]) -> dict[str, str | None]:
    """SHA-256 of each file, None where there is none; says how far it is where that takes long."""
    there = sorted(path for path in paths if os.path.isfile(path))
    total = sum(os.path.getsize(path) for path in there)
    found: dict[str, str | None] = dict.fromkeys(paths)
    done, said = 0, time.monotonic()
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for path, sha256 in zip(there, pool.map(sha256_of, there), strict=True):
            found[path] = sha256
            done += os.path.getsize(path)
            if time.monotonic() - said > _PROGRESS_SECONDS:
                said = time.monotonic()
                print(f"hashed {done / 1e9:.1f} of {total / 1e9:.1f} GB", file=sys.stderr, flush=True)
    return found
