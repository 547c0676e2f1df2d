"""The tests' own Slurm: a job runs in it, and stopping it leaves nothing."""

import subprocess
import sys
from pathlib import Path

import pytest
from virtual_slurm import VirtualSlurm, missing_programs, new_folder, processes_of, wait_until

# where Slurm and munge write if nobody tells them otherwise
USUAL_PLACES = ["/var/spool/slurm*", "/var/log/slurm*", "/var/log/munge/*", "/run/slurm*", "/run/munge/*"]

pytestmark = pytest.mark.skipif(bool(missing_programs()), reason="no Slurm here")


def _usual_files() -> set[Path]:
    return {path for place in USUAL_PLACES for path in Path("/").glob(place.lstrip("/"))}


def test_nothing_is_left_even_of_a_job_that_ignores_signals():
    before = _usual_files()
    with VirtualSlurm(new_folder()) as cluster:
        folder = cluster.folder
        stubborn = "trap '' TERM INT; touch started; while :; do sleep 1; done"
        cluster.call(
            "sbatch", f"--chdir={folder}", f"--output={folder}/job.out", "--mem=100", f"--wrap={stubborn}"
        )
        wait_until((folder / "started").exists, "the job's start")
        assert len(processes_of(folder)) > 8
    assert processes_of(folder) == []
    assert not folder.exists()
    assert _usual_files() == before


def test_nothing_is_left_of_a_killed_test_session():
    script = (
        "import time; from virtual_slurm import VirtualSlurm, new_folder\n"
        "with VirtualSlurm(new_folder()) as c: print(c.folder, flush=True); time.sleep(600)"
    )
    session = subprocess.Popen(
        [sys.executable, "-c", script], cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True
    )
    assert session.stdout is not None
    folder = Path(session.stdout.readline().strip())
    assert len(processes_of(folder)) > 8
    session.kill()
    session.communicate()
    wait_until(lambda: not folder.exists(), "the end of all", 30)
    assert processes_of(folder) == []
