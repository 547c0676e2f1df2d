"""The demo on a cluster, started by the command that the README names."""

import pytest
from workplace import Workplace

from workflow_harness import copy_of_the_checkout


@pytest.fixture(scope="module")
def demo(cluster) -> Workplace:
    """A fresh copy of the checkout in which the demo has run."""
    place = Workplace(copy_of_the_checkout(cluster.folder / "demo").root, cluster)
    with place.master() as master:
        master.succeeds(seconds=840)
    return place


def test_the_demo_ends_with_its_report(demo):
    assert (demo.root / "results/pbmc68k/report.html").stat().st_size > 100_000
    assert "Nothing to be done" in demo.run("-n")


def test_no_job_failed_and_small_fits_shared_theirs(demo):
    jobs = demo.jobs()
    assert {job.state for job in jobs} == {"COMPLETED"}
    fits = list(demo.root.glob("results/pbmc68k/fits/*/k*/seed*/fit.json"))
    assert len(fits) == 15
    assert len(demo.jobs("fit_torch_model")) + len(demo.jobs("fit_matrix_model")) <= 6
    assert len(jobs) <= 20


def test_logs_of_good_jobs_are_kept(demo):
    assert {log.stem for log in demo.slurm_logs()} == {job.number for job in demo.jobs()}
