"""What clusters do to jobs: one run of fits, each fit hit by something else, and nobody has to help."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from virtual_slurm import SlurmJob, VirtualSlurm
from workplace import TABLES, Struck, Workplace, restarts

# every fit in a Slurm job of its own, and the first with too little memory for a start
MEMORY, CANCELLED, REQUEUED, DOWN, POWER, DAEMONS = SEEDS = (0, 1, 2, 3, 4, 5)
TOO_LITTLE = "fit_torch_model:mem_mb=300 if wildcards.seed == '0' and attempt == 1 else 2000"
ALONE = ("--group-components", "fit_torch_model=1")


@dataclass(frozen=True)
class Survived:
    """A run that came to its end, and its fits at the times of their faults."""

    place: Workplace
    struck: dict[int, Struck]
    command: tuple[str, ...]

    def jobs(self, seed: int) -> list[SlurmJob]:
        return self.place.jobs("fit_torch_model", seed)

    def restarts(self, seed: int) -> int:
        return restarts(self.jobs(seed)[-1], self.place.cluster)


def _set_down(cluster: VirtualSlurm, job: SlurmJob) -> None:
    cluster.call("scontrol", "update", f"NodeName={job.node}", "State=DOWN", "Reason=test")


def _restart_daemons(cluster: VirtualSlurm, job: SlurmJob) -> None:
    """The controller is away for a while, and the node's daemon dies and comes back."""
    cluster.stop_controller()
    cluster.kill_node_daemon(job.node)
    time.sleep(2)
    cluster.start_controller()
    cluster.start_node(job.node)


FAULTS: dict[int, Callable[[VirtualSlurm, SlurmJob], object]] = {
    CANCELLED: lambda cluster, job: cluster.call("scancel", job.number),
    REQUEUED: lambda cluster, job: cluster.call("scontrol", "requeue", job.number),
    DOWN: _set_down,
    POWER: lambda cluster, job: cluster.cut_power(job.node),
    DAEMONS: _restart_daemons,
}


@pytest.fixture(scope="module")
def survived(cluster, prepared):
    place = prepared.copied("job_faults")
    command = ("--configfile", place.configured(SEEDS), *ALONE, "--set-resources", TOO_LITTLE, "--", *TABLES)
    struck = {}
    with place.master(*command) as master:
        for seed, fault in FAULTS.items():
            struck[seed] = place.running_fit(seed)
            fault(cluster, struck[seed].job)
        master.succeeds()
    yield Survived(place, struck, command)
    cluster.resume_nodes()


def test_tables_and_fits_are_those_of_an_undisturbed_run(survived, undisturbed):
    expected = undisturbed(SEEDS)
    assert len(expected) == len(TABLES) + len(SEEDS)
    assert survived.place.results() == expected


def test_the_same_command_finds_nothing_left_to_do(survived):
    assert "Nothing to be done" in survived.place.run("-n", *survived.command)


def test_a_job_killed_for_memory_is_submitted_again_with_more(survived):
    killed, second = survived.jobs(MEMORY)
    assert (killed.memory, second.memory) == ("300M", "2000M")
    assert killed.state != "COMPLETED"
    assert second.state == "COMPLETED"


def test_a_cancelled_job_is_submitted_again(survived):
    assert [job.state for job in survived.jobs(CANCELLED)] == ["CANCELLED", "COMPLETED"]


@pytest.mark.parametrize("seed", [REQUEUED, DOWN, POWER])
def test_slurm_queues_a_job_again_that_lost_its_node(survived, seed):
    (job,) = survived.jobs(seed)
    assert job.state == "COMPLETED"
    assert survived.restarts(seed) == 1
    if seed != REQUEUED:
        assert job.node != survived.struck[seed].job.node


@pytest.mark.parametrize("seed", [CANCELLED, REQUEUED, DOWN, POWER])
def test_a_fit_goes_on_from_its_checkpoint(survived, seed):
    assert survived.struck[seed].epochs > 0
    assert survived.place.summary(seed)["resumed_from_epoch"] >= survived.struck[seed].epochs


def test_a_job_outlives_the_daemons_that_started_it(survived):
    (job,) = survived.jobs(DAEMONS)
    assert job.state == "COMPLETED"
    assert survived.restarts(DAEMONS) == 0
    assert survived.place.summary(DAEMONS)["resumed_from_epoch"] is None
