"""Peak memory and time of the atlas stage on a generated atlas.

    python bench/atlas_memory.py [--cells 200000] [--genes 2000] [--density 0.1] [--storage csr]

The atlas is written by one process and prepared by another, so that only the stage itself is measured:
the peak resident memory of that process at its end less that after its imports, beside the size of the
matrix in CSR (float32 values, int32 indices, pointers). Exits 1 where it is above 4 times that + 100 MB.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STORAGES = ("csr", "csc-int64", "csr-float64", "dense-float32", "raw", "log")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=200_000)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--density", type=float, default=0.1)
    parser.add_argument("--storage", choices=STORAGES, default="csr")
    parser.add_argument("--in", dest="source", type=Path, help="(internal) the file to prepare")
    parser.add_argument("--make", type=Path, help="(internal) the file to generate")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT / "scripts"))
    if arguments.make:
        make(arguments.make, arguments.cells, arguments.genes, arguments.density, arguments.storage)
    elif arguments.source:
        measure(arguments.source)
    else:
        run(sys.argv[1:])


def run(options: list[str]) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="atlas_memory") as folder:
        file = Path(folder) / "generated.h5ad"
        command = [sys.executable, __file__, *options]
        subprocess.run([*command, "--make", str(file)], check=True, env=environment)
        done = subprocess.run([*command, "--in", str(file)], check=False, env=environment)
    sys.exit(done.returncode)


def make(path: Path, n_cells: int, n_genes: int, density: float, storage: str) -> None:
    """Counts of ten cell types whose genes differ twofold, (n_cells, n_genes)."""
    import anndata
    import numpy as np
    import pandas as pd
    from scipy import sparse

    rng = np.random.default_rng(0)
    types = rng.integers(0, 10, n_cells)
    # the mean that gives a Poisson count above zero with the asked probability, spread over genes
    base = -np.log1p(-density) * rng.gamma(2.0, 0.5, n_genes)
    fold = np.exp2(rng.integers(-1, 2, (10, n_genes)))
    rows = []
    for start in range(0, n_cells, 5_000):
        means = base * fold[types[start : start + 5_000]]
        rows.append(sparse.csr_matrix(rng.poisson(means).astype(np.float32)))
    counts = sparse.vstack(rows, format="csr")
    obs = pd.DataFrame({"cell_type": pd.Categorical([f"type {t}" for t in types])})
    obs.index = [f"cell{i}" for i in range(n_cells)]
    var = pd.DataFrame(index=[f"gene{i}" for i in range(n_genes)])
    if storage == "csc-int64":
        adata = anndata.AnnData(counts.astype(np.int64).tocsc(), obs=obs, var=var)
    elif storage == "csr-float64":
        adata = anndata.AnnData(counts.astype(np.float64), obs=obs, var=var)
    elif storage == "dense-float32":
        adata = anndata.AnnData(counts.toarray(), obs=obs, var=var)
    elif storage == "log":
        adata = anndata.AnnData(counts.log1p(), obs=obs, var=var)
    elif storage == "raw":
        adata = anndata.AnnData(counts, obs=obs, var=var)
        adata.raw = adata
        adata.X = counts.log1p()
    else:
        adata = anndata.AnnData(counts, obs=obs, var=var)
    adata.write_h5ad(path)


def measure(source: Path) -> None:
    import skmisc.loess  # noqa: F401 - imported on the way; belongs to the imports

    from latentree.atlas import prepare_atlas, write_atlas
    from latentree.config import AtlasSettings, checked
    from latentree.settings import PreprocessSettings

    settings = checked(AtlasSettings, {"path": str(source), "cell_type": "cell_type"}, "bench")
    before = _peak()
    start = time.perf_counter()
    adata, qc = prepare_atlas(settings, checked(PreprocessSettings, None, "bench"), 5)
    prepared, prepared_peak = time.perf_counter(), _peak()
    write_atlas(adata, source.with_name("atlas.h5ad"))
    written = time.perf_counter()

    n_values = adata.X.nnz
    csr = n_values * 8 + (adata.n_obs + 1) * 4
    added, limit = _peak() - before, 4 * csr + 100e6
    report = {
        "n_cells": adata.n_obs,
        "n_genes": adata.n_vars,
        "n_values": n_values,
        "gene_selection": qc["gene_selection"]["method"],
        "csr_mb": round(csr / 1e6, 1),
        "peak_after_imports_mb": round(before / 1e6, 1),
        "added_until_prepared_mb": round((prepared_peak - before) / 1e6, 1),
        "added_mb": round(added / 1e6, 1),
        "limit_mb": round(limit / 1e6, 1),
        "times_csr": round(added / csr, 2),
        "prepare_seconds": round(prepared - start, 1),
        "write_seconds": round(written - prepared, 1),
        "written_mb": round(source.with_name("atlas.h5ad").stat().st_size / 1e6, 1),
    }
    print(json.dumps(report, indent=2))
    if added > limit:
        sys.exit(1)


def _peak() -> int:
    """Peak resident memory of this process in bytes; Linux counts it in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
