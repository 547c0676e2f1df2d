"""Time and memory of MAGIC on all genes of a generated atlas: this library beside magic-impute.

    python bench/magic_speed.py [--cells 30000] [--genes 2000] [--threads 1]

Each engine runs in a process of its own with the same threads, on the same CSR matrix. Added memory
is the peak resident size less the peak after imports, a warm-up on a small matrix and reading the
input; the result stays in memory in both. magic-impute has to be installed beside the library.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import sparse

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

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


def peak_megabytes() -> float:
    """Peak resident size of this process (Linux).

    Not ru_maxrss, which starts at the size of the parent process.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 1024


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
    memory, wall, cpu = peak_megabytes(), time.perf_counter(), time.process_time()
    result = run_engine(engine, x, 0)
    print(
        json.dumps(
            {
                "engine": engine,
                "wall_seconds": time.perf_counter() - wall,
                "cpu_seconds": time.process_time() - cpu,
                "added_megabytes": peak_megabytes() - memory,
                "mean": float(result.mean(dtype=np.float64)),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=30_000)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--measure", nargs=2, metavar=("ENGINE", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(*arguments.measure)
        return

    threads = {
        name: str(arguments.threads)
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "atlas.npz"
        x = generated_atlas(arguments.cells, arguments.genes, seed=1)
        sparse.save_npz(path, x, compressed=False)
        density = x.nnz / np.prod(x.shape)
        print(f"{x.shape[0]} cells x {x.shape[1]} genes, {density:.1%} filled, {arguments.threads} thread(s)")
        rows = []
        for engine in ENGINES:
            done = subprocess.run(
                [sys.executable, __file__, "--measure", engine, str(path)],
                env={**os.environ, **threads},
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    reference = rows[0]
    columns = ("wall_seconds", "cpu_seconds", "added_megabytes")
    print("engine\t" + "\t".join(f"{column}\tratio" for column in columns) + "\tmean")
    for row in rows:
        cells = "\t".join(f"{row[column]:.1f}\t{row[column] / reference[column]:.2f}" for column in columns)
        print(f"{row['engine']}\t{cells}\t{row['mean']:.5f}")


if __name__ == "__main__":
    main()
