"""Fits that want a GPU get one from Slurm, or say clearly that there is none (this Slurm's are fakes)."""

import json

import pytest
import torch
from virtual_slurm import GPU_NODE
from workplace import Workplace

# two fits that share a Slurm job, and a refit
FITS = [f"results/pbmc/fits/sparse_vae/k4/seed{seed}/fit.json" for seed in (0, 1)]
REFIT = "results/pbmc/resamples/sparse_vae/k4/r0/fit.json"
RESAMPLES = {"stability": {"n_resamples": 2, "n_halves": 0}}
# what a lab writes into its profile
PARTITION = ("fit_torch_model:slurm_partition=gpu", "refit_torch_model:slurm_partition=gpu")

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the fits would succeed on a real GPU")


@pytest.fixture(scope="module", params=["cuda", "auto"])
def attempted(request, prepared) -> Workplace:
    """A place in which the fits were submitted once, and failed."""
    place = prepared.copied(request.param)
    config = place.configured([0, 1], device=request.param, downstream=RESAMPLES)
    if request.param == "cuda":
        # the rules ask for a GPU by themselves; the refit as on a site that takes --gres only
        gpus = ["refit_torch_model:gpu=0", "refit_torch_model:gres=gpu:1"]
    else:
        gpus = ["fit_torch_model:gpu=1", "refit_torch_model:gpu=1"]
    given = ("--configfile", config, "--retries", "0", "--set-resources", *PARTITION, *gpus)
    with place.master(*given, "--", *FITS, REFIT) as master:
        assert master.ends() == 1, master.said()
    assert len(place.jobs()) == 2, master.said()
    return place


def _records(place: Workplace) -> list[dict]:
    """What the fits left about themselves."""
    files = place.root.glob("results/provenance/*/jobs/*fit_torch_model*.json")
    return [json.loads(file.read_text()) for file in files]


def test_fits_run_on_the_gpu_node_and_each_sees_one_gpu(attempted):
    assert {job.node for job in attempted.jobs()} == {GPU_NODE}
    seen = [record["cuda_visible_devices"] for record in _records(attempted)]
    assert len(seen) == 3
    assert set(seen) <= {"0", "1"}


def test_fits_without_a_working_gpu_fail_and_say_why(attempted):
    assert {record["state"] for record in _records(attempted)} == {"failure"}
    logs = list(attempted.root.glob("results/logs/pbmc/*fit_model/*.log"))
    assert len(logs) == 3
    for log in logs:
        assert "latentree: error: device: cuda was asked for, but" in log.read_text()
