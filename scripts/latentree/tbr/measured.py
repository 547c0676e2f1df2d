"""One estimator on a measured phenotype: what changes where, how surely, and which genes drive it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd

from latentree.errors import InputError
from latentree.metrics.mcc import mcc
from latentree.seeds import derive_seed
from latentree.settings import TBRSettings
from latentree.tbr.attribution import gene_shares, gene_table
from latentree.tbr.bootstrap import Intervals, bootstrap_changes
from latentree.tbr.estimators import Estimator, TBRFit, fit_tbr
from latentree.tbr.identifiability_rows import identifiability_rows
from latentree.tbr.measured_inputs import MeasuredInputs, measured_inputs, takes_denoised
from latentree.tbr.measured_scores import scores, type_means
from latentree.tbr.measured_tables import change_rows, weight_rows
from latentree.tbr.study import COLUMNS
from latentree.tbr_config import TBRConfig
from latentree.tbr_phenotype import (
    MeasuredPhenotype,
    by_cell_type,
    cautions,
    donors_by_value,
    measured_phenotype,
)
from latentree.tree import Tree

if TYPE_CHECKING:
    from anndata import AnnData

N_GENES = 50
"""Genes listed for each latent."""
_ATTRIBUTED_CELLS = 2000
_LATENT_SOURCE = "found by the fit"


@dataclass(frozen=True)
class MeasuredResult:
    """What one estimator found, over all seeds; the tables' columns are in docs/outputs.md.

    ``scores``: rows of tables/tbr.tsv; ``changes``, ``genes`` and ``identifiability`` of the tables of
    these names; ``weights``: environment, latent, weight, seed; ``latents``: AnnData of the cells that
    have a phenotype (obs["tbr_phenotype"]), one obsm ``X_tbr_seed<s>`` for each seed.
    """

    scores: pd.DataFrame
    changes: pd.DataFrame
    genes: pd.DataFrame
    identifiability: pd.DataFrame
    weights: pd.DataFrame
    latents: ad.AnnData


@dataclass(frozen=True)
class _Cells:
    """The cells that have a phenotype, ready to fit: row numbers are among them."""

    phenotype: MeasuredPhenotype
    inputs: MeasuredInputs
    environments: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @property
    def binary(self) -> bool:
        return self.phenotype.kind == "binary"


def run_measured(
    cells: "AnnData",
    tree: Tree,
    settings: TBRConfig,
    seeds: Sequence[int],
    estimator: Estimator,
    threads: int = 1,
    regulators: str | Path | None = None,
) -> MeasuredResult:
    """Fit one estimator to a measured phenotype once per seed.

    Parameters
    ----------
    cells
        Dense X (n_cells, n_genes) on log scale, obs["cell_type"], obs["split"] and the phenotype's column.
    tree
        Tree whose nodes include every cell type.
    settings
        The config's tbr key; phenotype.column must be given.
    seeds
        Each seed starts the network anew; data and split stay.
    regulators
        Where the file of regulators is, if not where the settings say.

    Raises
    ------
    InputError
        The phenotype cannot be used, or too few cells have one.
    """
    ready = _ready(cells, settings, regulators)
    said = _cautions(cells, settings, ready)
    parts: dict[str, list[pd.DataFrame]] = {
        name: [] for name in ("scores", "changes", "genes", "known", "weights")
    }
    latents = ad.AnnData(obs=_kept_obs(cells, ready.phenotype))
    first: np.ndarray | None = None
    for seed in seeds:
        fit = _fitted(ready, tree, settings, estimator, seed, threads)
        baseline = (
            fit if estimator == "baseline" else _fitted(ready, tree, settings, "baseline", seed, threads)
        )
        z = fit.latents(ready.inputs.X)
        found = _scores(fit, baseline, ready)
        if first is None:
            first = z
        elif first.shape == z.shape:
            found["latents_agreement"] = mcc(first[ready.test], z[ready.test])
        marks = {"estimator": estimator, "seed": seed}
        intervals = _intervals(fit, z, ready, settings, seed)
        parts["scores"].append(_score_rows(found, fit, ready, marks))
        parts["changes"].append(change_rows(fit, intervals, set(ready.environments.tolist()), marks))
        parts["genes"].append(_genes(fit, ready, settings).assign(**marks))
        parts["known"].append(identifiability_rows(fit, [*said, *_fit_cautions(fit, intervals)], marks))
        parts["weights"].append(weight_rows(fit, marks))
        latents.obsm[f"X_tbr_seed{seed}"] = z
    tables = {name: pd.concat(rows, ignore_index=True) for name, rows in parts.items()}
    genes = tables["genes"][["estimator", "seed", "latent", "gene", "weight", "importance", "rank"]]
    return MeasuredResult(
        tables["scores"][COLUMNS], tables["changes"], genes, tables["known"], tables["weights"], latents
    )


def _ready(cells: "AnnData", settings: TBRConfig, regulators: str | Path | None) -> _Cells:
    phenotype = measured_phenotype(cells.obs, settings.phenotype)
    if "split" not in cells.obs:
        raise InputError("cells", "no obs column 'split'", "Give the cells of the environments stage")
    kept = cells[phenotype.rows]
    split = kept.obs["split"].astype(str).to_numpy()
    sides = [np.flatnonzero(split == side) for side in ("train", "validation", "test")]
    train, _, test = sides
    if len(train) < 2 or len(test) < 2:
        raise InputError(
            "tbr.phenotype.column",
            f"{len(train)} training and {len(test)} test cells have a value of {phenotype.column!r}",
            "Name a column that more cells have, or raise environments.max_cells_per_type",
        )
    if phenotype.y[train].std() == 0:
        raise InputError(
            "tbr.phenotype.column",
            f"{phenotype.column!r} is constant over the {len(train)} training cells",
            "Name a column that varies between cells, or split the cells otherwise (split_by)",
        )
    environments = kept.obs["cell_type"].astype(str).to_numpy(dtype=object)
    return _Cells(phenotype, measured_inputs(kept, settings, train, regulators), environments, *sides)


def _fitted(
    ready: _Cells, tree: Tree, settings: TBRConfig, estimator: Estimator, seed: int, threads: int
) -> TBRFit:
    return fit_tbr(
        ready.inputs.X,
        ready.phenotype.y,
        ready.environments,
        tree,
        n_latents=settings.n_latents,
        estimator=estimator,
        seed=seed,
        settings=TBRSettings(**settings.model_dump(include=set(TBRSettings.model_fields))),
        threads=threads,
        train=ready.train,
        validation=ready.validation,
    )


def _scores(fit: TBRFit, baseline: TBRFit, ready: _Cells) -> dict[str, float]:
    """Metrics on the test cells: the fit's, the baseline's, and what types and a constant give."""
    test, y = ready.test, ready.phenotype.y
    X, environments = ready.inputs.X[test], ready.environments[test]
    predictions = {
        "": fit.predict(X, environments),
        "_baseline": baseline.predict(X, environments),
        "_types": type_means(y, ready.environments, ready.train, ready.binary)[test],
        "_constant": np.full(len(test), y[ready.train].mean()),
    }
    return scores(y[test], predictions, binary=ready.binary) | {
        "n_changes_found": float((fit.changes.to_numpy() != 0).sum()),
        "weights_rank": float(fit.rank),
        "n_environments": float(len(fit.weights)),
        "n_inputs": float(ready.inputs.X.shape[1]),
        "n_train_cells": float(len(ready.train)),
        "n_test_cells": float(len(test)),
    }


def _score_rows(
    found: Mapping[str, float], fit: TBRFit, ready: _Cells, marks: Mapping[str, Any]
) -> pd.DataFrame:
    table = pd.DataFrame({"metric": list(found), "value": list(found.values())})
    return table.assign(
        **marks,
        phenotype=ready.phenotype.description,
        n_latents=fit.weights.shape[1],
        n_changes="",
        latent_source=_LATENT_SOURCE,
        input_source=ready.inputs.source,
        note="; ".join(text for text in (*ready.phenotype.notes, ready.inputs.note) if text),
    )


def _intervals(fit: TBRFit, z: np.ndarray, ready: _Cells, settings: TBRConfig, seed: int) -> Intervals | None:
    """Bootstrap intervals of the changes; None for the baseline, which has none, and where not asked for."""
    if fit.estimator == "baseline" or settings.phenotype.n_bootstrap < 2:
        return None
    train, donors = ready.train, ready.phenotype.donors
    if donors is not None:
        groups = donors_by_value(ready.phenotype.y[train], donors[train], ready.phenotype.kind)
        if min(len(group) for group in groups) < 2:
            donors = None  # cautions say so
    return bootstrap_changes(
        fit,
        z[train],
        ready.phenotype.y[train],
        ready.environments[train],
        donors=None if donors is None else donors[train],
        binary=ready.binary,
        n_replicates=settings.phenotype.n_bootstrap,
        seed=derive_seed(seed, "tbr", "bootstrap"),
    )


def _genes(fit: TBRFit, ready: _Cells, settings: TBRConfig) -> pd.DataFrame:
    """Genes of each latent over the training cells.

    Seen from the mean cell of a cell's own type where each type has its own intercept, because what
    tells types apart is no effect then; else from the mean cell.
    """
    rng = np.random.default_rng(0)
    rows = ready.train
    if len(rows) > _ATTRIBUTED_CELLS:
        rows = np.sort(rng.choice(rows, _ATTRIBUTED_CELLS, replace=False))
    genes = ready.inputs.genes[rows].astype(np.float64)
    reference = np.broadcast_to(genes.mean(axis=0), genes.shape)
    if settings.intercept == "environment":
        types = ready.environments[rows]
        reference = pd.DataFrame(genes).groupby(types).transform("mean").to_numpy()
    shares = gene_shares(fit.phi, ready.inputs.X[rows], genes, reference, ready.inputs.axes)
    return gene_table(shares, list(ready.inputs.names), list(fit.weights.columns), N_GENES)


def _cautions(cells: "AnnData", settings: TBRConfig, ready: _Cells) -> list[str]:
    said = cautions(ready.phenotype, by_cell_type(ready.phenotype, cells.obs), cells.obs)
    known = cells.uns.get("latentree", {})
    if takes_denoised(settings):
        said.append(
            "Inputs are denoised: a cell's values are averages over its neighbours, so cells are not"
            " independent"
            " and intervals over cells are too narrow"
        )
        if bool(known.get("leaky", False)):
            said.append("leaky: the MAGIC graph saw held-out cells")
    return said


def _fit_cautions(fit: TBRFit, intervals: Intervals | None) -> list[str]:
    """The fit's own warnings, and what its intervals leave out."""
    said = list(fit.identifiability.warnings)
    if intervals is not None:
        said.append(
            f"Intervals are over {intervals.n_units:,} {intervals.unit} ({intervals.n_replicates} draws);"
            " the latents"
            " stay as they are, so what another network would have found is not in them"
        )
        if np.isinf(fit.penalty):
            said.append(
                "The validation cells chose no change at all, and no draw allows any: intervals of 0 to 0 do"
                " not say that effects are equal"
            )
    return said


def _kept_obs(cells: "AnnData", phenotype: MeasuredPhenotype) -> pd.DataFrame:
    obs = cells.obs.iloc[phenotype.rows][["cell_type", "split"]].copy()
    obs["tbr_phenotype"] = phenotype.y
    return obs
