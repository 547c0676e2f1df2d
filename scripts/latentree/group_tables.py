"""Which factor moves which gene set: tables over fits of models that know sets, and over their controls.

A control is the same model with the same numbers of genes in sets of random genes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd

from latentree.files import read_json
from latentree.scores import factor_names

_FIT_COLUMNS = ["model", "n_factors", "seed", "sets"]
WEIGHT_COLUMNS = [*_FIT_COLUMNS, "factor", "gene_set", "n_genes", "weight", "effect"]
SUMMARY_COLUMNS = [
    *_FIT_COLUMNS,
    "n_gene_sets",
    "n_grouped_genes",
    "pairs",
    "pairs_left",
    "r2_test",
    "log_likelihood_test",
]


def weights_table(folders: Sequence[str | Path]) -> pd.DataFrame:
    """A row per fit, factor and gene set.

    ``weight`` is the norm of what goes from the factor to the set, exactly 0 where nothing does; ``effect``
    the root mean square over the set's genes of loading times the factor's sd over the cells, which can be
    compared between sets. ``sets`` is "given" or, for a control, "permuted".
    """
    tables = [_weights(Path(folder)) for folder in folders]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=WEIGHT_COLUMNS)


def summary_table(folders: Sequence[str | Path]) -> pd.DataFrame:
    """A row per fit: pairs of set and factor, how many are left, and how well held-out cells are told."""
    return pd.DataFrame([_summary(Path(folder)) for folder in folders], columns=SUMMARY_COLUMNS)


def _weights(folder: Path) -> pd.DataFrame:
    factors, summary = _read(folder)
    model, groups = summary["model"], factors.uns["latentree"]["group_weights"]
    weight = np.asarray(groups["weight"], dtype=np.float64)
    n_sets, n_factors = weight.shape
    loadings = np.asarray(factors.varm[f"{model}_loadings"], dtype=np.float64)
    moved = (loadings * factors.obsm[f"X_{model}"].std(axis=0)) ** 2
    member = np.asarray(groups["member"])
    effect = np.sqrt([moved[member == group].mean(axis=0) for group in range(n_sets)])
    table = pd.DataFrame(
        {
            "factor": np.tile(factor_names(n_factors), n_sets),
            "gene_set": np.repeat(np.asarray(groups["gene_set"], dtype=object), n_factors),
            "n_genes": np.repeat(groups["n_genes"], n_factors),
            "weight": weight.ravel(),
            "effect": effect.ravel(),
        }
    )
    for column, value in _fit(summary).items():
        table[column] = value
    # by factor, its strongest sets first
    place = table["factor"].str.removeprefix("f").astype(int)
    order = np.lexsort((table["gene_set"], -table["effect"], place))
    return table.iloc[order][WEIGHT_COLUMNS].reset_index(drop=True)


def _summary(folder: Path) -> dict[str, Any]:
    factors, summary = _read(folder)
    groups = factors.uns["latentree"]["group_weights"]
    return {
        **_fit(summary),
        "n_gene_sets": len(groups["gene_set"]),
        "n_grouped_genes": int(np.sum(groups["n_genes"])),
        "pairs": groups["weight"].size,
        "pairs_left": int((groups["weight"] != 0).sum()),
        "r2_test": summary["r2"].get("test"),
        "log_likelihood_test": summary["log_likelihood"].get("test"),
    }


def _read(folder: Path) -> tuple[anndata.AnnData, dict[str, Any]]:
    return anndata.read_h5ad(folder / "factors.h5ad"), read_json(folder / "fit.json")


def _fit(summary: dict[str, Any]) -> dict[str, Any]:
    sets = "permuted" if summary["settings"]["permuted"] else "given"
    return {
        "model": summary["model"],
        "n_factors": summary["n_factors"],
        "seed": summary["seed"],
        "sets": sets,
    }
