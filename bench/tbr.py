"""Tree-based regularisation: many environments, rows streamed from disk, time to disentangle.

    python bench/tbr.py [--parts paths many streaming accuracy] [--rows 1000000 3000000 10000000] [--seeds 5]

One thread. Tables: tbr_paths (weights of all environments with their gradient, on a balanced tree and on a
comb), tbr_many (a whole fit with as many environments), tbr_streaming (inputs in a generated .h5ad; each size
in a process of its own, whose whole peak counts), tbr_accuracy (the paper's simulation at 762,000 cells).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from bench_tools import cpu_clock, one_thread, parser, peak_mb, write

PARTS = ("paths", "many", "streaming", "accuracy")
N_INPUTS = 20
N_PASSES = 3


def main(arguments: list[str] | None = None) -> None:
    made = parser(__doc__)
    made.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    made.add_argument("--depth", type=int, default=13, help="of the tree of paths and many")
    made.add_argument("--latents", type=int, default=10, help="of paths and many")
    made.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 3_000_000, 10_000_000])
    made.add_argument("--environments", type=int, default=1_000, help="of streaming")
    made.add_argument("--seeds", type=int, default=5, help="of accuracy")
    made.add_argument("--cells", type=int, default=3_000, help="of accuracy, in each environment")
    made.add_argument(
        "--stream", nargs=2, metavar=("FILE", "ENVIRONMENTS"), help="(internal) the file to fit"
    )
    made.add_argument("--many", action="store_true", help="(internal) the fit with many environments")
    chosen = made.parse_args(arguments)
    if chosen.quick:
        chosen.depth, chosen.latents, chosen.environments = 4, 2, 10
        chosen.rows, chosen.seeds, chosen.cells = [2_000, 4_000], 1, 30
    if chosen.stream:
        print(json.dumps(streamed(Path(chosen.stream[0]), int(chosen.stream[1]), chosen.quick)))
    elif chosen.many:
        print(json.dumps(many(chosen)))
    else:
        for part in chosen.parts:
            write(_ROWS[part](chosen), f"tbr_{part}", chosen.out)


# ---- weights and their gradient


def paths_rows(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Sums along all paths forwards and backwards, median of 50."""
    import torch

    from latentree.path_sums import PathSums
    from latentree.tbr.steps import TreeWeights

    n_nodes = 2 ** (chosen.depth + 1) - 1
    node = np.arange(n_nodes)
    trees = {"balanced": (node - 1) // 2, "comb": np.where(node > 0, 2 * ((node - 1) // 2), -1)}
    rng = np.random.default_rng(0)
    for name, parents in trees.items():
        depth = np.zeros(n_nodes, dtype=np.int64)
        for child in range(1, n_nodes):
            depth[child] = depth[parents[child]] + 1
        changes = rng.normal(size=(n_nodes - 1, chosen.latents))
        weights = TreeWeights(PathSums(parents, node), rng.normal(size=chosen.latents), changes, 0.1)
        pull = torch.from_numpy(rng.normal(size=(n_nodes, chosen.latents)).astype(np.float32))

        def step(weights: TreeWeights = weights, pull: torch.Tensor = pull) -> None:
            weights.zero_grad()
            weights().backward(pull)

        with one_thread():
            milliseconds = 1e3 * median(_seconds(step) for _ in range(50))
        yield {
            "tree": name,
            "environments": n_nodes,
            "latents": chosen.latents,
            "milliseconds": milliseconds,
            "path_entries": int(depth.sum()),
            "dense_mb": n_nodes * (n_nodes - 1) * 4e-6,
        }


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def many_rows(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A whole two_stage fit in a process of its own."""
    yield _measured(["--many", "--depth", str(chosen.depth), "--latents", str(chosen.latents)], chosen.quick)


def many(chosen: argparse.Namespace) -> dict[str, Any]:
    """Fit in this process: 50 cells in every node but the root."""
    from latentree.metrics.mcc import mcc
    from latentree.simulate import simulate_environments
    from latentree.tbr import fit_tbr

    sim = simulate_environments(chosen.depth, chosen.latents, n_cells=50)
    settings = {"n_steps": 50, "n_finetune_steps": 20} if chosen.quick else None
    with one_thread(), cpu_clock() as clock:
        fit = fit_tbr(sim.X, sim.y, sim.environments, sim.tree, chosen.latents, settings=settings)
    error = np.mean((fit.predict(sim.X, sim.environments) - sim.y) ** 2)
    return {
        "environments": len(fit.weights),
        "latents": chosen.latents,
        "cells": len(sim.y),
        "cpu_seconds": clock.seconds,
        "steps_seconds": _steps_seconds(fit),
        "peak_mb": peak_mb(),
        "mcc": mcc(sim.Z, fit.latents(sim.X)),
        "error_over_floor": error / sim.noise_floor,
    }


# ---- rows from disk


def streaming_rows(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A file and a process for each size; files are deleted."""
    for n_rows in chosen.rows:
        with tempfile.TemporaryDirectory(prefix="tbr") as folder:
            file = Path(folder) / "cells.h5ad"
            generate(file, n_rows, chosen.environments)
            yield _measured(["--stream", str(file), str(chosen.environments)], chosen.quick)


def generate(path: Path, n_rows: int, n_environments: int) -> None:
    """A dense .h5ad of inputs, sorted by environment, with the phenotype and the environment in obs."""
    import anndata
    import h5py
    import pandas as pd

    from latentree.simulate import node_weights, sparse_changes

    rng = np.random.default_rng(0)
    tree, n_latents = _tree(n_environments), 5
    changes = sparse_changes(tree.n_nodes - 1, n_latents, rng, n_changes=1)
    weights = node_weights(tree, rng.normal(size=n_latents), changes)[1 : n_environments + 1]
    mix = rng.normal(size=(N_INPUTS, n_latents)) / np.sqrt(N_INPUTS)
    node = np.sort(rng.integers(0, n_environments, n_rows)).astype(np.int16)
    target = np.empty(n_rows, dtype=np.float32)
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("X", (n_rows, N_INPUTS), dtype=np.float32)
        stored.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        for start in range(0, n_rows, 100_000):
            x = rng.standard_normal((min(100_000, n_rows - start), N_INPUTS), dtype=np.float32)
            z = 1.6 * np.tanh(x @ mix) + 0.1 * rng.standard_normal((len(x), n_latents))
            rows = slice(start, start + len(x))
            noise = 0.1 * rng.standard_normal(len(x))
            stored[rows], target[rows] = x, (z * weights[node[rows]]).sum(axis=1) + noise
        obs = file.create_group("obs")
        anndata.io.write_elem(obs, "phenotype", target)
        types = pd.Categorical.from_codes(node, categories=list(tree.names[1 : n_environments + 1]))
        anndata.io.write_elem(obs, "cell_type", types)


def streamed(path: Path, n_environments: int, quick: bool) -> dict[str, Any]:
    """A whole fit with defaults; the best of some passes for the moments of inputs and the Gram matrices."""
    import anndata
    import h5py
    import pandas as pd

    from latentree.tbr import fit_tbr
    from latentree.tbr.disk_inputs import DiskInputs, moments_of_inputs
    from latentree.tbr.moments import collect

    after_imports = peak_mb()
    settings = {"n_steps": 50, "n_finetune_steps": 20} if quick else None
    with h5py.File(path) as file, one_thread():
        y = file["obs/phenotype"][:]
        types: pd.Categorical = anndata.io.read_elem(file["obs/cell_type"])
        with cpu_clock() as whole:
            wall = time.perf_counter()
            fit = fit_tbr(file["X"], y, types, _tree(n_environments), 5, settings=settings)
            wall = time.perf_counter() - wall
        peak = peak_mb()
        inputs, rows = DiskInputs(file["X"]), np.arange(len(y))
        codes = types.codes.astype(np.int64)
        reading, gram = [], []
        for _ in range(N_PASSES):
            with cpu_clock() as clock:
                moments_of_inputs(inputs, rows)
            reading.append(clock.seconds)
            with cpu_clock() as clock:
                collect(fit.phi, inputs, y, codes, rows, n_environments)
            gram.append(clock.seconds)
    millions = len(y) / 1e6
    return {
        "rows": len(y),
        "inputs": N_INPUTS,
        "environments": n_environments,
        "file_mb": path.stat().st_size / 1e6,
        "read_per_million": min(reading) / millions,
        "gram_per_million": min(gram) / millions,
        "fit_seconds": whole.seconds,
        "fit_wall_seconds": wall,
        "steps_seconds": _steps_seconds(fit),
        "outside_steps_per_million": (whole.seconds - _steps_seconds(fit)) / millions,
        "peak_mb": peak,
        "after_imports_mb": after_imports,
    }


def _tree(n_environments: int) -> Any:
    """A balanced tree with at least so many nodes below the root."""
    from latentree.simulate import balanced_tree

    return balanced_tree(int(np.ceil(np.log2(n_environments + 2))) - 1)


# ---- time to disentangle

_ESTIMATORS = {
    1: ("two_stage", "joint", "baseline"),
    2: ("two_stage", "baseline"),
    3: ("two_stage", "baseline"),
}


def accuracy_rows(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The estimators on the paper's simulation: all at one change per branch, two at two and three."""
    for seed in range(chosen.seeds):
        for n_changes, estimators in _ESTIMATORS.items():
            yield from _accuracies(chosen, seed, n_changes, estimators)


def _accuracies(
    chosen: argparse.Namespace, seed: int, n_changes: int, estimators: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """Rows of one data set."""
    from latentree.metrics.mcc import mcc
    from latentree.simulate import simulate_environments
    from latentree.tbr import fit_tbr

    depth, n_latents = (3, 3) if chosen.quick else (7, 5)
    settings = {"n_steps": 50, "n_finetune_steps": 20} if chosen.quick else {}
    sim = simulate_environments(depth, n_latents, n_changes=n_changes, n_cells=chosen.cells, seed=seed)
    side = np.random.default_rng(seed).choice(3, len(sim.y), p=[0.5, 0.25, 0.25])
    train, validation, test = (np.flatnonzero(side == i) for i in range(3))
    floor = np.mean((sim.signal[test] - sim.y[test]) ** 2)
    for estimator in estimators:
        with one_thread(), cpu_clock() as clock:
            fit = fit_tbr(
                sim.X,
                sim.y,
                sim.environments,
                sim.tree,
                n_latents,
                estimator,
                seed,
                settings,
                train=train,
                validation=validation,
            )
        error = np.mean((fit.predict(sim.X[test], sim.environments[test]) - sim.y[test]) ** 2)
        yield {
            "estimator": estimator,
            "changes": n_changes,
            "seed": seed,
            "cells": len(sim.y),
            "cpu_seconds": clock.seconds,
            "mcc": mcc(sim.Z[test], fit.latents(sim.X[test])),
            "error_over_floor": error / floor,
        }


def _steps_seconds(fit: Any) -> float:
    """CPU seconds of the gradient steps of all stages."""
    return float(fit.history.groupby("stage")["cpu_seconds"].max().sum())


def _measured(options: list[str], quick: bool) -> dict[str, Any]:
    """What this script prints as JSON in a process of its own."""
    command = [sys.executable, __file__, *options, *(["--quick"] if quick else [])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


_ROWS: dict[str, Callable[[argparse.Namespace], Iterator[dict[str, Any]]]] = {
    "paths": paths_rows,
    "many": many_rows,
    "streaming": streaming_rows,
    "accuracy": accuracy_rows,
}


if __name__ == "__main__":
    main()
