"""Large atlases: seconds per epoch, memory, and whether time per cell stays the same.

    python bench/scale.py [--cells 2000 20000 200000] [--genes 2000] [--memory-cells 20000]

Generated counts, a tenth of them above zero. Each fit runs in a process of its own with one thread, reads
its atlas from a file and is measured from its imports on. Table scale: a row per decoder, likelihood and
number of cells; added memory is the peak less what was held after the imports.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench_tools import (
    cpu_clock,
    forget_peak,
    generated_anndata,
    one_thread,
    parser,
    peak_mb,
    resident_mb,
    write,
)

FORMS = [("linear", "nb"), ("additive", "nb"), ("linear", "gaussian"), ("additive", "gaussian")]
# the growth of time per cell is told by the default alone and its additive sister
LARGE_FORMS = FORMS[:2]
N_FACTORS = 20


def main(arguments: list[str] | None = None) -> None:
    made = parser(__doc__)
    made.add_argument("--cells", type=int, nargs="+", default=[2_000, 20_000, 200_000])
    made.add_argument("--main-cells", type=int, default=20_000, help="the size at which all forms are fitted")
    made.add_argument("--genes", type=int, default=2_000)
    made.add_argument("--density", type=float, default=0.1)
    made.add_argument("--fit", nargs=4, metavar=("FILE", "DECODER", "LIKELIHOOD", "EPOCHS"))
    chosen = made.parse_args(arguments)
    if chosen.fit:
        measure(*chosen.fit)
        return
    if chosen.quick:
        chosen.cells, chosen.main_cells, chosen.genes = [300], 300, 40
    write(rows(chosen), "scale", chosen.out)


def rows(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One fit each; fewer epochs the more cells."""
    with tempfile.TemporaryDirectory(prefix="scale") as folder:
        for n_cells in chosen.cells:
            file = Path(folder) / f"{n_cells}.h5ad"
            adata = generated_anndata(n_cells, chosen.genes, chosen.density)
            csr_mb = (adata.X.nnz * 8 + (n_cells + 1) * 4) / 1e6
            adata.write_h5ad(file)
            del adata
            everything = n_cells == chosen.main_cells
            forms = FORMS[:1] if chosen.quick else FORMS if everything else LARGE_FORMS
            epochs = 3 if chosen.quick or n_cells > 50_000 else 5 if n_cells > 5_000 else 20
            for decoder, likelihood in forms:
                command = [sys.executable, __file__, "--fit", str(file), decoder, likelihood, str(epochs)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                measured = json.loads(done.stdout.splitlines()[-1])
                yield {
                    "decoder": decoder,
                    "likelihood": likelihood,
                    "cells": n_cells,
                    "genes": chosen.genes,
                    "csr_mb": csr_mb,
                    "limit_mb": 3 * csr_mb + 100,
                    **measured,
                    "microseconds_per_cell": 1e6 * measured["epoch_seconds"] / n_cells,
                }


def measure(file: str, decoder: str, likelihood: str, n_epochs: str) -> None:
    """Fit in this process; print one line of JSON for the parent."""
    from statistics import median

    import anndata

    from latentree.api import fit
    from latentree.models import model_class

    # models are imported when they are first asked for; that is no part of a fit
    model_class("sparse_vae")
    settings = {"decoder": decoder, "likelihood": likelihood, "max_epochs": int(n_epochs)}
    forget_peak()
    before = resident_mb()
    with one_thread(), cpu_clock() as clock:
        adata = anndata.read_h5ad(file)
        adata.obs["split"] = "train"
        done = fit(adata, "sparse_vae", N_FACTORS, settings=settings, progress=False)
    epochs = done.history["cpu_seconds"].to_numpy()
    print(
        json.dumps(
            {
                "epoch_seconds": median(epochs[1:]),
                "other_seconds": clock.seconds - epochs.sum(),
                "added_mb": peak_mb() - before,
                "after_imports_mb": before,
            }
        )
    )


if __name__ == "__main__":
    main()
