"""On a CUDA GPU: cells per second, share of the matrix products' peak, a fit of a large atlas.

    python bench/gpu.py [--cells 200000] [--genes 2000]

Without a GPU it writes an empty table, and the page says that nothing was measured. Table gpu.
"""

import argparse
import time
from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch
from bench_tools import generated_anndata, parser, write

from latentree.api import fit

N_FACTORS, HIDDEN = 20, 64
FORMS: dict[str, dict[str, Any]] = {
    "linear": {"decoder": "linear"},
    "additive": {"decoder": "additive"},
    "mlp": {"decoder": "mlp", "likelihood": "gaussian", "hidden_decoder": HIDDEN},
    "mlp bfloat16": {
        "decoder": "mlp",
        "likelihood": "gaussian",
        "hidden_decoder": HIDDEN,
        "precision": "bfloat16",
    },
}


def main(arguments: list[str] | None = None) -> None:
    made = parser(__doc__)
    made.add_argument("--cells", type=int, default=200_000)
    made.add_argument("--genes", type=int, default=2_000)
    made.add_argument("--epochs", type=int, default=4)
    made.add_argument("--batch", type=int, default=4096)
    chosen = made.parse_args(arguments)
    if chosen.quick:
        chosen.cells, chosen.genes, chosen.epochs, chosen.batch = 600, 40, 2, 128
    if not torch.cuda.is_available():
        print("no CUDA GPU: nothing measured")
        write([], "gpu", chosen.out)
        return
    write(rows(chosen), "gpu", chosen.out)


def rows(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A fit per form, with batches that keep a GPU busy; then the default fit to its end."""
    peak = product_rate()
    adata = generated_anndata(chosen.cells, chosen.genes)
    adata.obs["split"] = pd.Categorical(["train"] * adata.n_obs)
    for name, settings in FORMS.items():
        given = {**settings, "batch_size": chosen.batch, "max_epochs": chosen.epochs, "start": "varimax"}
        start = time.perf_counter()
        done = fit(adata, "sparse_vae", N_FACTORS, settings=given, device="cuda", progress=False)
        seconds = time.perf_counter() - start
        epoch = float(done.history["wall_seconds"].iloc[1:].median())
        rate = flops_per_cell(name, chosen.genes) * chosen.cells / epoch
        yield described(chosen, name, seconds, epoch, rate, peak)
    start = time.perf_counter()
    fit(adata, "sparse_vae", N_FACTORS, device="cuda", progress=False)
    yield described(
        chosen, "default, whole fit", time.perf_counter() - start, float("nan"), float("nan"), peak
    )


def described(
    chosen: argparse.Namespace, name: str, seconds: float, epoch: float, rate: float, peak: float
) -> dict[str, Any]:
    return {
        "device": torch.cuda.get_device_name(),
        "fit": name,
        "cells": chosen.cells,
        "genes": chosen.genes,
        "batch": chosen.batch,
        "wall_seconds": seconds,
        "cells_per_second": chosen.cells / epoch,
        "tera_per_second": rate / 1e12,
        "share_of_products": rate / peak,
        "products_tera_per_second": peak / 1e12,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9,
    }


def flops_per_cell(name: str, n_genes: int) -> float:
    """Of the decoder's products, forward and twice that backward."""
    linear = 2 * n_genes * N_FACTORS
    network = 2 * n_genes * (N_FACTORS * HIDDEN + HIDDEN * HIDDEN + HIDDEN)
    hinges = 3 * linear
    return 3.0 * (linear + (network if name.startswith("mlp") else 0) + (hinges if name == "additive" else 0))


def product_rate(size: int = 8192, n_products: int = 10) -> float:
    """Float operations per second of square float32 products, with the matrix units as torch allows them."""
    left, right = (torch.randn(size, size, device="cuda") for _ in range(2))
    left @ right
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(n_products):
        left @ right
    torch.cuda.synchronize()
    return 2 * size**3 * n_products / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
