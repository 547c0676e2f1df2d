"""Attempts at one long job: one at a time, and none repeats what an earlier one finished.

Clusters take jobs away when they like. A Slurm job that holds several fits is killed as a whole, and
Snakemake then runs all of them again; a Snakemake that was killed leaves jobs running, which the next one
starts a second time. So a job holds a lock while it runs, and leaves links to its finished outputs.
"""

import hashlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentree import provenance
from latentree.files import atomic_path, read_json, sha256_of, write_json
from latentree.locks import HeldError, locked

logger = logging.getLogger(__name__)

FOLDER = "attempts"
"""Below the results; the Snakefile removes it when a run ends well, anybody may when nothing runs."""


@contextmanager
def one_attempt(snakemake: Any, record: dict[str, Any]) -> Iterator[None]:
    """Do a rule script's work while no other attempt at it does, or end the script with what one finished.

    Parameters
    ----------
    snakemake
        The object that Snakemake hands to scripts.
    record
        The job's record, as :func:`latentree.job.rule_script` yields it; what was taken over is said in it.
    """
    job = provenance.job_name(snakemake.rule, dict(snakemake.wildcards.items()))
    outputs = tuple(map(Path, provenance.flat(snakemake.output)))
    attempts = Attempts(Path(snakemake.config["results"], FOLDER, job), _key(record), outputs)
    with attempts.alone():
        facts = attempts.take_over()
        if facts is not None:
            record.update(state="success", taken_over=facts)
            logger.info("%s: taken from an attempt that ended %s", snakemake.rule, facts["ended"])
            sys.exit(0)
        yield
        facts = {name: record[name] for name in ("started", "host", "user")}
        run, cpu = os.environ.get(provenance.RUN_VARIABLE), round(time.process_time(), 3)
        attempts.keep({"run": run, **facts, "ended": provenance.now(), "cpu_seconds": cpu})


def _key(record: dict[str, Any]) -> str:
    """Everything that the outputs of a job depend on, as one hash."""
    known = [record[name] for name in ("script", "code_sha256", "settings", "threads", "seed", "inputs")]
    known.append(provenance.installed_versions())
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Attempts:
    """All attempts at one job.

    Parameters
    ----------
    folder
        A folder of this job alone, on the file system of the outputs.
    key
        Hash of everything that the outputs depend on; what was finished under another key is not used.
    outputs
        The job's declared outputs.
    """

    folder: Path
    key: str
    outputs: tuple[Path, ...]

    @contextmanager
    def alone(self, said_every: float = 60.0) -> Iterator[None]:
        """Hold the job's lock; where an earlier attempt still runs, wait for its end and say so."""
        said = False
        while True:
            try:
                with locked(self.folder, said_every if said else 1.0):
                    yield
                    return
            except HeldError as error:
                said = True
                logger.warning("an earlier attempt at this job still runs (%s); waiting for its end", error)

    def keep(self, facts: Mapping[str, Any]) -> None:
        """Leave the outputs for a later attempt, with facts of how they came about."""
        for output in self.outputs:
            _link(output, self.folder / output.name)
        sums = {output.name: sha256_of(output) for output in self.outputs}
        write_json({"key": self.key, "outputs": sums, "facts": dict(facts)}, self._finished)

    def take_over(self) -> dict[str, Any] | None:
        """Put the outputs of a finished attempt in place; its facts, or None if there is none."""
        if not self._finished.is_file():
            return None
        finished = read_json(self._finished)
        kept = {output: self.folder / output.name for output in self.outputs}
        if finished["key"] != self.key or not all(
            file.is_file() and sha256_of(file) == finished["outputs"].get(file.name) for file in kept.values()
        ):
            logger.info("what an earlier attempt finished is of other settings, data or code; starting anew")
            return None
        for output, file in kept.items():
            _link(file, output)
        facts: dict[str, Any] = finished["facts"]
        return facts

    @property
    def _finished(self) -> Path:
        return self.folder / "finished.json"


def _link(source: Path, target: Path) -> None:
    """The file under a second name, which costs no space where the file system can link."""
    with atomic_path(target) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copy2(source, temporary)
