"""The paper's protocol on real cells: a phenotype simulated from latent genes, one estimator, its scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeCV

from latentree.errors import InputError
from latentree.metrics.mcc import matching, mcc, mcc_chance
from latentree.metrics.span_r2 import span_r2
from latentree.seeds import derive_seed
from latentree.settings import TBRSettings
from latentree.simulate import node_weights, sparse_changes
from latentree.tbr.estimators import Estimator, TBRFit, fit_tbr
from latentree.tbr_config import TBRConfig
from latentree.tbr_variables import Variables, choose_variables, training_rows
from latentree.tree import Tree

if TYPE_CHECKING:
    from anndata import AnnData

COLUMNS = [
    "estimator",
    "phenotype",
    "n_latents",
    "n_changes",
    "seed",
    "metric",
    "value",
    "latent_source",
    "input_source",
    "note",
]
_RIDGE_PENALTIES = np.logspace(-4, 4, 17)


@dataclass(frozen=True)
class Phenotype:
    """A simulated phenotype ``y = w_e . Z + noise``.

    ``y`` and ``signal`` (without the noise) are (n_cells,), ``weights`` (n_cells, n_latents) each cell's.
    """

    y: np.ndarray
    signal: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class StudyResult:
    """What one estimator found.

    ``scores``: rows of tables/tbr.tsv. ``weights``: environment, latent, gene, weight, seed, n_changes.
    ``changes``: branch, latent, gene, change, seed, n_changes. ``gene`` is the true latent matched to
    an estimated one. ``latents``: AnnData of all cells, one obsm ``X_tbr_seed<s>_changes<k>`` for each fit.
    """

    scores: pd.DataFrame
    weights: pd.DataFrame
    changes: pd.DataFrame
    latents: ad.AnnData


def simulate_phenotype(
    Z: np.ndarray, environments: np.ndarray, tree: Tree, n_changes: int, noise: float, seed: int
) -> Phenotype:
    """Simulate a phenotype whose effects change on every branch of the tree.

    Parameters
    ----------
    Z
        (n_cells, n_latents), standardised.
    environments
        (n_cells,) node names.
    n_changes
        Latents whose effect changes on each branch, by N(0, 1); the root's effects are N(0, 1).
    noise
        Standard deviation of the noise.
    """
    rng = np.random.default_rng(seed)
    n_latents = Z.shape[1]
    changes = sparse_changes(tree.n_nodes - 1, n_latents, rng, n_changes=n_changes)
    weights = node_weights(tree, rng.normal(size=(n_latents,)), changes)
    mine = weights[[tree.index[name] for name in environments]]
    signal = (mine * Z).sum(axis=1)
    return Phenotype(signal + noise * rng.normal(size=len(Z)), signal, mine)


def run_study(
    cells: "AnnData",
    tree: Tree,
    settings: TBRConfig,
    seeds: Sequence[int],
    estimator: Estimator,
    threads: int = 1,
    regulators: str | Path | None = None,
) -> StudyResult:
    """Fit one estimator to every phenotype (seed, number of changes) and score it on test cells.

    The phenotypes do not depend on the estimator, so that estimators are compared on the same ones.

    Parameters
    ----------
    cells
        environments/cells.h5ad: dense denoised X, obs["cell_type"], obs["split"].
    tree
        Tree whose nodes include every cell type.
    settings
        The config's tbr key.
    regulators
        Where the file of regulators is, if not where the settings say.
    """
    environments = cells.obs["cell_type"].astype(str).to_numpy(dtype=object)
    rows = _Rows.of(cells)
    leaky = bool(cells.uns.get("latentree", {}).get("leaky", False))
    scores, weights, changes = [], [], []
    latents = ad.AnnData(obs=cells.obs[[c for c in ("cell_type", "split") if c in cells.obs]].copy())
    for seed in seeds:
        variables = choose_variables(cells, settings, seed, regulators)
        for n_changes in settings.phenotype.n_changes:
            phenotype = simulate_phenotype(
                variables.Z,
                environments,
                tree,
                n_changes,
                settings.phenotype.noise,
                derive_seed(seed, "tbr", "phenotype", n_changes),
            )

            def fitted(
                name: Estimator, v: Variables = variables, p: Phenotype = phenotype, s: int = seed
            ) -> TBRFit:
                return _fitted(v, p, environments, tree, settings, rows, name, s, threads)

            fit = fitted(estimator)
            found = _scores(fit, fitted, variables, phenotype, environments, rows)
            note = "; ".join(
                text
                for text in (
                    variables.note,
                    "leaky: the MAGIC graph saw held-out cells" if leaky else "",
                    "no effect changes: the true weights have rank 1 and MCC means nothing"
                    if n_changes == 0
                    else "",
                )
                if text
            )
            scores += [
                {
                    "estimator": estimator,
                    "phenotype": settings.phenotype.kind,
                    "n_latents": settings.n_latents,
                    "n_changes": n_changes,
                    "seed": seed,
                    "metric": metric,
                    "value": value,
                    "latent_source": f"{variables.latent_source}: {', '.join(variables.latents)}",
                    "input_source": variables.input_source,
                    "note": note,
                }
                for metric, value in found.items()
            ]
            z = fit.latents(variables.X)
            latents.obsm[f"X_tbr_seed{seed}_changes{n_changes}"] = z
            genes = _matched_genes(variables, z, rows.test)
            marks = {"seed": seed, "n_changes": n_changes}
            weights.append(_long(fit.weights, "environment", "weight", genes).assign(**marks))
            changes.append(_long(fit.changes, "branch", "change", genes).assign(**marks))
    return StudyResult(
        pd.DataFrame(scores, columns=COLUMNS),
        pd.concat(weights, ignore_index=True),
        pd.concat(changes, ignore_index=True),
        latents,
    )


@dataclass(frozen=True)
class _Rows:
    """Rows to fit, to choose by and to score on."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @classmethod
    def of(cls, cells: "AnnData") -> "_Rows":
        if "split" not in cells.obs:
            raise InputError("cells", "no obs column 'split'", "Give the cells of the environments stage")
        split = cells.obs["split"].to_numpy()
        rows = cls(
            training_rows(cells), np.flatnonzero(split == "validation"), np.flatnonzero(split == "test")
        )
        if len(rows.test) < 2 or len(rows.train) < 2:
            raise InputError(
                "cells",
                f"{len(rows.train)} training and {len(rows.test)} test cells",
                "Raise environments.max_cells_per_type, so that both have at least 2",
            )
        return rows


def _fitted(
    variables: Variables,
    phenotype: Phenotype,
    environments: np.ndarray,
    tree: Tree,
    settings: TBRConfig,
    rows: _Rows,
    estimator: Estimator,
    seed: int,
    threads: int,
) -> TBRFit:
    return fit_tbr(
        variables.X,
        phenotype.y,
        environments,
        tree,
        n_latents=settings.n_drawn_latents,
        estimator=estimator,
        seed=seed,
        settings=TBRSettings(**settings.model_dump(include=set(TBRSettings.model_fields))),
        threads=threads,
        train=rows.train,
        validation=rows.validation,
    )


def _scores(
    fit: TBRFit,
    fitted: Callable[[Estimator], TBRFit],
    variables: Variables,
    phenotype: Phenotype,
    environments: np.ndarray,
    rows: _Rows,
) -> dict[str, float]:
    """Metrics on the test cells, each with the reference it needs to mean anything."""
    test = rows.test
    y, Z = phenotype.y[test], variables.Z[test]
    Z_hat = fit.latents(variables.X[test])
    baseline = fit if fit.estimator == "baseline" else fitted("baseline")
    chance, chance_95 = mcc_chance(Z.shape[1])

    def nmse(predicted: np.ndarray) -> float:
        return float(np.mean((y - predicted) ** 2) / y.var())

    ridge = _ridge_latents(variables, rows)
    return {
        "mcc": mcc(Z, Z_hat),
        "mcc_chance": chance,
        "mcc_chance_95": chance_95,
        "span_r2": span_r2(Z, Z_hat),
        # how well the inputs hold the latents at all, by ridge regression shown the truth
        "span_r2_ridge": span_r2(Z, ridge[test]),
        "nmse": nmse(fit.predict(variables.X[test], environments[test])),
        "nmse_floor": nmse(phenotype.signal[test]),
        "nmse_ridge": nmse((ridge[test] * phenotype.weights[test]).sum(axis=1)),
        "nmse_baseline": nmse(baseline.predict(variables.X[test], environments[test])),
        "weights_rank": float(fit.rank),
        "n_environments": float(len(fit.weights)),
        "n_inputs": float(variables.X.shape[1]),
        "n_train_cells": float(len(rows.train)),
        "n_test_cells": float(len(test)),
    }


def _ridge_latents(variables: Variables, rows: _Rows) -> np.ndarray:
    """True latents as ridge regression predicts them from the inputs, (n_cells, n_latents)."""
    X = variables.X[rows.train].astype(np.float64)
    centre, spread = X.mean(axis=0), np.maximum(X.std(axis=0), 1e-9)
    model = RidgeCV(alphas=_RIDGE_PENALTIES).fit((X - centre) / spread, variables.Z[rows.train])
    predicted: np.ndarray = model.predict((variables.X - centre) / spread)
    return predicted.reshape(variables.Z.shape)


def _matched_genes(variables: Variables, z: np.ndarray, rows: np.ndarray) -> list[str]:
    """For each estimated latent the true one it is matched to by correlation."""
    genes = [""] * z.shape[1]
    for gene, column in zip(variables.latents, matching(variables.Z[rows], z[rows]), strict=True):
        genes[column] = gene
    return genes


def _long(table: pd.DataFrame, row: str, value: str, genes: list[str]) -> pd.DataFrame:
    """Columns row, latent, gene, value: one line for each entry."""
    return pd.DataFrame(
        {
            row: np.repeat(table.index.to_numpy(), table.shape[1]),
            "latent": np.tile(table.columns.to_numpy(), len(table)),
            "gene": np.tile(genes, len(table)),
            value: table.to_numpy().ravel(),
        }
    )
