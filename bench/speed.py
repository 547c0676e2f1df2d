"""Speed: the decoder's step beside the reference's loop over genes, whole fits, and Python's share of a step.

    python bench/speed.py [--rounds 3] [--data FOLDER]

All in one process, one thread, CPU time; measurements that are compared take turns. Tables: speed_step (a
step at equal sizes), speed_fit (default fits beside 100 epochs of the loop, some steps of which are
measured), speed_python. The decoder alone is the matter of decoder_speed.py.
"""

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import anndata
import numpy as np
import pandas as pd
import torch
from bench_tools import (
    ATLASES,
    DATA,
    GENERATED,
    atlas,
    cpu_clock,
    generated_anndata,
    one_thread,
    parser,
    write,
)
from reference_sparse_vae import ReferenceFit
from torch.profiler import ProfilerActivity, profile

from latentree import api, synthetic, training

N_FACTORS, BATCH, REFERENCE_HIDDEN, REFERENCE_EPOCHS = 15, 512, 100, 100
MLP = {"likelihood": "gaussian", "decoder": "mlp", "start": "varimax", "encoder_mean": "linear"}
FITS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "linear": {"decoder": "linear"},
    "additive": {"decoder": "additive"},
    "gaussian (mlp)": {"likelihood": "gaussian"},
    "gaussian linear": {"likelihood": "gaussian", "decoder": "linear"},
    "gaussian additive": {"likelihood": "gaussian", "decoder": "additive"},
}


def main(arguments: list[str] | None = None) -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, default=DATA, help="folder of the atlases")
    made.add_argument("--rounds", type=int, default=3, help="turns that each measurement takes")
    made.add_argument("--genes", type=int, default=558)
    made.add_argument("--stacked-sets", type=int, default=25, help="data sets per correlation, five of these")
    chosen = made.parse_args(arguments)
    if chosen.quick:
        chosen.rounds, chosen.genes, chosen.stacked_sets = 1, 20, 1
    with one_thread():
        write(steps(chosen), "speed_step", chosen.out)
        write(fits(chosen), "speed_fit", chosen.out)
        write(python_shares(chosen), "speed_python", chosen.out)


def steps(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Whole training steps: batch, encoder, decoder, penalties, Adam."""
    n_genes = chosen.genes
    adata = low_rank_cells(BATCH * (1 if chosen.quick else 2), n_genes)
    x = torch.from_numpy(np.asarray(adata.X))
    for hidden in (64, 100):
        sizes = {"hidden_decoder": hidden, "hidden_encoder": hidden, "batch_size": BATCH, "max_epochs": 4}
        forms = {"robust": {**MLP, **sizes}, "paper": {"recipe": "paper", **sizes}}
        reference = ReferenceFit(x, N_FACTORS, hidden, BATCH)
        reference.step()
        seconds: dict[str, list[float]] = {name: [] for name in ("reference", *forms)}
        for _ in range(chosen.rounds):
            with cpu_clock() as clock:
                reference.step()
            seconds["reference"].append(clock.seconds)
            for name, settings in forms.items():
                seconds[name] += step_seconds(adata, settings)
        for name, measured in seconds.items():
            yield {
                "step": name,
                "genes": n_genes,
                "factors": N_FACTORS,
                "hidden": hidden,
                "batch": BATCH,
                "milliseconds": 1e3 * median(measured),
                "times_faster": median(seconds["reference"]) / median(measured),
            }


def step_seconds(adata: anndata.AnnData, settings: Mapping[str, Any]) -> list[float]:
    """CPU seconds per step of each epoch of a fit but the first."""
    done = api.fit(adata, "sparse_vae", N_FACTORS, settings=settings, progress=False)
    n_steps = -(-int((adata.obs["split"] == "train").sum()) // settings["batch_size"])
    return [seconds / n_steps for seconds in done.history["cpu_seconds"].iloc[1:]]


def fits(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Whole fits of one atlas beside 100 epochs of the loop; then many small fits at once."""
    name = "zeisel2015"
    if chosen.quick or not (chosen.data / ATLASES[name]["path"]).is_file():
        name = GENERATED
    adata = atlas(name, chosen.data, split=0)
    # a fit of a whole atlas, as a user would call it: the fit sets a tenth aside for validation itself
    del adata.obs["split"]
    x = adata[:, adata.var["modelled"].to_numpy(dtype=bool)].X.toarray()
    n_train = len(x) - len(x) // 10
    reference = ReferenceFit(torch.from_numpy(x[:n_train]), N_FACTORS, REFERENCE_HIDDEN, BATCH)
    reference.step()
    n_steps = 1 if chosen.quick else 12
    with cpu_clock() as clock:
        for _ in range(n_steps):
            reference.step()
    whole = clock.seconds / n_steps * REFERENCE_EPOCHS * n_train / BATCH
    facts = {"atlas": name, "cells": len(x), "genes": x.shape[1], "factors": N_FACTORS}
    note = f"{n_steps} steps measured, scaled to {REFERENCE_EPOCHS} epochs of the {n_train} training cells"
    yield {"fit": "reference loop", **facts, "cpu_seconds": whole, "share": 1.0, "note": note}
    few = {"max_epochs": 3} if chosen.quick else {}
    for fitted, settings in list(FITS.items())[: 3 if chosen.quick else None]:
        done = api.fit(adata, "sparse_vae", N_FACTORS, settings={**settings, **few}, progress=False)
        seconds = done.summary["cpu_seconds"]
        note = f"{done.summary['n_epochs']} epochs"
        yield {"fit": fitted, **facts, "cpu_seconds": seconds, "share": seconds / whole, "note": note}
    yield stacked(chosen.stacked_sets, few)


def stacked(n_sets: int, few: Mapping[str, Any]) -> dict[str, Any]:
    """The paper's synthetic study in batched models: its data sets at five correlations."""
    data = [
        synthetic.paper_data(rho, np.random.default_rng(number))
        for rho in (0, 0.2, 0.4, 0.6, 0.8)
        for number in range(n_sets)
    ]
    cells = [anndata.AnnData(one.values) for one in data]
    for one in cells:
        # as in the paper, half of the cells are held out
        one.obs["split"] = np.where(np.arange(one.n_obs) % 2, "train", "test")
    with cpu_clock() as clock:
        done = api.fit_stack(cells, "sparse_vae", 5, list(range(len(cells))), dict(few))
    return {
        "fit": "stacked",
        "atlas": "paper's synthetic data",
        "cells": len(data[0].values),
        "genes": data[0].values.shape[1],
        "factors": 5,
        "cpu_seconds": clock.seconds,
        "share": np.nan,
        "note": f"{len(done)} fits at once",
    }


def python_shares(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Share of an epoch's time outside of torch's operators: Python and whatever it calls besides."""
    n_genes = 20 if chosen.quick else 200
    for name, settings in list(FITS.items())[: 1 if chosen.quick else None]:
        given = {**settings, "batch_size": 256, "max_epochs": 3 if chosen.quick else 12, "start": "varimax"}
        epochs = profiled_epochs(counted_cells(256 * 4, n_genes), given)
        yield {
            "fit": name,
            "genes": n_genes,
            "batch": 256,
            "milliseconds": 1e3 * median(whole for whole, _ in epochs) / 4,
            "outside_torch": median(1 - inside / whole for whole, inside in epochs),
        }


def profiled_epochs(adata: anndata.AnnData, settings: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Seconds of each epoch of a fit but the first, and those of them inside torch's operators, by the
    profiler's clock: the wall's."""
    epochs = []
    run = training._Loop._epoch

    def profiled(loop: training._Loop, epoch: int) -> dict[str, float]:
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            start = time.perf_counter()
            row = run(loop, epoch)
            seconds = time.perf_counter() - start
        inside = sum(
            event.time_range.elapsed_us()
            for event in profiler.events()
            if _is_operator(event) and not _has_operator_above(event)
        )
        epochs.append((seconds, 1e-6 * inside))
        return row

    with patch.object(training._Loop, "_epoch", profiled):
        api.fit(adata, "sparse_vae", N_FACTORS, settings=settings, progress=False)
    return epochs[1:]


def _is_operator(event: Any) -> bool:
    """Not a span that Python opened, such as the optimiser's."""
    return not event.is_user_annotation and "#" not in event.name


def _has_operator_above(event: Any) -> bool:
    parent = event.cpu_parent
    while parent is not None:
        if _is_operator(parent):
            return True
        parent = parent.cpu_parent
    return False


def low_rank_cells(n_cells: int, n_genes: int) -> anndata.AnnData:
    """Values of 15 sparse factors and noise, all cells for training; float32 (n_cells, n_genes)."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((N_FACTORS, n_genes)) * (rng.random((N_FACTORS, n_genes)) < 0.2)
    x = rng.standard_normal((n_cells, N_FACTORS)) @ weights + rng.standard_normal((n_cells, n_genes))
    return _all_for_training(anndata.AnnData(x.astype(np.float32)))


def counted_cells(n_cells: int, n_genes: int) -> anndata.AnnData:
    """Generated counts and their logarithms, all cells for training."""
    return _all_for_training(generated_anndata(n_cells, n_genes, density=0.3))


def _all_for_training(adata: anndata.AnnData) -> anndata.AnnData:
    adata.obs["split"] = pd.Categorical(["train"] * adata.n_obs)
    return adata


if __name__ == "__main__":
    main()
