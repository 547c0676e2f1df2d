"""A small results folder of one atlas (docs/outputs.md), with names that break careless pages."""

from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from latentree.files import write_json, write_table
from latentree.plots.curves import draw_training
from latentree.plots.embedding import draw_embedding
from latentree.plots.loadings import draw_loadings
from latentree.plots.scores import draw_scores, draw_stability
from latentree.plots.tbr import draw_tbr

ATTACK = "<script>alert(1)</script>"
CELL_TYPES = ("CD4+/CD25 T Reg", "a;b", ATTACK, "$x_1$ & co", "_hidden", "B'\"cells", "NA")
GENES = ("<i>G0</i>", "HLA-DRA", "MT-CO1", "{{ 7 * 7 }}", *(f"GENE{i}" for i in range(4, 40)))
SETS = (
    "GO: response to <img src=x onerror=alert(1)>",
    "T cell receptor signaling; part 2",
    "Interferon &amp;",
)
ENRICHMENT_NOTES = ("sets.gmt: symbols were mapped by <upper> case", "3 of the 5 gene sets are tested")
MODELS = ("sparse_vae", "pca", "nmf")
K = 4


def make_factors(
    model: str = "sparse_vae",
    n_factors: int = K,
    n_cells: int = 140,
    cell_types: tuple[str, ...] = CELL_TYPES,
) -> ad.AnnData:
    """A fit's factors.h5ad in memory: cell types apart in the latents, the last factor dead."""
    rng = np.random.default_rng(0)
    codes = np.arange(n_cells) % len(cell_types)
    centres = 4 * rng.standard_normal((len(cell_types), n_factors))
    latents = (centres[codes] + rng.standard_normal((n_cells, n_factors))).astype(np.float32)
    loadings = rng.standard_normal((len(GENES), n_factors)).astype(np.float32)
    loadings[np.abs(loadings) < 0.8] = 0
    alive = np.ones(n_factors, dtype=bool)
    if n_factors > 1:
        latents[:, -1], loadings[:, -1], alive[-1] = 0, 0, False
    factors = ad.AnnData(
        obs=pd.DataFrame(
            {"cell_type": pd.Categorical.from_codes(codes, list(cell_types)), "split": "test"},
            index=[f"cell{i}" for i in range(n_cells)],
        ),
        var=pd.DataFrame(index=list(GENES)),
    )
    factors.obsm[f"X_{model}"] = latents
    factors.varm[f"{model}_loadings"] = loadings
    factors.uns["latentree"] = {"model": model, "factors": pd.DataFrame({"alive": alive})}
    return factors


def make_metrics(seeds: tuple[int, ...], best: float = 0.9) -> pd.DataFrame:
    """tables/metrics.tsv: the models, and majority and chance below them."""
    middle = {"sparse_vae": best, "pca": 0.8, "nmf": 0.75}
    rows: list[tuple[Any, ...]] = []
    for model in MODELS:
        for seed in seeds:
            value = middle[model] + (0 if model == "pca" else 0.004 * seed)
            scores = {
                "accuracy": value,
                "balanced_accuracy": value - 0.05,
                "ari": 0.5,
                "nmi": 0.6,
                "hoyer": 0.7,
                "r2": 0.31,
                "zeros": 0.4,
                "alive_factors": 3,
            }
            for metric, score in scores.items():
                split = "none" if metric in ("hoyer", "zeros", "alive_factors") else "test"
                rows.append(("pbmc", model, K, seed, metric, split, score))
    for model, score in (("majority", 0.3), ("chance", 0.2)):
        for metric in ("accuracy", "balanced_accuracy"):
            rows.append(("pbmc", model, 0, "none", metric, "test", score))
    return pd.DataFrame(rows, columns=["atlas", "model", "n_factors", "seed", "metric", "split", "value"])


def make_genes(seeds: tuple[int, ...]) -> pd.DataFrame:
    """tables/genes.tsv from the loadings of make_factors."""
    rows = []
    for model in MODELS:
        factors = make_factors(model)
        loadings = factors.varm[f"{model}_loadings"]
        inclusion = 1.0 if model == "sparse_vae" else np.nan
        for seed in seeds:
            for j in range(K):
                for i in np.flatnonzero(loadings[:, j]):
                    rows.append((model, K, seed, f"f{j + 1}", GENES[i], loadings[i, j], inclusion))
    return pd.DataFrame(
        rows, columns=["model", "n_factors", "seed", "factor", "gene", "loading", "inclusion"]
    )


def make_enrichment(seeds: tuple[int, ...], empty: bool = False) -> pd.DataFrame:
    """tables/enrichment.tsv: f1 has sets at q < .05, f2 only worse ones, the others none."""
    columns = "model n_factors seed factor method gene_set n_overlap n_set n_background odds_ratio"
    rows = [
        (
            model,
            K,
            seed,
            factor,
            "ora",
            name,
            5,
            12,
            40,
            3.5,
            q / 10,
            q,
            "GENE4;GENE5;HLA-DRA;<i>G0</i>;GENE6",
            np.nan,
            "both",
            "",
        )
        for model in MODELS
        for seed in seeds
        for factor, sets in {"f1": [(SETS[0], 1e-5), (SETS[1], 0.03)], "f2": [(SETS[2], 0.4)]}.items()
        for name, q in sets
    ]
    columns += " p_value q_value genes nes direction like"
    return pd.DataFrame([] if empty else rows, columns=columns.split())


def make_stability(seeds: tuple[int, ...], refits: bool = True) -> pd.DataFrame:
    """tables/stability.tsv: PCA repeats exactly between seeds, the Sparse VAE comes back from other cells.

    Without refits and with one seed only a header.
    """
    columns = "model n_factors comparison factor agreement n_pairs reference_seed note"
    levels = {
        "seeds": {"sparse_vae": 0.98, "pca": 1.0, "nmf": 0.7} if len(seeds) > 1 else {},
        "halves": {"sparse_vae": 0.8, "pca": 0.55, "nmf": 0.5, "varimax": 0.6} if refits else {},
        "resamples": {"sparse_vae": 0.9, "pca": 0.7, "nmf": 0.65, "varimax": 0.8} if refits else {},
    }
    rows = [
        (model, K, comparison, factor, level + shift, 1, "none" if model == "varimax" else seeds[0], "")
        for comparison, by_model in levels.items()
        for model, level in by_model.items()
        for factor, shift in {"f1": -0.02, "f2": 0.0, "f3": 0.02, "all": 0.0}.items()
    ]
    table = pd.DataFrame(rows, columns=columns.split())
    table["agreement"] = table["agreement"].clip(upper=1.0)
    table.loc[table["comparison"] == "halves", "note"] = "halves: disjoint halves of whole donors"
    return table.sort_values(["model", "n_factors", "comparison"], kind="stable")


def make_tbr(mcc: float = 0.5) -> pd.DataFrame:
    """tables/tbr.tsv: three estimators, one and no change per branch, two seeds."""
    level = {"baseline": 0.4, "joint": mcc - 0.03, "two_stage": mcc}
    rows = []
    for estimator, value in level.items():
        for changes in (0, 1):
            for seed in (0, 1):
                scores = {
                    "mcc": value + 0.01 * seed,
                    "mcc_chance": 0.825,
                    "mcc_chance_95": 0.961,
                    "span_r2": 0.6,
                    "nmse": 0.5 if estimator == "baseline" else 0.1,
                    "nmse_floor": 0.02,
                    "nmse_baseline": 0.5,
                }
                rows += [
                    (estimator, "simulated", 3, changes, seed, metric, score, "genes", "regulators", "")
                    for metric, score in scores.items()
                ]
    columns = "estimator phenotype n_latents n_changes seed metric value latent_source input_source note"
    return pd.DataFrame(rows, columns=columns.split())


QC = {
    "atlas": "pbmc",
    "path": "builtin:pbmc68k_reduced",
    "organism": "human",
    "matrix": {
        "chosen": "raw.X",
        "values": "log",
        "looked_at": [
            {"name": "raw.X", "n_negative": 0, "looks_like": "values as small as logarithms"},
            {"name": "X", "n_negative": 397164, "looks_like": "unusable: negative values"},
        ],
    },
    "genes": {"n_found": 45, "dropped": {"seen in fewer than 3 cells": 5}, "n_kept": 40},
    "cells": {"n_found": 145, "dropped": {"cell type <b>rare</b>": 5}, "n_kept": 140},
    "dropped_cell_types": [{"cell_type": "<b>rare</b>", "n_cells": 5, "why": "fewer than 10 cells"}],
    "scale": {"x": "as_found", "library_size_from": None},
    "cell_types": [{"cell_type": name, "n_cells": 20, "train": 16, "test": 4} for name in CELL_TYPES],
    "split": {
        "method": "cells, stratified by cell type",
        "n_cells": {"train": 98, "validation": 14, "test": 28},
        "donors": None,
    },
    "gene_selection": {"method": "all", "n_modelled": 40},
    "notes": ["Gene names made unique: 2 (<i>).", "The atlas has no counts."],
}


def make_config(seeds: tuple[int, ...], tbr: bool, gene_sets: bool = True) -> dict[str, Any]:
    """A resolved config, cut to what the page shows."""
    config: dict[str, Any] = {
        "atlases": {
            "pbmc": {
                "path": "builtin:pbmc68k_reduced",
                "cell_type": "bulk_labels",
                "organism": "human",
                "gene_sets": ["sets.gmt"] if gene_sets else [],
            }
        },
        "seeds": list(seeds),
        "models": {
            "sparse_vae": {"n_factors": [K], "start": "varimax", "recipe": "robust"},
            "vae": None,
            "nmf": {"n_factors": [K]},
            "pca": {"n_factors": [K]},
        },
        "downstream": {"min_set_size": 5},
    }
    return config | {"tbr": {"n_latents": 3} if tbr else None}


def write_results(
    folder: Path,
    *,
    seeds: tuple[int, ...] = (0, 1, 2),
    tbr: bool = True,
    enrichment: bool = True,
    figures: bool = True,
    accuracy: float = 0.9,
) -> Path:
    """Write the folder of one atlas and return it."""
    tables = {
        "metrics": make_metrics(seeds, accuracy),
        "genes": make_genes(seeds),
        "enrichment": make_enrichment(seeds, empty=not enrichment),
        "stability": make_stability(seeds),
    } | ({"tbr": make_tbr()} if tbr else {})
    for name, table in tables.items():
        write_table(table, folder / "tables" / f"{name}.tsv")
    write_json(QC, folder / "qc.json")
    write_json(list(ENRICHMENT_NOTES), folder / "tables" / "enrichment_notes.json")
    for model in MODELS:
        for seed in seeds:
            write_json(
                {"model": model, "seed": seed, "r2": {"test": 0.31}, "versions": {"scipy": "1.17.1"}},
                folder / "fits" / model / f"k{K}" / f"seed{seed}" / "fit.json",
            )
    if figures:
        _write_figures(folder / "figures", tables)
    return folder


def _write_figures(folder: Path, tables: dict[str, pd.DataFrame]) -> None:
    # of one model only, to spare time: the page shows the pictures that there are
    draw_embedding(make_factors(), "sparse_vae", folder / f"embedding_sparse_vae_k{K}.svg")
    draw_loadings(make_factors(), "sparse_vae", folder / f"loadings_sparse_vae_k{K}.svg")
    history = pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "reconstruction": [9.0, 5.0, 4.0],
            "kl": [0.0, 1.0, 1.5],
            "validation_loss": [8.0, 6.0, 6.5],
        }
    )
    draw_training(history, folder / f"training_sparse_vae_k{K}.svg")
    draw_scores(tables["metrics"], folder / "scores.svg")
    draw_stability(tables["stability"], folder / "stability.svg")
    if "tbr" in tables:
        draw_tbr(tables["tbr"], folder / "tbr.svg")
