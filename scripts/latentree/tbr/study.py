"""The paper's protocol on real cells: a phenotype simulated from latent genes, one estimator, its scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeCV

from latentree.metrics.mcc import matching, mcc, mcc_chance
from latentree.metrics.span_r2 import span_r2
from latentree.tbr.estimators import Estimator, TBRFit
from latentree.tbr.identifiability_rows import identifiability_rows
from latentree.tbr.simulated import Problem, Rows
from latentree.tbr.transfer import transfer_rows
from latentree.tbr_config import TBRConfig
from latentree.tbr_variables import Variables, choose_variables
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
class StudyResult:
    """What one estimator found.

    ``scores``: rows of tables/tbr.tsv. ``weights``: environment, latent, gene, weight, seed, n_changes.
    ``changes``: branch, latent, gene, change, seed, n_changes. ``gene`` is the true latent matched to
    an estimated one. ``latents``: AnnData of all cells, one obsm ``X_tbr_seed<s>_changes<k>`` for each fit.
    ``transfer`` and ``identifiability``: rows of the tables of these names, tables/tbr_*.tsv.
    """

    scores: pd.DataFrame
    weights: pd.DataFrame
    changes: pd.DataFrame
    latents: ad.AnnData
    transfer: pd.DataFrame
    identifiability: pd.DataFrame


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
    leaky = bool(cells.uns.get("latentree", {}).get("leaky", False))
    scores, weights, changes, transfer, known = [], [], [], [], []
    latents = ad.AnnData(obs=cells.obs[[c for c in ("cell_type", "split") if c in cells.obs]].copy())
    for seed in seeds:
        variables = choose_variables(cells, settings, seed, regulators)
        for n_changes in settings.phenotype.n_changes:
            problem = Problem.simulated(cells, variables, tree, settings, n_changes, seed, threads)
            fit = problem.fitted(estimator)
            marks = {
                "estimator": estimator,
                "phenotype": settings.phenotype.kind,
                "n_latents": settings.n_latents,
                "n_changes": n_changes,
                "seed": seed,
                "latent_source": f"{variables.latent_source}: {', '.join(variables.latents)}",
                "input_source": variables.input_source,
                "note": _note(problem, leaky),
            }
            scores += [
                {**marks, "metric": metric, "value": value} for metric, value in _scores(problem, fit).items()
            ]
            transfer.append(transfer_rows(problem, estimator))
            fitted = {"estimator": estimator, "seed": seed}
            known.append(identifiability_rows(fit, fit.identifiability.warnings, fitted, n_changes))
            z = fit.latents(variables.X)
            latents.obsm[f"X_tbr_seed{seed}_changes{n_changes}"] = z
            genes = _matched_genes(variables, z, problem.rows.test)
            which = {"seed": seed, "n_changes": n_changes}
            weights.append(_long(fit.weights, "environment", "weight", genes).assign(**which))
            changes.append(_long(fit.changes, "branch", "change", genes).assign(**which))
    return StudyResult(
        pd.DataFrame(scores, columns=COLUMNS),
        pd.concat(weights, ignore_index=True),
        pd.concat(changes, ignore_index=True),
        latents,
        # without held-out types there are no rows, but columns
        pd.concat(transfer, ignore_index=True),
        pd.concat(known, ignore_index=True),
    )


def _note(problem: Problem, leaky: bool) -> str:
    texts = (
        problem.variables.note,
        "leaky: the MAGIC graph saw held-out cells" if leaky else "",
        "no effect changes: the true weights have rank 1 and MCC means nothing"
        if problem.n_changes == 0
        else "",
    )
    return "; ".join(text for text in texts if text)


def _scores(problem: Problem, fit: TBRFit) -> dict[str, float]:
    """Metrics on the test cells, each with the reference it needs to mean anything."""
    variables, rows = problem.variables, problem.rows
    test = rows.test
    y, Z, environments = problem.phenotype.y[test], variables.Z[test], problem.environments[test]
    Z_hat = fit.latents(variables.X[test])
    baseline = fit if fit.estimator == "baseline" else problem.fitted("baseline")
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
        "nmse": nmse(fit.predict(variables.X[test], environments)),
        "nmse_floor": nmse(problem.phenotype.signal[test]),
        "nmse_ridge": nmse((ridge[test] * problem.phenotype.weights[test]).sum(axis=1)),
        "nmse_baseline": nmse(baseline.predict(variables.X[test], environments)),
        "weights_rank": float(fit.rank),
        "n_environments": float(len(fit.weights)),
        "n_inputs": float(variables.X.shape[1]),
        "n_train_cells": float(len(rows.train)),
        "n_test_cells": float(len(test)),
    }


def _ridge_latents(variables: Variables, rows: Rows) -> np.ndarray:
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
