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
GENES = (
    "<i>G0</i>",
    "HLA-DRA",
    "MT-CO1",
    "{{ 7 * 7 }}",
    *(f"GENE{i}" for i in range(4, 38)),
    "=1+1",
    "</script><b>'\"",
)
SETS = (
    "GO: response to <img src=x onerror=alert(1)>",
    "T cell receptor signaling; part 2",
    "Interferon &amp;",
)
ENRICHMENT_NOTES = ("sets.gmt: symbols were mapped by <upper> case", "3 of the 5 gene sets are tested")
MODELS = ("sparse_vae", "pca", "nmf")
K = 4
CONSENSUS = "consensus"


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
    loadings[-2:, 0] = 1.5, -1.4  # the names that break most
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
    """tables/genes.tsv from the loadings of make_factors, which are those of the consensus, too."""
    rows = []
    for model in MODELS:
        factors = make_factors(model)
        loadings = factors.varm[f"{model}_loadings"]
        inclusion = 1.0 if model == "sparse_vae" else np.nan
        for seed in (*seeds, CONSENSUS):
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
            "GENE4;GENE\\;5;HLA-DRA;<i>G0</i>;GENE6",
            np.nan,
            "both",
            "",
        )
        for model in MODELS
        for seed in (*seeds, CONSENSUS)
        for factor, sets in {"f1": [(SETS[0], 1e-5), (SETS[1], 0.03)], "f2": [(SETS[2], 0.4)]}.items()
        for name, q in sets
    ]
    columns += " p_value q_value genes nes direction like"
    return pd.DataFrame([] if empty else rows, columns=columns.split())


def make_enrichment_summary(seeds: tuple[int, ...], n_enriched: int = 2) -> pd.DataFrame:
    """tables/enrichment_summary.tsv: permuted genes give .1 sets in the mean and 1 at most."""
    rows = [
        (model, K, seed, method, 3, 3, n_enriched, n_enriched, 0.1, 1, 20, n_enriched / 1.1)
        for model in MODELS
        for seed in (*seeds, CONSENSUS)
        for method in ("ora", "gsea")
    ]
    columns = "model n_factors seed method n_factors_tested n_sets_tested n_enriched n_pairs_enriched"
    columns += " control_mean control_max n_permutations ratio"
    return pd.DataFrame(rows, columns=columns.split())


def make_usage(seeds: tuple[int, ...]) -> pd.DataFrame:
    """tables/usage.tsv: factor f1 tells the first cell type from the others, f2 the second, and so on."""
    rows = [
        (model, K, seed, f"f{j + 1}", name, 20, 1.5 - 0.5 * abs(i - j), 0.9 if i == j else 0.1, level)
        for model in MODELS
        for seed in (*seeds, CONSENSUS)
        for j in range(K - 1)
        for i, name in enumerate(CELL_TYPES)
        for level in [0.95 - 0.01 * j if i == j else 0.5 - 0.02 * i]
    ]
    columns = "model n_factors seed factor cell_type n_cells mean_usage share_using specificity"
    return pd.DataFrame(rows, columns=columns.split())


def make_conditions(n_samples: int = 4, effect: float = 1.0) -> pd.DataFrame:
    """tables/conditions.tsv: f2 differs over all types and in the first of them; one sample: no test."""
    test = "welch" if n_samples > 1 else "none"
    note = "" if n_samples > 3 else f"few samples ({n_samples} and {n_samples}): only large effects"
    if n_samples < 2:
        note = "refused, fewer than two samples a side with 10 cells (1 and 1)"
    rows = []
    for model in MODELS:
        for j in range(K - 1):
            for name in ("all", CELL_TYPES[0]):
                size = effect if j == 1 else 0.1
                q = (0.001 if j == 1 and effect else 0.7) if n_samples > 1 else np.nan
                limits = (size - 0.5, size + 0.5) if n_samples > 1 else (np.nan, np.nan)
                counts = (n_samples, n_samples, 50, 60)
                names = (model, K, CONSENSUS, f"f{j + 1}", name, "stim", "ctrl")
                rows.append((*names, size, *limits, test, *counts, q / 10, q, note))
    columns = "model n_factors seed factor cell_type condition reference effect lower upper test n_samples"
    columns += " n_samples_reference n_cells n_cells_reference p_value q_value note"
    return pd.DataFrame(rows, columns=columns.split())


def make_consensus(seeds: tuple[int, ...]) -> pd.DataFrame:
    """tables/consensus.tsv: f1 and f2 stable, f3 not, f4 dead; NMF has a group that finds no place.

    With one seed nothing is known between seeds.
    """
    n_seeds = len(seeds)
    rows = []
    for model in MODELS:
        note = "the seeds agree by construction, which says nothing" if model == "pca" else ""
        for j, halves in enumerate((0.95, 0.8, 0.3)):
            strength, half = (0.97, 0.96) if n_seeds > 1 else (np.nan, np.nan)
            stable = "no" if halves < 0.71 else "yes" if n_seeds > 1 else "unknown"
            members = ";".join(f"{seed}:f{(j + place) % 3 + 1}" for place, seed in enumerate(seeds))
            numbers = (strength, strength - 0.01, n_seeds, n_seeds, half, 0.13, 0.6, halves)
            rows.append((model, K, f"f{j + 1}", *numbers, stable, note, members))
        if model == "nmf" and n_seeds > 1:
            numbers = (np.nan, np.nan, 1, n_seeds, 0.0, 0.13, 0.6, 0.0)
            rows.append((model, K, "x1", *numbers, "no", "beyond n_factors: f3 of seed 1", "1:f3"))
        overall = (0.97, 0.96, n_seeds, n_seeds, 0.96, 0.13, 0.55, 0.68)
        rows.append((model, K, "all", *overall, "", "; ".join(filter(None, ("2 of 3 are stable", note))), ""))
    columns = "model n_factors factor stability_mean stability_lowest seeds_found n_seeds half_agreement"
    columns += " chance_95 pca_reference halves_of_cells stable note members"
    return pd.DataFrame(rows, columns=columns.split())


def make_n_factors(recommended: bool = False) -> pd.DataFrame:
    """tables/n_factors.tsv: one number of factors, or the fixture's beside one more."""
    numbers = (0.01, 0.5, 0.8, 0.6, 0.96, 3, 2, 0.5)
    rows = [
        (model, k, 3, "r2 (validation)", k / 10, *numbers, advice, "")
        for model in MODELS
        for k, advice in ([(K, "yes"), (K + 1, "no")] if recommended else [(K, "")])
    ]
    columns = "model n_factors n_seeds fit_metric held_out_mean held_out_sd score stability_halves"
    columns += " reference_halves stability_seeds alive_factors stable_factors enriched_share"
    columns += " recommended note"
    return pd.DataFrame(rows, columns=columns.split())


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


def make_config(
    seeds: tuple[int, ...], tbr: bool, gene_sets: bool = True, condition: str | None = None
) -> dict[str, Any]:
    """A resolved config, cut to what the page shows."""
    config: dict[str, Any] = {
        "atlases": {
            "pbmc": {
                "path": "builtin:pbmc68k_reduced",
                "cell_type": "bulk_labels",
                "organism": "human",
                "gene_sets": ["sets.gmt"] if gene_sets else [],
                "condition": condition,
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
        "enrichment_summary": make_enrichment_summary(seeds),
        "usage": make_usage(seeds),
        "conditions": make_conditions(),
        "consensus": make_consensus(seeds),
        "n_factors": make_n_factors(),
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
