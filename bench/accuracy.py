"""Cell-type accuracy of every model beside PCA's, paired over five splits of real cells.

    python bench/accuracy.py [--data FOLDER] [--n-factors 10 15] [--splits 5]

For each atlas, model and number of factors: mean accuracy of a logistic regression on standardised latents
(test cells), and the paired difference to PCA with its standard error. One seed per split. Table accuracy.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from bench_tools import ATLASES, DATA, GENERATED, atlas, parser, spared, write

from latentree.api import fit
from latentree.model_settings import MODEL_SETTINGS
from latentree.scores import LoadedFit, metrics_table


def main(arguments: list[str] | None = None) -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, default=DATA, help="folder of the atlases")
    made.add_argument(
        "--atlases", nargs="+", default=["zheng2017", "zeisel2015"], choices=[*ATLASES, GENERATED]
    )
    # oi_vae needs gene sets
    models = [name for name in MODEL_SETTINGS if name != "oi_vae"]
    made.add_argument("--models", nargs="+", default=models, choices=models)
    made.add_argument("--n-factors", nargs="+", type=int, default=[10])
    made.add_argument("--splits", type=int, default=5)
    chosen = made.parse_args(arguments)
    if chosen.quick:
        chosen.atlases, chosen.n_factors, chosen.splits, chosen.models = [GENERATED], [3], 2, ["pca", "nmf"]
    rows = [
        row
        for name in spared(chosen.data, chosen.atlases)
        for split in range(chosen.splits)
        for row in scores(name, chosen, split)
    ]
    if rows:
        write(summary(pd.DataFrame(rows)).to_dict("records"), "accuracy", chosen.out)


def scores(name: str, chosen: argparse.Namespace, split: int) -> list[dict[str, Any]]:
    """Scores of all models on one split."""
    adata = atlas(name, chosen.data, split)
    rows = []
    for k in chosen.n_factors:
        fits = [fit(adata, model, k, seed=split, progress=False) for model in chosen.models]
        table = metrics_table(name, [LoadedFit.from_anndata(one.factors, one.summary) for one in fits])
        for one in fits:
            mine = table[(table["model"] == one.model.name) & (table["split"].isin(["test", "none"]))]
            values = mine.set_index("metric")["value"]
            rows.append(
                {
                    "atlas": name,
                    "split": split,
                    "k": k,
                    "model": one.model.name,
                    "accuracy": values["accuracy"],
                    "zeros": values["zeros"],
                    "r2_scaled": values["r2_scaled"],
                    "cpu_seconds": one.summary["cpu_seconds"],
                }
            )
    return rows


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over splits, and each model's paired difference to PCA with its standard error."""
    keys = ["atlas", "k", "model"]
    pca = rows[rows["model"] == "pca"].set_index(["atlas", "k", "split"])["accuracy"]
    rows = rows.assign(
        difference=rows["accuracy"].to_numpy()
        - pca.loc[list(zip(rows["atlas"], rows["k"], rows["split"], strict=True))].to_numpy()
    )
    grouped = rows.groupby(keys, sort=False)
    table = grouped[["accuracy", "zeros", "r2_scaled", "cpu_seconds", "difference"]].mean()
    table["standard_error"] = grouped["difference"].std() / np.sqrt(grouped.size())
    table["within_bar"] = table["difference"] >= -0.02 - 2 * table["standard_error"]
    return table.reset_index()


if __name__ == "__main__":
    main()
