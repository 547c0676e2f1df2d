"""How each number came about: one record per job, assembled into one record per run.

``<results>/provenance/<run>/jobs/<rule>-<hash>.json`` is written by the job itself, so it is there
after a failure and after Snakemake was killed; ``run.json`` is opened when a run starts, closed when
it ends, and closed by ``python -m latentree record RESULTS`` when nothing was left to close it.
"""

import contextlib
import getpass
import hashlib
import json
import os
import platform
import resource
import shlex
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from latentree.errors import InputError
from latentree.files import read_json, sha256_of, write_json

RUN_VARIABLE = "LATENTREE_RUN"
# distributions by the module that they bring, where the two names differ
_DISTRIBUTIONS = {"sklearn": "scikit-learn", "skmisc": "scikit-misc", "magic": "magic-impute"}
_RECORDED_MODULES = (
    "anndata", "gseapy", "h5py", "jinja2", "magic", "matplotlib", "numpy", "pandas", "pydantic",
    "safetensors", "scanpy", "scipy", "skmisc", "sklearn", "snakemake", "torch", "umap",
)  # fmt: skip


def now() -> str:
    """The time in UTC, ISO 8601 to the microsecond."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def new_run_id() -> str:
    """A name for a run that sorts by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}"


def describe_files(paths: Iterable[str]) -> list[dict[str, Any]]:
    """Path, SHA-256 and size in bytes of each file; those that are missing are said to be."""
    described = []
    for path in paths:
        if Path(path).is_file():
            described.append(
                {"path": str(path), "sha256": sha256_of(path), "bytes": Path(path).stat().st_size}
            )
        else:
            described.append({"path": str(path), "sha256": None, "bytes": None})
    return described


def flat(files: Iterable[Any]) -> list[str]:
    """The paths that Snakemake hands to a script, each once."""
    return list(dict.fromkeys(str(file) for file in files))


def loaded_versions() -> dict[str, str]:
    """Versions of Python and of the recorded packages that this process has loaded."""
    return _versions(module for module in _RECORDED_MODULES if module in sys.modules)


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the recorded packages that this process could load."""
    return _versions(_RECORDED_MODULES)


def _versions(modules: Iterable[str]) -> dict[str, str]:
    # not above: it takes longer to load than most of what imports this module
    from importlib.metadata import PackageNotFoundError, version

    versions = {"python": platform.python_version()}
    for module in modules:
        name = _DISTRIBUTIONS.get(module, module)
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def peak_memory_mb() -> float:
    """The most memory that this process has held so far, in MB of 2**20 bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # kilobytes, but bytes on macOS
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def user_name() -> str:
    """Who runs this; containers and clusters may not know."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def write_job_record(
    results: str | Path, rule: str, wildcards: Mapping[str, str], record: dict[str, Any]
) -> None:
    """Write one job's record into the run that it belongs to."""
    run = os.environ.get(RUN_VARIABLE) or _newest_open_run(Path(results)) or new_run_id()
    path = Path(results, "provenance", run, "jobs", f"{job_name(rule, wildcards)}.json")
    # where the paths in it lead, whoever moves the results later
    places = {"results": str(results), "working_directory": os.getcwd()}
    write_json({"run": run, "rule": rule, "wildcards": dict(wildcards), **places, **record}, path)


def job_name(rule: str, wildcards: Mapping[str, str]) -> str:
    """A name for a job that no other job has, good for a file."""
    key = hashlib.sha256(json.dumps(dict(wildcards), sort_keys=True).encode()).hexdigest()[:12]
    return f"{rule}-{key}"


def open_run(
    results: str | Path, run: str, command: list[str], config: dict[str, Any], root: str | Path
) -> None:
    """Write ``run.json`` with state ``running``."""
    record = {
        "run": run,
        "state": "running",
        "command": command,
        "working_directory": os.getcwd(),
        "host": socket.gethostname(),
        "user": user_name(),
        "started": now(),
        "ended": None,
        "git": git_state(root),
        "versions": {"python": platform.python_version(), **_workflow_versions()},
        "config": config,
        "jobs": [],
    }
    write_json(record, _run_file(results, run))


def plan_run(results: str | Path, run: str, stages: Mapping[str, Mapping[str, int]]) -> str:
    """Note how many jobs of which rules each stage of a run has, for :func:`progress`; the same in words."""
    plan = {stage: dict(rules) for stage, rules in stages.items()}
    write_json(plan, _run_file(results, run).with_name("plan.json"))
    counts = {stage: sum(rules.values()) for stage, rules in stages.items()}
    said = ", ".join(f"{stage} {count}" for stage, count in counts.items())
    return f"jobs by stage: {said}; {sum(counts.values())} in all"


def progress(results: str | Path, job: str) -> str:
    """How many jobs of a job's stage and of its run have ended, with it; empty where nobody planned the run.

    Parameters
    ----------
    job
        As :func:`job_name` names it; it counts as ended.
    """
    run = os.environ.get(RUN_VARIABLE)
    plan = None if run is None else _run_file(results, run).with_name("plan.json")
    if plan is None or not plan.is_file():
        return ""
    stages = read_json(plan)
    # records by their names alone: of a hash without a dash
    ended = {job} | {file.stem for file in plan.parent.glob("jobs/*.json")}
    done = Counter(name.rpartition("-")[0] for name in ended)
    rule = job.rpartition("-")[0]
    stage = next((stage for stage, rules in stages.items() if rule in rules), None)
    if stage is None:
        return ""
    n_all = sum(count for rules in stages.values() for count in rules.values())
    n_here = sum(done[name] for name in stages[stage])
    return f"{stage} {n_here} of {sum(stages[stage].values())}, all {done.total()} of {n_all} jobs"


def close_run(results: str | Path, run: str, state: str) -> None:
    """Close ``run.json`` with ``success``, ``failure`` or ``interrupted`` and the jobs that ran."""
    path = _run_file(results, run)
    record = read_json(path)
    jobs = [read_json(file) for file in sorted(path.parent.glob("jobs/*.json"))]
    record.update(state=state, ended=now(), jobs=sorted(jobs, key=lambda job: job["started"]))
    write_json(record, path)


def assemble_open_runs(results: str | Path) -> dict[str, str]:
    """Close every run that was left open; the state that each was closed with.

    One that Snakemake opened was killed: ``interrupted``. Where a run was never opened (a workflow used as a
    module), only its jobs are known, and not whether it reached its end: ``unknown``.
    """
    folder = Path(results, "provenance")
    if not folder.is_dir():
        raise InputError(results, "has no folder 'provenance'", "Name the results folder of a latentree run")
    assembled = {}
    for run in sorted(path.name for path in folder.iterdir() if path.is_dir()):
        path = _run_file(results, run)
        if not path.exists():
            write_json({"run": run, "state": "unknown", "command": None, "jobs": []}, path)
            assembled[run] = "unknown"
        elif read_json(path)["state"] == "running":
            assembled[run] = "interrupted"
    for run, state in assembled.items():
        close_run(results, run, state)
    return assembled


def git_state(root: str | Path) -> dict[str, Any]:
    """Commit of the checkout and whether tracked files differ from it; nulls outside of git."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    changes = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}


def run_in_words(results: str | Path) -> dict[str, str]:
    """Name and command of the run that a job belongs to, for people; empty outside of a run."""
    run = os.environ.get(RUN_VARIABLE) or _newest_open_run(Path(results))
    if run is None or not _run_file(results, run).is_file():
        return {}
    return {"run": run, "command": shlex.join(read_json(_run_file(results, run))["command"])}


def commit_in_words(root: str | Path) -> str:
    """Commit of the checkout and whether its files differ from it, for people."""
    state = git_state(root)
    if state["commit"] is None:
        return "not known: no git checkout"
    return f"{state['commit']}{' (with uncommitted changes)' if state['dirty'] else ''}"


def _workflow_versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return {"snakemake": version("snakemake")}
    except PackageNotFoundError:
        return {}


def _run_file(results: str | Path, run: str) -> Path:
    return Path(results, "provenance", run, "run.json")


def _newest_open_run(results: Path) -> str | None:
    """The running run with the latest start: for jobs that did not inherit the variable."""
    runs = [read_json(path) for path in sorted(results.glob("provenance/*/run.json"))]
    running = [run["run"] for run in runs if run["state"] == "running"]
    return running[-1] if running else None
