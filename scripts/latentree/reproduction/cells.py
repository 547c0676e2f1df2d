"""Sparse VAE paper, cells of mouse cortex: cell types from the factors, and enriched biological processes."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd

from latentree import api
from latentree.enrichment import over_representation
from latentree.fitted import Fit
from latentree.gene_sets import match_files
from latentree.metrics import accuracy, fit_probe, majority_reference
from latentree.reproduction.averages import average
from latentree.reproduction.cell_data import prepared
from latentree.reproduction.held_out import few_epochs, rows_of
from latentree.reproduction.records import Measurement, Row, Scale
from latentree.reproduction.rows import RowMaker
from latentree.reproduction.sources import GENE_SETS, SPARSE_VAE_PAPER, ZEISEL, ZEISEL_FULL
from latentree.scores import LoadedFit

NAME = "cells"
N_FACTORS, N_TOP_GENES, N_PERMUTATIONS, ALPHA = 15, 20, 3, 0.05
PROTOCOL = f"""\
3,005 cells of mouse cortex (Zeisel et al. 2015), 15 factors, the library's defaults, five random splits.
Accuracy: logistic regression on the factors of training cells, scored on test cells (majority: the most
frequent type); the paper tells neither its classifier nor its split, and had 558 genes where the file
`{ZEISEL}` has 200 others. Processes: GO terms (human, matched by upper case) over-represented at
q < .05 among the genes of any factor, the modelled genes as background; of models without exact zeros each
factor's {N_TOP_GENES} largest loadings. Beside it the same count after the genes' names were permuted. With
the whole public file (config/zeisel.yaml tells how to get it) as `{ZEISEL_FULL}` in the data folder,
558 genes are modelled too."""

N_FULL_GENES, N_FULL_SPLITS = 558, 5
SUBSET, FULL = "200 genes", "558 genes"
ACCURACY, ENRICHED, CONTROL = "accuracy", "enriched processes", "enriched processes, genes permuted"
MODELS = ("sparse_vae", "vae", "nmf", "vsc", "oi_vae", "pca", "ica", "intel_vae")
PUBLISHED = {
    "sparse_vae": ".95 (.003)",
    "vae": ".94 (.016)",
    "nmf": ".91 (.007)",
    "vsc": ".89 (.062)",
    "oi_vae": ".80 (.019)",
}
MAJORITY = "majority"


def run(part: str, scale: Scale) -> list[Measurement]:
    """One split of the subset, or all splits of the whole file."""
    assert scale.data is not None
    if part == "full":
        file, n_genes, setting, splits = ZEISEL_FULL, N_FULL_GENES, FULL, range(N_FULL_SPLITS)
    else:
        split = int(part.removeprefix("split"))
        file, n_genes, setting, splits = ZEISEL, 200, SUBSET, range(split, split + 1)
    return [
        Measurement(NAME, setting, model, metric, split, value)
        for split in splits
        for model, metric, value in _measured(
            prepared(scale.data / file, n_genes=n_genes, split=split), scale.data / GENE_SETS, split, scale
        )
    ]


def _measured(
    atlas: anndata.AnnData, gene_sets: Path, split: int, scale: Scale
) -> Iterator[tuple[str, str, float]]:
    """Model, metric and value of every model on one split."""
    types = atlas.obs["cell_type"].to_numpy(dtype=str)
    train, test = rows_of(atlas, "train"), rows_of(atlas, "test")
    yield MAJORITY, ACCURACY, majority_reference(types[train], types[test])[0]
    sets = match_files([gene_sets], list(atlas.var_names), "mouse").sets
    for model in MODELS:
        done = api.fit(atlas, model, N_FACTORS, split, _settings(model, sets, scale), progress=False)
        probe = fit_probe(done.latents[train], types[train])
        yield model, ACCURACY, accuracy(types[test], probe.predict(done.latents[test]))
        for metric, value in enriched(done, sets, split).items():
            yield model, metric, value


def _settings(model: str, sets: Mapping[str, tuple[str, ...]], scale: Scale) -> dict[str, Any]:
    """The defaults; only oi_vae must be told its groups."""
    groups: dict[str, Any] = {"gene_sets": dict(sets)} if model == "oi_vae" else {}
    trained = model not in ("nmf", "pca", "ica")
    return {**groups, **(few_epochs(scale.quick) if trained else {})}


def enriched(done: Fit, sets: Mapping[str, tuple[str, ...]], seed: int) -> dict[str, float]:
    """Numbers of gene sets enriched in some factor, and the mean number once genes' names are permuted."""
    fit = LoadedFit.from_anndata(done.factors, done.summary)
    genes = np.array(fit.genes, dtype=object)
    active = {name: fit.active_genes(i, N_TOP_GENES) for i, name in enumerate(fit.factor_names)}

    def count(names: np.ndarray) -> int:
        table = over_representation({key: list(names[rows]) for key, rows in active.items()}, sets, fit.genes)
        return int(table.loc[table["q_value"] < ALPHA, "gene_set"].nunique())

    rng = np.random.default_rng(seed)
    permuted = [count(genes[rng.permutation(len(genes))]) for _ in range(N_PERMUTATIONS)]
    return {ENRICHED: float(count(genes)), CONTROL: float(np.mean(permuted))}


def summarise(measurements: pd.DataFrame) -> list[Row]:
    """The table of accuracies, its order, and the count of processes beside its control."""
    make = RowMaker(SPARSE_VAE_PAPER, NAME, measurements)
    rows: list[Row] = []
    for setting in make.settings():
        why = "the paper tells neither classifier nor split" + ("; 200 other genes" * (setting == SUBSET))
        for model in (*MODELS, MAJORITY):
            rows.append(
                make.value(setting, model, ACCURACY, PUBLISHED.get(model, "not told"), explanation=why)
            )
        for other in list(PUBLISHED)[1:]:
            published = f"above 0 ({PUBLISHED['sparse_vae']} - {PUBLISHED[other]})"
            rows += make.difference(setting, ACCURACY, "sparse_vae", other, above=True, published=published)
        for model in MODELS:
            shown = "39" if model == "sparse_vae" else "not told"
            rows.append(
                make.value(setting, model, ENRICHED, shown, explanation="test and gene sets not told")
            )
            rows.append(make.value(setting, model, CONTROL, "not told"))
        rows += [_beyond_control(make, setting, model) for model in MODELS]
    return rows


def _beyond_control(make: RowMaker, setting: str, model: str) -> Row:
    """More processes than with permuted genes."""
    its = make.measurements[(make.measurements["setting"] == setting) & (make.measurements["model"] == model)]
    real, control = (
        its[its["metric"] == metric].set_index("seed")["value"] for metric in (ENRICHED, CONTROL)
    )
    beyond = average(real - control)
    why = "no more processes than genes with permuted names give"
    return make.verdict(
        f"{setting}: {model}",
        "enriched - permuted",
        "above 0 (implied)",
        beyond,
        beyond.clearly_positive,
        why,
    )
