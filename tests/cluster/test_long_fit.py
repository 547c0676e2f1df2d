"""A fit of 20,000 cells that is killed half-way repeats no more than one interval between checkpoints."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from latentree.files import read_json, sha256_of
from workflow_harness import ROOT, clean_environment

N_CELLS, N_GENES, N_FACTORS, N_EPOCHS = 20_000, 500, 10, 26
INTERVAL = N_EPOCHS // 10
# half-way, and between two checkpoints
KILLED_AFTER = N_EPOCHS // 2
SAVED_BEFORE = KILLED_AFTER // INTERVAL * INTERVAL

FIT = f"""
import sys
import time
import latentree as lt
from latentree import training

epoch_of = training._Loop._epoch
def tells_its_epoch(self, done):
    print(done, flush=True)
    if done == int(waits_in):
        time.sleep(600)
    return epoch_of(self, done)
training._Loop._epoch = tells_its_epoch

atlas, checkpoint, target, waits_in = sys.argv[1:]
fit = lt.fit(
    lt.read_atlas(atlas, cell_type="cell_type"), "sparse_vae", {N_FACTORS}, checkpoint=checkpoint,
    settings={{"max_epochs": {N_EPOCHS}}}, progress=False,
)
fit.save(target)
"""


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Counts of 20,000 cells from ten sparse programs."""
    rng = np.random.default_rng(0)
    programs = rng.gamma(1.0, 1.0, (N_FACTORS, N_GENES)) * (rng.random((N_FACTORS, N_GENES)) < 0.1)
    activity = rng.gamma(0.5, 1.0, (N_CELLS, N_FACTORS))
    counts = rng.poisson(activity @ programs + 0.2).astype(np.float32)
    obs = pd.DataFrame(
        {"cell_type": activity.argmax(axis=1).astype(str)}, index=[f"cell{i}" for i in range(N_CELLS)]
    )
    var = pd.DataFrame(index=[f"GENE{i}" for i in range(N_GENES)])
    path = tmp_path_factory.mktemp("atlas") / "atlas.h5ad"
    ad.AnnData(sparse.csr_matrix(counts), obs, var).write_h5ad(path)
    return path


@pytest.fixture
def start(atlas: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a fit in a process of its own; in one epoch it may wait, to be killed there."""
    started = []

    def begin(folder: Path, waits_in: int = -1) -> subprocess.Popen[str]:
        arguments = [str(atlas), str(folder / "checkpoint"), str(folder), str(waits_in)]
        fit = subprocess.Popen(
            [sys.executable, "-c", FIT, *arguments],
            env=clean_environment() | {"PYTHONPATH": str(ROOT / "scripts")},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(fit)
        return fit

    yield begin
    for fit in started:
        fit.kill()
        fit.wait()


def epochs_begun(fit: subprocess.Popen[str]) -> Iterator[int]:
    """For each epoch that begins, how many are done."""
    assert fit.stdout is not None
    yield from map(int, fit.stdout)


def test_a_fit_killed_half_way_repeats_at_most_one_interval(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    undisturbed = start(tmp_path / "undisturbed")
    killed = start(tmp_path / "killed", waits_in=KILLED_AFTER)
    assert list(islice(epochs_begun(killed), KILLED_AFTER + 1))[-1] == KILLED_AFTER
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL

    resumed = start(tmp_path / "killed")
    assert list(epochs_begun(resumed)) == list(range(SAVED_BEFORE, N_EPOCHS))
    assert resumed.wait() == 0
    assert 0 < KILLED_AFTER - SAVED_BEFORE <= INTERVAL
    assert read_json(tmp_path / "killed" / "fit.json")["resumed_from_epoch"] == SAVED_BEFORE

    assert list(epochs_begun(undisturbed)) == list(range(N_EPOCHS))
    assert undisturbed.wait() == 0
    for name in ("factors.h5ad", "model.safetensors"):
        assert sha256_of(tmp_path / "killed" / name) == sha256_of(tmp_path / "undisturbed" / name), name
    assert not (tmp_path / "killed" / "checkpoint").exists()
