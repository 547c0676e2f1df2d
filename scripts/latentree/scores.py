"""The downstream tables of an atlas, from its fits: metrics and genes.

Each builder takes loaded fits and gives a tidy, sorted table ready for :func:`latentree.files.write_table`.
Factors are named f1, f2, ... in the order of the fit.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from latentree import metrics
from latentree.errors import InputError
from latentree.files import read_json

_FIT_COLUMNS = ["model", "n_factors", "seed"]
METRICS_COLUMNS = ["atlas", *_FIT_COLUMNS, "metric", "split", "value"]
GENES_COLUMNS = [*_FIT_COLUMNS, "factor", "gene", "loading", "inclusion"]
REFERENCE_MODELS = ("pca", "nmf")
# what a fit says about itself (fit.json) that is a number of its own, and the cells it was measured on
_DIAGNOSTICS = {
    "genes_without_factor": "none",
    "anchored_factors": "none",
    "covariance_ratio": "none",
    "curve_gain": "validation",
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedFit:
    """What the tables need of one fit.

    Attributes
    ----------
    model, seed
        Which fit; the seed of a consensus is ``"consensus"``.
    genes
        The modelled genes, length n_genes.
    cells
        Names of the cells, length n_cells.
    cell_types, split
        Type and split of each cell, str arrays of shape (n_cells,).
    latents
        Shape (n_cells, n_factors).
    loadings
        Shape (n_genes, n_factors).
    inclusion
        Inclusion probabilities, shape (n_genes, n_factors), or None: a model that has them is sparse, its
        zeros mean that the gene is not in the factor.
    alive
        Which factors are in use, bool array of shape (n_factors,).
    summary
        fit.json; ``r2`` and ``r2_scaled`` hold a value per split.
    """

    model: str
    seed: int | str
    genes: tuple[str, ...]
    cells: pd.Index
    cell_types: np.ndarray
    split: np.ndarray
    latents: np.ndarray
    loadings: np.ndarray
    inclusion: np.ndarray | None
    alive: np.ndarray
    summary: Mapping[str, Any]

    @classmethod
    def from_anndata(cls, factors: ad.AnnData, summary: Mapping[str, Any]) -> "LoadedFit":
        """From an AnnData as factors.h5ad holds it, and what fit.json holds."""
        facts = factors.uns["latentree"]
        model = str(facts["model"])
        seed = facts["seed"]
        inclusion = factors.varm.get(f"{model}_inclusion")
        return cls(
            model=model,
            seed=seed if isinstance(seed, str) else int(seed),
            genes=tuple(factors.var_names),
            cells=factors.obs_names,
            cell_types=factors.obs["cell_type"].to_numpy(dtype=str),
            split=factors.obs["split"].to_numpy(dtype=str),
            latents=np.asarray(factors.obsm[f"X_{model}"]),
            loadings=np.asarray(factors.varm[f"{model}_loadings"]),
            inclusion=None if inclusion is None else np.asarray(inclusion),
            alive=np.asarray(facts["factors"]["alive"], dtype=bool),
            summary=summary,
        )

    @property
    def n_factors(self) -> int:
        return self.latents.shape[1]

    @property
    def factor_names(self) -> list[str]:
        return factor_names(self.n_factors)

    def rows(self, split: str) -> np.ndarray:
        """Row indices of the cells of one split."""
        return np.flatnonzero(self.split == split)

    def active_genes(self, factor: int, n_top_genes: int) -> np.ndarray:
        """Indices of a factor's active genes by decreasing |loading|; equal ones by name.

        A sparse model's are those with a loading other than zero, another model's the ``n_top_genes``
        largest. A dead factor has none.
        """
        if not self.alive[factor]:
            return np.zeros(0, dtype=np.int64)
        size = np.abs(self.loadings[:, factor])
        order = np.lexsort((np.asarray(self.genes), -size))
        order = order[size[order] > 0]
        return order if self.inclusion is not None else order[:n_top_genes]


def read_fit(folder: str | Path) -> LoadedFit:
    """Read a fit's factors.h5ad and fit.json."""
    return LoadedFit.from_anndata(
        ad.read_h5ad(Path(folder) / "factors.h5ad"), read_json(Path(folder) / "fit.json")
    )


def factor_names(n_factors: int) -> list[str]:
    """``["f1", "f2", ...]``"""
    return [f"f{i}" for i in range(1, n_factors + 1)]


def metrics_table(
    atlas: str,
    fits: Sequence[LoadedFit],
    reference: Callable[[str, int, int], LoadedFit] | None = None,
    batches: pd.Series | None = None,
) -> pd.DataFrame:
    """Scores of every fit, beside those of majority, chance, PCA and NMF on the same split.

    Parameters
    ----------
    atlas
        Its name.
    fits
        Fits of that atlas.
    reference
        Called with a model (pca, nmf), n_factors and seed where such a fit is not among ``fits``; None: those
        rows are left out. A reference that the data do not admit (:class:`InputError`) is left out and
        logged.
    batches
        Batch of each cell by its name, where the config names a column.

    Returns
    -------
    Columns ``METRICS_COLUMNS``. Metrics (split): accuracy, balanced_accuracy, ari, nmi (test); of the live
    factors silhouette of the types, batch_mixing (1: as by chance within a type, 0: apart), latent_hoyer,
    smi (alignment of factors with types) beside smi_chance (test); r2, r2_scaled,
    log_likelihood (as the fit recorded them); hoyer of loadings, zeros (share that is exactly zero),
    active_genes (mean number of loadings other than zero per live factor), alive_factors (none). What
    cannot be computed, such as an accuracy without test cells, has no row. Rows of majority and chance
    have n_factors 0 and seed ``none``, because they depend on neither.
    """
    everything = [*fits, *(_missing_references(fits, reference) if reference else [])]
    rows = [
        (atlas, fit.model, fit.n_factors, fit.seed, metric, split, value)
        for fit in everything
        for metric, split, value in _scores(fit, batches)
    ]
    if fits:
        rows += [
            (atlas, model, 0, "none", metric, "test", value) for model, metric, value in _guesses(fits[0])
        ]
    rows = [row for row in rows if np.isfinite(row[-1])]
    rows.sort(key=lambda row: (row[1], row[2], _seed_order(row[3]), row[4], row[5]))
    return pd.DataFrame(rows, columns=METRICS_COLUMNS)


def genes_table(fits: Sequence[LoadedFit], n_top_genes: int = 50) -> pd.DataFrame:
    """The active genes of every live factor, by decreasing |loading|.

    Returns
    -------
    Columns ``GENES_COLUMNS``; ``inclusion`` is empty for models without inclusion probabilities.
    """
    tables = []
    for fit in sorted_fits(fits):
        for factor, name in enumerate(fit.factor_names):
            genes = fit.active_genes(factor, n_top_genes)
            nothing = np.full(len(genes), np.nan, dtype=np.float32)
            tables.append(
                pd.DataFrame(
                    {
                        "model": fit.model,
                        "n_factors": fit.n_factors,
                        "seed": fit.seed,
                        "factor": name,
                        "gene": [fit.genes[i] for i in genes],
                        "loading": fit.loadings[genes, factor],
                        "inclusion": nothing if fit.inclusion is None else fit.inclusion[genes, factor],
                    }
                )
            )
    return stacked(tables, GENES_COLUMNS)


def _scores(fit: LoadedFit, batches: pd.Series | None) -> Iterator[tuple[str, str, float]]:
    """Metric, split and value of one fit."""
    train, test = fit.rows("train"), fit.rows("test")
    if len(train) and len(test):
        types = fit.cell_types[test]
        predicted = metrics.fit_probe(fit.latents[train], fit.cell_types[train]).predict(fit.latents[test])
        yield "accuracy", "test", metrics.accuracy(types, predicted)
        yield "balanced_accuracy", "test", metrics.balanced_accuracy(types, predicted)
    if len(test):
        types = fit.cell_types[test]
        clusters = metrics.cluster_cells(fit.latents[test], len(np.unique(types)))
        yield "ari", "test", metrics.ari(types, clusters)
        yield "nmi", "test", metrics.nmi(types, clusters)
        if fit.alive.any():
            for metric, value in _of_live_factors(fit, test, batches):
                yield metric, "test", value
    for metric in ("r2", "r2_scaled", "log_likelihood"):
        for split, value in fit.summary.get(metric, {}).items():
            if value is not None:
                yield metric, split, float(value)
    live = fit.loadings[:, fit.alive]
    yield "zeros", "none", metrics.zero_share(fit.loadings)
    yield "alive_factors", "none", float(fit.alive.sum())
    if live.shape[1]:
        yield "hoyer", "none", metrics.hoyer(live)
        yield "active_genes", "none", float(metrics.active_gene_counts(live).mean())
    diagnostics = fit.summary.get("diagnostics") or {}
    for metric, split in _DIAGNOSTICS.items():
        if diagnostics.get(metric) is not None:
            yield metric, split, float(diagnostics[metric])


def _of_live_factors(
    fit: LoadedFit, rows: np.ndarray, batches: pd.Series | None
) -> Iterator[tuple[str, float]]:
    """Metric and value of what the latents of some cells look like; a dead factor would count as noise."""
    latents, types = fit.latents[rows][:, fit.alive], fit.cell_types[rows]
    yield "silhouette", metrics.silhouette(latents, types)
    yield "latent_hoyer", metrics.latent_hoyer(latents).value
    alignment = metrics.factor_label_alignment(latents, types)
    yield "smi", alignment.value
    yield "smi_chance", alignment.chance
    if batches is not None:
        of_cells = batches.reindex(fit.cells[rows]).to_numpy(dtype=str)
        yield "batch_mixing", metrics.batch_mixing(latents, of_cells, types)


def _guesses(fit: LoadedFit) -> Iterator[tuple[str, str, float]]:
    """Model, metric and value of guessing without latents."""
    train, test = fit.cell_types[fit.rows("train")], fit.cell_types[fit.rows("test")]
    if not (len(train) and len(test)):
        return
    for model, values in (
        ("majority", metrics.majority_reference(train, test)),
        ("chance", metrics.chance_reference(train, test)),
    ):
        yield from zip((model, model), ("accuracy", "balanced_accuracy"), values, strict=True)


def _missing_references(
    fits: Sequence[LoadedFit], reference: Callable[[str, int, int], LoadedFit]
) -> Iterator[LoadedFit]:
    """PCA and NMF at every number of factors and seed of the fits, where they are not fitted as models."""
    there = {(fit.model, fit.n_factors, fit.seed) for fit in fits}
    for n_factors, seed in sorted({(fit.n_factors, fit.seed) for fit in fits if isinstance(fit.seed, int)}):
        for model in REFERENCE_MODELS:
            if (model, n_factors, seed) in there:
                continue
            try:
                yield reference(model, n_factors, seed)
            except InputError as error:
                _log.warning("no reference row of %s with %d factors: %s", model, n_factors, error)


def _seed_order(seed: int | str) -> tuple[bool, int, str]:
    """Numbers in their order, then names."""
    return (True, 0, seed) if isinstance(seed, str) else (False, seed, "")


def sorted_fits(fits: Sequence[LoadedFit]) -> list[LoadedFit]:
    """By model, number of factors and seed; named seeds, such as a consensus, come last."""
    return sorted(fits, key=lambda fit: (fit.model, fit.n_factors, _seed_order(fit.seed)))


def stacked(tables: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """The tables that have rows, one below the other; only the header where none has."""
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True)[columns] if filled else pd.DataFrame(columns=columns)
