"""Likelihoods and the batch covariate on real cells: held-out log p, accuracy and mixing of batches.

    python bench/likelihoods.py [--data FOLDER] [--n-factors 15] [--splits 3]

VAE and Sparse VAE on kang2018, with normal and negative binomial likelihood, told the samples or not; PCA
beside them. log p is importance-weighted, nats per test cell; of counts and of log values it has no common
unit. Table likelihoods.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from bench_tools import DATA, GENERATED, atlas, parser, spared, write

from latentree.api import fit
from latentree.scores import LoadedFit, metrics_table

_ATLAS, _COLUMN = "kang2018", "sample"
_METRICS = ("accuracy", "log_likelihood", "r2", "batch_mixing", "alive_factors")


def main(arguments: list[str] | None = None) -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, default=DATA, help="folder of the atlases")
    made.add_argument("--n-factors", type=int, default=15)
    made.add_argument("--splits", type=int, default=3)
    chosen = made.parse_args(arguments)
    if chosen.quick:
        chosen.n_factors, chosen.splits = 3, 1
    names = [GENERATED] if chosen.quick else spared(chosen.data, [_ATLAS])
    rows = [row for name in names for split in range(chosen.splits) for row in scores(name, split, chosen)]
    if rows:
        write(rows, "likelihoods", chosen.out)


def scores(name: str, split: int, chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """All variants on one split."""
    adata = atlas(name, chosen.data, split)
    if name == GENERATED:
        adata.obs[_COLUMN] = np.resize(["a", "b"], adata.n_obs)
    few = {"max_epochs": 2} if chosen.quick else {}
    variants: list[tuple[str, dict[str, Any]]] = [("pca", {})]
    variants += [
        (model, {"likelihood": likelihood, "batch": batch, **few})
        for model in ("vae", "sparse_vae")
        for likelihood in ("gaussian", "nb")
        for batch in (None, _COLUMN)
    ]
    rows = []
    for model, settings in variants:
        done = fit(
            adata, model, chosen.n_factors, seed=split, settings=settings, device="cpu", progress=False
        )
        loaded = LoadedFit.from_anndata(done.factors, done.summary)
        table = metrics_table(name, [loaded], batches=adata.obs[_COLUMN])
        values = table[(table["model"] == model) & table["split"].isin(["test", "none"])]
        found = values.set_index("metric")["value"]
        rows.append(
            {
                "atlas": name,
                "split": split,
                "n_factors": chosen.n_factors,
                "model": model,
                "likelihood": settings.get("likelihood", ""),
                "batch": settings.get("batch") or "",
                **{metric: found.get(metric, np.nan) for metric in _METRICS},
                "cpu_seconds": done.summary["cpu_seconds"],
            }
        )
    return rows


if __name__ == "__main__":
    main()
