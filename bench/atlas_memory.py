"""Peak memory and time of the atlas stage on generated atlases, stored in several ways.

    python bench/atlas_memory.py [--cells 200000] [--genes 2000] [--density 0.1] [--storages csr log ...]

Each atlas is written by one process and prepared by another, so that only the stage itself is measured:
the peak resident memory of that process less what it held after its imports, beside the size of the matrix
in CSR (float32 values, int32 indices, pointers). The bar is 4 times that + 100 MB. Table atlas_memory.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench_tools import forget_peak, generated_counts, parser, peak_mb, resident_mb, write

STORAGES = ("csr", "csc-int64", "csr-float64", "dense-float32", "raw", "log")


def main(arguments: list[str] | None = None) -> None:
    made = parser(__doc__)
    made.add_argument("--cells", type=int, default=200_000)
    made.add_argument("--genes", type=int, default=2_000)
    made.add_argument("--density", type=float, default=0.1)
    made.add_argument("--storages", nargs="+", default=list(STORAGES), choices=STORAGES)
    made.add_argument("--in", dest="source", type=Path, help="(internal) the file to prepare")
    made.add_argument("--make", type=Path, help="(internal) the file to generate")
    chosen = made.parse_args(arguments)
    if chosen.quick:
        chosen.cells, chosen.genes, chosen.storages = 600, 40, ["csr"]
    if chosen.make:
        make(chosen.make, chosen.cells, chosen.genes, chosen.density, chosen.storages[0])
    elif chosen.source:
        measure(chosen.source)
    else:
        write(rows(chosen), "atlas_memory", chosen.out)


def rows(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row per way of storing the same atlas."""
    for storage in chosen.storages:
        with tempfile.TemporaryDirectory(prefix="atlas_memory") as folder:
            file = Path(folder) / "generated.h5ad"
            command = [sys.executable, __file__, "--storages", storage]
            for key in ("cells", "genes", "density"):
                command += [f"--{key}", str(getattr(chosen, key))]
            subprocess.run([*command, "--make", str(file)], check=True)
            done = subprocess.run(
                [*command, "--in", str(file)], check=True, stdout=subprocess.PIPE, text=True
            )
            yield {"storage": storage, **json.loads(done.stdout.splitlines()[-1])}


def make(path: Path, n_cells: int, n_genes: int, density: float, storage: str) -> None:
    """Counts of ten cell types whose genes differ twofold, (n_cells, n_genes)."""
    import anndata
    import numpy as np
    import pandas as pd

    counts, types = generated_counts(n_cells, n_genes, density, seed=0)
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
    """Prepare and write one atlas in this process; print one line of JSON for the parent."""
    import skmisc.loess  # noqa: F401 - imported on the way; belongs to the imports

    from latentree.atlas import prepare_atlas, write_atlas
    from latentree.config import AtlasSettings, checked
    from latentree.settings import PreprocessSettings

    settings = checked(AtlasSettings, {"path": str(source), "cell_type": "cell_type"}, "bench")
    forget_peak()
    before = resident_mb()
    start = time.perf_counter()
    adata, qc = prepare_atlas(settings, checked(PreprocessSettings, None, "bench"), 5)
    prepared = time.perf_counter()
    write_atlas(adata, source.with_name("atlas.h5ad"))
    written = time.perf_counter()

    csr = (adata.X.nnz * 8 + (adata.n_obs + 1) * 4) / 1e6
    added = peak_mb() - before
    report = {
        "cells": adata.n_obs,
        "genes": adata.n_vars,
        "gene_selection": qc["gene_selection"]["method"],
        "csr_mb": round(csr, 1),
        "added_mb": round(added, 1),
        "limit_mb": round(4 * csr + 100, 1),
        "times_csr": round(added / csr, 2),
        "prepare_seconds": round(prepared - start, 1),
        "write_seconds": round(written - prepared, 1),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
