"""What every rule's script does around its own work: log, threads, errors, record."""

import json
import logging
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from latentree import provenance
from latentree.code_hash import PACKAGE, code_hash, import_closure
from latentree.errors import InputError

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@contextmanager
def rule_script(snakemake: Any, script: str) -> Iterator[dict[str, Any]]:
    """Run a rule script's work with a log, the rule's threads and a job record, which it yields.

    An :class:`InputError` ends in one message without a traceback and exit code 2.

    Parameters
    ----------
    snakemake
        The object that Snakemake hands to scripts.
    script
        The script's ``__file__``.
    """
    clock = time.perf_counter()
    with _tee(snakemake.log[0] if snakemake.log else None):
        # now, because an edit while the job runs changes nothing of what it runs
        record = _opened_record(snakemake, script)
        # before numpy is loaded, which reads these once
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(snakemake.threads)))
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s", force=True)
        try:
            refuse_foreign_library(script)
            yield record
            record["state"] = "success"
            _say_done(snakemake, time.perf_counter() - clock)
        except InputError as error:
            print(f"latentree: error: {error}", file=sys.stderr, flush=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            record["state"] = "interrupted"
            print("latentree: interrupted; the same command goes on from here", file=sys.stderr, flush=True)
            sys.exit(130)
        except Exception:
            traceback.print_exc()
            sys.exit(1)
        finally:
            record["wall_seconds"] = round(time.perf_counter() - clock, 3)
            _write_record(snakemake, script, record)


def refuse_foreign_library(script: str) -> None:
    """Refuse a latentree that does not lie beside the script: the commit must pin the code that ran."""
    import latentree

    expected = Path(script).resolve().parent / "latentree"
    found = Path(latentree.__file__).resolve().parent
    if found != expected:
        raise InputError(
            found,
            f"is not the library beside the script {script}",
            f"Uninstall latentree from this environment, so that {expected} is used",
        )


class _Tee:
    """A text stream that also writes to a log file."""

    def __init__(self, stream: TextIO, log: TextIO) -> None:
        self._stream, self._log = stream, log

    def write(self, text: str) -> int:
        self._log.write(text)
        self._log.flush()
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:
        return self._stream.encoding


@contextmanager
def _tee(path: str | None) -> Iterator[None]:
    """Copy stdout and stderr to the rule's log; errors still reach Snakemake's output."""
    if path is None:
        yield
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    before = sys.stdout, sys.stderr
    # a file of its own, because an earlier attempt that still runs writes to the old one
    Path(path).unlink(missing_ok=True)
    with open(path, "w", encoding="utf-8") as log:
        sys.stdout, sys.stderr = _Tee(before[0], log), _Tee(before[1], log)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


def _opened_record(snakemake: Any, script: str) -> dict[str, Any]:
    """What is known of a job before it starts; it fails unless somebody says that it did not."""
    return {
        "state": "failure",
        "started": provenance.now(),
        "host": socket.gethostname(),
        "user": provenance.user_name(),
        "threads": snakemake.threads,
        "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "seed": snakemake.wildcards.get("seed"),
        "script": Path(script).name,
        "code_sha256": code_hash(script),
        "settings": _plain(dict(snakemake.params.items())),
        "inputs": provenance.describe_files(provenance.flat(snakemake.input)),
    }


def _write_record(snakemake: Any, script: str, record: dict[str, Any]) -> None:
    """Write the job's record; failing jobs leave one too."""
    ended = {
        "ended": provenance.now(),
        "cpu_seconds": round(time.process_time(), 3),
        "peak_memory_mb": provenance.peak_memory_mb(),
        "modules_outside_code_hash": _modules_outside(script),
        "versions": provenance.loaded_versions(),
        "outputs": provenance.describe_files(provenance.flat(snakemake.output)),
    }
    provenance.write_job_record(
        snakemake.config["results"], snakemake.rule, dict(snakemake.wildcards.items()), record | ended
    )


def _modules_outside(script: str) -> list[str]:
    """Library files that ran though the static closure does not hold them: there should be none."""
    known = {str(path) for path in import_closure(script)}
    loaded = (
        getattr(module, "__file__", None)
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == PACKAGE
    )
    return sorted(file for file in loaded if file and str(Path(file).resolve()) not in known)


def _say_done(snakemake: Any, seconds: float) -> None:
    """The job's end, and how far its stage and the run are."""
    # this job's own record is written after this
    job = provenance.job_name(snakemake.rule, dict(snakemake.wildcards.items()))
    far = provenance.progress(snakemake.config["results"], job)
    logging.info("%s: done in %.1f s%s", snakemake.rule, seconds, f"; {far}" if far else "")


def _plain(value: Any) -> Any:
    """A value as JSON gives it back, whatever containers Snakemake used."""
    return json.loads(json.dumps(value, default=str))
