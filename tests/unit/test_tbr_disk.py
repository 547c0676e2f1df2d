"""Inputs on disk: the same numbers as from memory, bounded memory, clear errors."""

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from latentree.errors import InputError
from latentree.metrics.mcc import mcc
from latentree.simulate import simulate_environments
from latentree.tbr import batching, disk_inputs, fit_tbr
from latentree.tbr.batching import StepData, batches
from latentree.tbr.cells import checked_names
from latentree.tbr.disk_inputs import DiskInputs, moments_of_inputs
from latentree.tbr.moments import collect
from latentree.tbr.phi import Phi

QUICK = {"phi": "linear", "n_steps": 300, "n_finetune_steps": 100}


def stored(folder: Path, X: np.ndarray, kind: str):
    """X as it comes back from a file: dense, in compressed pieces, sparse, or not float32."""
    file = folder / f"{kind}.h5ad"
    if kind == "pieces":
        with h5py.File(file, "w") as opened:
            opened.create_dataset("X", data=X, chunks=(100, 2), compression="gzip")
        return h5py.File(file)["X"]
    matrix = {"dense": X, "csr": sparse.csr_matrix(X), "float64": X.astype(np.float64)}[kind]
    ad.AnnData(matrix).write_h5ad(file)
    return ad.read_h5ad(file, backed="r").X


@pytest.fixture(scope="module")
def sim():
    return simulate_environments(5, 3, n_cells=200, psi="linear", seed=1)


@pytest.fixture
def small_windows(monkeypatch):
    """Windows, gaps and buffers that small files are larger than."""
    monkeypatch.setattr(disk_inputs, "_WINDOW_BYTES", 2**13)
    monkeypatch.setattr(disk_inputs, "_GAP_BYTES", 2**9)
    monkeypatch.setattr(batching, "_BUFFER_BYTES", 2**17)


KINDS = ["dense", "pieces", "csr", "float64"]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_from_disk_are_those_of_the_matrix(kind, tmp_path, small_windows):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(900, 7)) * (rng.random((900, 7)) < 0.4)).astype(np.float32)
    inputs = DiskInputs(stored(tmp_path, X, kind))
    assert len(inputs) == 900
    assert inputs.shape == (900, 7)
    for rows in (slice(0, 5), slice(890, None), slice(3, 3), np.arange(900), np.array([], dtype=np.int64)):
        assert np.array_equal(inputs[rows], X[rows])
    for share in (0.02, 0.5, 0.95):
        rows = np.flatnonzero(rng.random(900) < share)
        found = inputs[rows]
        assert found.dtype == np.float32
        assert np.array_equal(found, X[rows])
    with pytest.raises(IndexError):
        inputs[::2]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 1))
def test_moments_of_inputs_are_mean_and_sd(seed, share):
    rng = np.random.default_rng(seed)
    X = (1e4 + rng.normal(size=(700, 3)) * [1, 100, 0]).astype(np.float32)
    rows = np.flatnonzero(rng.random(700) < share)
    rows = rows if len(rows) else np.array([5])
    mean, sd = moments_of_inputs(X, rows)
    chosen = X[rows].astype(np.float64)
    assert mean == pytest.approx(chosen.mean(axis=0), rel=1e-12)
    expected = chosen.std(axis=0)
    assert sd[:2] == pytest.approx(np.where(expected > 1e-3, expected, 1)[:2], rel=1e-9)
    assert sd[2] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_moments_from_disk_equal_those_from_memory(kind, tmp_path, sim, small_windows):
    inputs = DiskInputs(stored(tmp_path, sim.X, kind))
    rows = np.flatnonzero(np.random.default_rng(0).random(len(sim.X)) < 0.6)
    for ours, expected in zip(moments_of_inputs(inputs, rows), moments_of_inputs(sim.X, rows), strict=True):
        assert np.array_equal(ours, expected)
    phi = Phi("small", np.zeros(20), np.ones(20), 3, torch.Generator().manual_seed(0))
    codes = pd.factorize(sim.environments)[0]
    disk, memory = (collect(phi, X, sim.y, codes, rows, codes.max() + 1) for X in (inputs, sim.X))
    assert np.array_equal(disk.gram, memory.gram)
    assert np.array_equal(disk.cross, memory.cross)
    # pieces of other sizes go through other products
    assert phi.latents(inputs) == pytest.approx(phi.latents(sim.X), abs=1e-5)


def test_what_fits_the_buffer_gives_the_fit_from_memory(tmp_path, sim):
    arguments = (sim.y, sim.environments, sim.tree, 3, "two_stage", 0, QUICK)
    disk = fit_tbr(stored(tmp_path, sim.X, "dense"), *arguments)
    memory = fit_tbr(sim.X, *arguments)
    assert disk.weights.equals(memory.weights)
    assert disk.changes.equals(memory.changes)


def test_a_sorted_file_larger_than_the_buffer_is_fitted_as_well(tmp_path, sim, small_windows):
    X = stored(tmp_path, sim.X, "dense")
    arguments = (sim.y, sim.environments, sim.tree, 3, "two_stage", 0, QUICK)
    fit, again = (fit_tbr(X, *arguments) for _ in range(2))
    assert fit.weights.equals(again.weights)
    assert mcc(sim.Z, fit.latents(X)) > 0.98
    assert fit.latents(X) == pytest.approx(fit.latents(sim.X), abs=1e-4)
    assert fit.predict(X, sim.environments) == pytest.approx(fit.predict(sim.X, sim.environments), abs=1e-4)


def test_sparse_rows_give_the_fit_of_dense_ones(tmp_path, sim, small_windows):
    few = {**QUICK, "n_steps": 20, "n_finetune_steps": 5}
    arguments = (sim.y, sim.environments, sim.tree, 3, "two_stage", 0, few)
    dense, csr = (fit_tbr(stored(tmp_path, sim.X, kind), *arguments) for kind in ("dense", "csr"))
    assert dense.weights.to_numpy() == pytest.approx(csr.weights.to_numpy(), abs=1e-4)


def test_a_binary_phenotype_is_fitted_from_disk(tmp_path, sim, small_windows):
    X = stored(tmp_path, sim.X, "dense")
    binary = (sim.y > np.median(sim.y)).astype(float)
    fit = fit_tbr(X, binary, sim.environments, sim.tree, 3, settings=QUICK)
    assert fit.link == "logistic"
    assert np.mean((fit.predict(X, sim.environments) > 0.5) == binary) > 0.85


# ---- batches


class _Watched(DiskInputs):
    """Remembers how many rows were asked for at a time."""

    def __init__(self, stored):
        super().__init__(stored)
        self.asked: list[int] = []

    def __getitem__(self, rows):
        found = super().__getitem__(rows)
        self.asked.append(len(found))
        return found


@pytest.mark.parametrize(("n_inputs", "kind"), [(2, "dense"), (50, "dense"), (50, "pieces")])
def test_the_buffer_is_bounded_and_every_row_comes_once_in_a_pass(n_inputs, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(batching, "_BUFFER_BYTES", 4 * n_inputs * 1000)
    n_cells, size = 6000, 40
    X = np.tile(np.arange(n_cells, dtype=np.float32)[:, None], n_inputs)
    watched = _Watched(stored(tmp_path, X, kind))
    train = np.flatnonzero(np.arange(n_cells) % 6 > 0)
    cells = StepData(watched, np.arange(n_cells, dtype=np.float32), np.arange(n_cells), train, train[:0])
    generator = torch.Generator().manual_seed(0)
    seen = []
    for x, y, codes in batches(cells, size, 3 * len(train) // size, generator):
        assert x.shape == (size, n_inputs)
        assert torch.equal(x[:, 0], y)
        assert torch.equal(codes, y.long())
        seen.append(y.numpy())
    assert len(seen) == 3 * len(train) // size
    assert max(watched.asked) <= 1000 + 64
    rows = np.concatenate(seen).astype(int)
    assert set(rows) <= set(train)
    # but for what fills no whole batch, the first pass shows each row once
    first = rows[: len(train) * 9 // 10]
    assert len(set(first)) == len(first)
    # blocks are short and lie all over the file
    assert np.unique(seen[0].astype(int) // 64).size > 10
    assert np.abs(np.corrcoef(seen[0], np.arange(size))[0, 1]) < 0.6


def test_batches_from_disk_follow_the_generator(tmp_path, small_windows):
    X = np.random.default_rng(0).normal(size=(5000, 20)).astype(np.float32)
    inputs = DiskInputs(stored(tmp_path, X, "dense"))
    cells = StepData(inputs, X[:, 0], np.zeros(5000, np.int64), np.arange(5000), np.arange(0))

    def drawn(seed):
        found = batches(cells, 100, 60, torch.Generator().manual_seed(seed))
        return np.stack([y.numpy() for _, y, _ in found])

    assert np.array_equal(drawn(1), drawn(1))
    assert not np.array_equal(drawn(1), drawn(2))


# ---- what cannot be used


def fit_of(X, n_cells=60):
    sim = simulate_environments(2, 2, n_cells=10, n_inputs=3, seed=0)
    return fit_tbr(X, sim.y[:n_cells], sim.environments[:n_cells], sim.tree, 2, settings=QUICK)


@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_bad_values_on_disk_are_told_with_the_first_cell(kind, tmp_path, small_windows):
    X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    fit = fit_of(stored(tmp_path, X, kind))
    X[[41, 50], 1] = np.nan, np.inf
    (tmp_path / "bad").mkdir()
    bad = stored(tmp_path / "bad", X, kind)
    with pytest.raises(InputError, match=r"X: 2 value.* NaN or infinite, the first in cell 41"):
        fit_of(bad)
    with pytest.raises(InputError, match="the first in cell 41"):
        fit.latents(bad)
    with pytest.raises(InputError, match="the first in cell 41"):
        fit.predict(bad, ["1"] * 60)


def test_files_that_hold_no_inputs_are_told(tmp_path):
    X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    with pytest.raises(InputError, match=r"have shapes \(60, 3\), \(40,\)"):
        fit_of(stored(tmp_path, X, "dense"), n_cells=40)
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        file["vector"], file["text"] = X[:, 0], np.full((60, 3), b"a")
        with pytest.raises(InputError, match=r"X: has shape \(60,\)"):
            fit_of(file["vector"])
        with pytest.raises(InputError, match="not numbers"):
            fit_of(file["text"])
        closed = file["vector"]
    with pytest.raises(InputError, match="its file is closed"):
        fit_of(closed)
    ad.AnnData(sparse.csc_matrix(X)).write_h5ad(tmp_path / "csc.h5ad")
    with pytest.raises(InputError, match="by columns"):
        fit_of(ad.read_h5ad(tmp_path / "csc.h5ad", backed="r").X)


def test_environments_may_be_a_categorical_a_series_or_fixed_width(sim):
    expected = list(sim.environments)
    series = pd.Series(expected, index=np.arange(len(expected))[::-1])
    for given_names in (expected, sim.environments, series, series.astype("category"), series.to_numpy()):
        assert list(checked_names(given_names, sim.tree)) == expected
    # a category that no cell has is no mistake; a missing name is
    checked_names(pd.Categorical(expected, categories=[*sim.tree.names, "elsewhere"]), sim.tree)
    with pytest.raises(InputError, match=r"1 name.* no nodes of the tree: 'nan'"):
        checked_names(series.where(series.index > 0).astype("category"), sim.tree)
