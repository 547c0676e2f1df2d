"""Cell-type accuracy of every model beside PCA's, paired over five splits of real cells.

    python bench/accuracy.py [--data FOLDER] [--n-factors 10 15] [--splits 5]

For each atlas, model and number of factors: mean accuracy of a logistic regression on standardised latents
(test cells), and the paired difference to PCA with its standard error. One seed per split.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from latentree.api import fit
from latentree.atlas import prepare_atlas
from latentree.config import AtlasSettings
from latentree.scores import LoadedFit, metrics_table
from latentree.settings import MODEL_SETTINGS, PreprocessSettings

ATLASES = {
    "zheng2017": {"path": "zheng2017_sorted_pbmc.h5ad"},
    "zeisel2015": {
        "path": "zeisel2015_200genes.h5ad",
        "organism": "mouse",
        "library_size": "total_mRNA_mol",
    },
    "kang2018": {"path": "kang2018_pbmc_ifnb.h5ad"},
    "pbmc68k_counts": {"path": "pbmc68k_reduced_counts.h5ad"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--atlases", nargs="+", default=list(ATLASES), choices=list(ATLASES))
    parser.add_argument("--models", nargs="+", default=list(MODEL_SETTINGS), choices=list(MODEL_SETTINGS))
    parser.add_argument("--n-factors", nargs="+", type=int, default=[10])
    parser.add_argument("--splits", type=int, default=5)
    chosen = parser.parse_args()
    if not chosen.data.is_dir():
        print(f"no folder of real cells at {chosen.data}; name it with --data")
        return
    rows = [
        row
        for name in chosen.atlases
        for split in range(chosen.splits)
        for row in scores(name, chosen.data, split, chosen.models, chosen.n_factors)
    ]
    print(summary(pd.DataFrame(rows)).to_string(index=False, float_format="%.3f"))


def scores(name: str, folder: Path, split: int, models: list[str], n_factors: list[int]) -> list[dict]:
    """Scores of all models on one split."""
    given = ATLASES[name]
    described = AtlasSettings(cell_type="cell_type", **{**given, "path": str(folder / given["path"])})
    atlas, _ = prepare_atlas(described, PreprocessSettings(seed=split), 5, name=name)
    rows = []
    for k in n_factors:
        fits = [fit(atlas, model, k, seed=split, progress=False) for model in models]
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
