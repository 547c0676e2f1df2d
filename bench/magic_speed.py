"""Time and memory of MAGIC on all genes of a generated atlas: this library beside magic-impute.

    python bench/magic_speed.py [--cells 30000] [--genes 2000] [--threads 1]

Each engine runs in a process of its own with the same threads, on the same CSR matrix. Added memory
is the peak resident size less the peak after imports, a warm-up on a small matrix and reading the
input; the result stays in memory in both. magic-impute has to be installed beside the library. Table
magic_speed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bench_tools import forget_peak, parser, peak_mb, resident_mb, write
from scipy import sparse

ENGINES = ("magic-impute", "latentree")


def generated_atlas(n_cells: int, n_genes: int, seed: int) -> sparse.csr_matrix:
    """CSR float32 (n_cells, n_genes): log1p counts per 10k, 20 cell types with gradients, ~10% filled."""
    rng = np.random.default_rng(seed)
    n_types, n_programs = 20, 30
    types = rng.integers(n_types, size=n_cells)
    centres = rng.gamma(0.5, size=(n_types, n_programs))
    programs = rng.gamma(0.3, size=(n_programs, n_genes)) * rng.gamma(0.5, size=n_genes)
    blocks = []
    for start in range(0, n_cells, 2000):
        activity = centres[types[start : start + 2000]]
        activity = activity * rng.gamma(4, 1 / 4, size=activity.shape)
        rates = activity @ programs
        rates *= 300 * rng.lognormal(0, 0.3, size=(len(rates), 1)) / rates.sum(axis=1, keepdims=True)
        blocks.append(sparse.csr_matrix(rng.poisson(rates).astype(np.float32)))
    counts = sparse.vstack(blocks, format="csr")
    library_size = np.maximum(np.asarray(counts.sum(axis=1)), 1)
    return sparse.csr_matrix(counts.multiply(1e4 / library_size).log1p(), dtype=np.float32)


def run_engine(engine: str, x: sparse.csr_matrix, seed: int) -> np.ndarray:
    """Denoise all genes with each engine's defaults: knn 5, decay 1, t 3, 100 components."""
    if engine == "magic-impute":
        import magic

        operator = magic.MAGIC(random_state=seed, n_jobs=1, verbose=0)
        return np.asarray(operator.fit_transform(x, genes="all_genes"))
    from latentree.magic import MagicGraph
    from latentree.settings import MagicSettings

    return MagicGraph.fit(x, MagicSettings(seed=seed)).denoise(x)


def measure(engine: str, path: str) -> None:
    """Print one line of JSON for the parent process."""
    run_engine(engine, generated_atlas(300, 200, 0), 0)  # imports and compilation
    x = sparse.load_npz(path)
    forget_peak()
    memory, wall, cpu = resident_mb(), time.perf_counter(), time.process_time()
    result = run_engine(engine, x, 0)
    print(
        json.dumps(
            {
                "engine": engine,
                "wall_seconds": time.perf_counter() - wall,
                "cpu_seconds": time.process_time() - cpu,
                "added_mb": peak_mb() - memory,
                "mean": float(result.mean(dtype=np.float64)),
            }
        )
    )


def main(arguments: list[str] | None = None) -> None:
    made = parser(__doc__)
    made.add_argument("--cells", type=int, default=30_000)
    made.add_argument("--genes", type=int, default=2_000)
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--measure", nargs=2, metavar=("ENGINE", "FILE"), help=argparse.SUPPRESS)
    chosen = made.parse_args(arguments)
    if chosen.measure:
        measure(*chosen.measure)
        return
    if chosen.quick:
        chosen.cells, chosen.genes = 300, 60
    write(rows(chosen), "magic_speed", chosen.out)


def rows(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row per engine."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    threads = dict.fromkeys(names, str(chosen.threads))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "atlas.npz"
        x = generated_atlas(chosen.cells, chosen.genes, seed=1)
        sparse.save_npz(path, x, compressed=False)
        for engine in ENGINES:
            done = subprocess.run(
                [sys.executable, __file__, "--measure", engine, str(path)],
                env={**os.environ, **threads},
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            facts = {"cells": x.shape[0], "genes": x.shape[1], "filled": x.nnz / np.prod(x.shape)}
            yield {**json.loads(done.stdout.splitlines()[-1]), **facts, "threads": chosen.threads}


if __name__ == "__main__":
    main()
