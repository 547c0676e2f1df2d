"""What happens to the ``snakemake`` that a user typed: the same command, typed again, finishes the run."""

import os
import signal

import pytest
from virtual_slurm import wait_until
from workplace import Workplace

# two tables, which share a Slurm job, save the tests time
TABLES = ["results/pbmc/tables/metrics.tsv", "results/pbmc/tables/genes.tsv"]
GROUPS = ("--groups", "score_fits=tables", "list_genes=tables", "--group-components", "tables=2")
COMMAND = ("--configfile", "my.yaml", *GROUPS, "fit_torch_model=10", "--", *TABLES)


@pytest.fixture
def place(prepared, request) -> Workplace:
    """A workplace of the test's own with one fit to do."""
    copy = prepared.copied(request.node.name.replace("test_", ""))
    copy.configured([0])
    return copy


@pytest.fixture
def finishes(place, undisturbed):
    """Type the command once more; in the end all is as if nothing had happened."""

    def finish(seeds: tuple[int, ...] = (0,)) -> None:
        place.run(*COMMAND)
        found, expected = place.results(), undisturbed(seeds)
        assert len(found) == len(TABLES) + len(seeds)
        assert found == {name: expected[name] for name in found}

    return finish


def test_ctrl_c_cancels_the_jobs(place, finishes):
    with place.master(*COMMAND) as master:
        struck = place.running_fit()
        master.signal(signal.SIGINT)
        assert master.ends() != 0
    wait_until(lambda: [job.state for job in place.jobs()] == ["CANCELLED"], "the job's end")
    finishes()
    assert place.summary()["resumed_from_epoch"] >= struck.epochs


def test_sigterm_lets_running_jobs_finish(place, finishes):
    with place.master(*COMMAND) as master:
        place.running_fit()
        os.kill(master.process.pid, signal.SIGTERM)
        assert master.ends() != 0
    finishes()
    assert len(place.jobs("fit_torch_model")) == 1
    assert place.summary()["resumed_from_epoch"] is None


def test_after_sigkill_the_orphaned_job_is_waited_for(place, finishes):
    with place.master(*COMMAND) as master:
        orphan = place.running_fit().job
        # it waits there until the next attempt has come
        place.cluster.call("scontrol", "suspend", orphan.number)
        master.signal(signal.SIGKILL)
        master.ends()
    place.local("--unlock")
    with place.master(*COMMAND) as master:
        wait_until(lambda: "waiting for its end" in place.fit_log(), "the second attempt", 120)
        place.cluster.call("scontrol", "resume", orphan.number)
        master.succeeds()
    first, second = place.jobs("fit_torch_model")
    assert (first.number, first.state, second.state) == (orphan.number, "COMPLETED", "COMPLETED")
    assert place.summary()["resumed_from_epoch"] is None
    finishes()


def test_after_sigkill_a_killed_group_goes_on_where_it_was(place, finishes):
    """Two fits share a Slurm job, which is killed with the master when the first of them is done."""
    place.configured([0, 1])
    with place.master(*COMMAND) as master:
        first = _first_done(place)
        struck = place.running_fit(1 - first)
        master.signal(signal.SIGKILL)
        master.ends()
    seconds = place.summary(first)["wall_seconds"]
    place.cluster.call("scancel", "--full", "--signal=KILL", struck.job.number)
    place.local("--unlock")
    finishes(seeds=(0, 1))
    assert len(place.jobs("fit_torch_model")) == 2
    assert place.summary(1 - first)["resumed_from_epoch"] >= struck.epochs
    # a second fit would have taken other seconds
    assert place.summary(first)["wall_seconds"] == seconds


def _first_done(place: Workplace) -> int:
    """The seed of the fit that is done before the other."""

    def done() -> list[int]:
        return [seed for seed in (0, 1) if place.is_fitted(seed)]

    wait_until(done, "the first fit", 180)
    (first,) = done()
    return first
