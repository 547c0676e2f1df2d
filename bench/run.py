"""All benchmarks, one script after the other, each in a process of its own; then the page.

    python bench/run.py [--jobs 2] [--quick] [--data FOLDER] [--only cells speed ...]

What rests on ratios of speed or on memory runs alone; what rests on accuracy shares the machine, ``--jobs``
at a time. Results of earlier runs are deleted first (with --only they stay), so that a page tells of one run.
"""

import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_tools import ATLASES, DATA, GENERATED, ROOT, parser, write
from machine import described
from write_page import PAGE, written

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Job:
    """One script with its options; ``alone`` where nothing may run beside it."""

    name: str
    options: tuple[str, ...] = ()
    alone: bool = False
    takes_data: bool = False

    @property
    def script(self) -> str:
        return f"{self.name.split(':')[0]}.py"


def jobs(quick: bool) -> list[Job]:
    """In the order in which they start; the longest first among those that share the machine."""
    atlases = [GENERATED] if quick else sorted(ATLASES, key=lambda name: name != "zheng2017")
    return [
        Job("speed", alone=True, takes_data=True),
        Job("decoder_speed", alone=True),
        Job("scale", alone=True),
        Job("magic_speed", alone=True),
        Job("atlas_memory", ("--storages", "csr", "csc-int64", "dense-float32")),
        Job("gpu", alone=True),
        Job("tbr", alone=True),
        *(Job(f"cells:{name}", ("--atlases", name), takes_data=True) for name in atlases),
        *(Job(f"synthetic:{part}", ("--parts", part)) for part in ("paper", "default", "truths")),
        Job("ablation", ("--atlases", *(atlases if quick else ("zeisel2015",))), takes_data=True),
        Job("accuracy", ("--splits", "3"), takes_data=True),
        Job("likelihoods", takes_data=True),
        Job("consensus"),
    ]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, default=DATA, help="folder of the atlases")
    made.add_argument("--jobs", type=int, default=1, help="scripts at a time, where that harms nothing")
    made.add_argument("--only", nargs="+", help="some scripts; the tables of the others stay")
    made.add_argument("--page", type=Path, default=PAGE)
    chosen = made.parse_args()
    if chosen.quick:
        # numbers that mean nothing replace none that do
        chosen.out = chosen.out.with_name(f"{chosen.out.name}_quick")
        chosen.page = chosen.out / "benchmarks.md"
    if not chosen.only:
        shutil.rmtree(chosen.out, ignore_errors=True)
    (chosen.out / "logs").mkdir(parents=True, exist_ok=True)
    write([described()], "machine", chosen.out)
    wanted = [job for job in jobs(chosen.quick) if not chosen.only or job.name.split(":")[0] in chosen.only]
    rows: list[dict[str, Any]] = []

    def run(job: Job) -> None:
        rows.append(outcome(job, chosen))
        print(json.dumps(rows[-1]), flush=True)

    for job in wanted:
        if job.alone:
            run(job)
    with ThreadPoolExecutor(chosen.jobs) as pool:
        list(pool.map(run, [job for job in wanted if not job.alone]))
    write(rows, "jobs", chosen.out)
    chosen.page.write_text(written(chosen.out), encoding="utf-8")
    print(f"page: {chosen.page}")
    sys.exit(any(row["exit"] != 0 for row in rows))


def outcome(job: Job, chosen: Any) -> dict[str, Any]:
    """Run one script; its output goes to a log."""
    command = [sys.executable, str(HERE / job.script), "--out", str(chosen.out), *job.options]
    command += ["--data", str(chosen.data)] if job.takes_data else []
    command += ["--quick"] if chosen.quick else []
    log = chosen.out / "logs" / f"{job.name.replace(':', '_')}.log"
    start = time.perf_counter()
    with log.open("w") as stream:
        done = subprocess.run(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, check=False)
    return {"job": job.name, "exit": done.returncode, "wall_seconds": round(time.perf_counter() - start, 1)}


if __name__ == "__main__":
    main()
