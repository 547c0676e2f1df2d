"""From an AnnData to what a model is fitted on or applied to, checked."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from latentree.batch_column import KnownBatches
from latentree.errors import InputError, listed
from latentree.models.gene_groups import GeneGroups
from latentree.models.scaling import Counts, Matrix, TrainingData
from latentree.seeds import derive_seed
from latentree.splits import SPLITS

VALIDATION_FRACTION = 0.1
LEAST_SHARE_MATCHED = 0.1
"""Fewer of the fit's genes than this and a projection says nothing about the cells."""

LARGEST_LOG_CP10K = np.log1p(1e4)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingInput:
    """What one fit sees of an AnnData.

    Parameters
    ----------
    data
        x (n_cells, n_genes) of all cells and the modelled genes, with the rows to train and validate on.
    obs
        cell_type (where the AnnData has it) and split of all cells.
    genes
        Names of the modelled genes.
    scale
        "log1p_cp10k", "as_found" or, of an AnnData that did not come from ``read_atlas``, "as_given".
    batch
        Column and levels of the batches, where the fit knows them.
    """

    data: TrainingData
    obs: pd.DataFrame
    genes: pd.Index
    scale: str
    batch: KnownBatches | None = None

    def grouped(self, groups: GeneGroups) -> "TrainingInput":
        """The same with the genes in groups."""
        return replace(self, data=replace(self.data, groups=groups))

    @property
    def splits(self) -> list[str]:
        """The splits that have cells, in the order train, validation, test."""
        return [split for split in SPLITS if len(self.rows(split))]

    def rows(self, split: str) -> np.ndarray:
        """int64 row numbers of the cells of one split."""
        return np.flatnonzero(self.obs["split"].to_numpy() == split)

    def sha256(self) -> str:
        """Hash of values, genes, cells and split: whatever of the data a fit depends on."""
        digest = hashlib.sha256()
        x = self.data.x
        for array in [x] if isinstance(x, np.ndarray) else [x.data, x.indices, x.indptr]:
            digest.update(np.ascontiguousarray(array).data)
        if self.data.counts is not None:
            # their values are those of x, given the libraries
            digest.update(np.ascontiguousarray(self.data.counts.library).data)
        if self.data.covariates is not None:
            digest.update(np.ascontiguousarray(self.data.covariates).data)
        if self.data.groups is not None:
            for array in self.data.groups.state().values():
                digest.update(np.ascontiguousarray(array).data)
        for names in (self.genes, self.obs.index, self.obs["split"]):
            digest.update("\x1f".join(str(name) for name in names).encode())
        return digest.hexdigest()


def training_input(adata: anndata.AnnData, seed: int, batch: str | None = None) -> TrainingInput:
    """Check an AnnData and take out what a fit sees.

    Parameters
    ----------
    seed
        Of the cells split off for validation, where ``obs["split"]`` is absent.
    batch
        obs column of the batches that the model is told; None: it is told none.

    Raises
    ------
    InputError
        No values, values that are not finite, names twice, no gene or no cell to train on, a strange split.
    """
    adata = _in_memory(adata)
    modelled = _modelled_genes(adata)
    x = _matrix(adata, modelled)
    obs = pd.DataFrame(index=adata.obs_names.copy())
    if "cell_type" in adata.obs:
        obs["cell_type"] = adata.obs["cell_type"]
    obs["split"] = _split(adata, seed)
    train = np.flatnonzero(obs["split"].to_numpy() == "train")
    validation = np.flatnonzero(obs["split"].to_numpy() == "validation")
    known = None if batch is None else KnownBatches.of(adata.obs, batch, train)
    covariates = None if known is None else known.covariates(adata.obs)
    data = TrainingData(x, train, validation, _counts(adata, modelled), covariates)
    return TrainingInput(data, obs, adata.var_names[modelled], _scale(adata) or "as_given", known)


@dataclass(frozen=True)
class Projection:
    """Other cells in the genes of a fit.

    Parameters
    ----------
    x
        (n_cells, n_matched) values of the genes that both have, on the scale of the fit.
    places
        (n_matched,) places of these genes among the fit's.
    mean
        (n_genes,) values of genes that are missing.
    missing
        Names of the fit's genes that the cells lack.
    """

    x: Matrix
    places: np.ndarray
    mean: np.ndarray
    missing: list[str]

    def dense(self, rows: slice) -> np.ndarray:
        """Some cells in all genes of the fit, float32 (n_rows, n_genes)."""
        cells = self.x[rows]
        dense = np.tile(self.mean.astype(np.float32), (cells.shape[0], 1))
        dense[:, self.places] = cells if isinstance(cells, np.ndarray) else cells.toarray()
        return dense

    def facts(self) -> dict[str, Any]:
        """For uns: how many genes were matched, and which were not."""
        return {
            "n_genes_matched": len(self.places),
            "n_genes_missing": len(self.missing),
            "missing_genes": np.array(self.missing, dtype=object),
        }


def projection_input(adata: anndata.AnnData, genes: pd.Index, scale: str, mean: np.ndarray) -> Projection:
    """Match other cells to a fit's genes and bring them to its scale.

    Parameters
    ----------
    genes
        Names of the fit's genes.
    scale
        Scale of the fit, see :class:`TrainingInput`.
    mean
        (n_genes,) the fit's training mean.

    Raises
    ------
    InputError
        Values that are not finite, names twice, too few genes in common, or another scale.
    """
    adata = _in_memory(adata)
    found = adata.var_names.get_indexer(genes)
    places = np.flatnonzero(found >= 0)
    if len(places) < max(1, LEAST_SHARE_MATCHED * len(genes)):
        raise InputError(
            "adata.var_names",
            f"only {len(places)} of the fit's {len(genes)} genes are there (the fit's: {listed(genes, 3)}; "
            f"these: {listed(adata.var_names, 3)})",
            "Use the same kind of gene names (symbols or Ensembl ids, the same organism and case)",
        )
    missing = [str(gene) for gene in genes[found < 0]]
    if missing:
        logger.warning(
            "%d of the fit's %d genes are missing and set to their training mean: %s",
            len(missing),
            len(genes),
            listed(missing),
        )
    x = _on_scale(adata, _matrix(adata, found[places]), scale)
    return Projection(x, places, mean, missing)


def projection_batches(
    adata: anndata.AnnData, known: Mapping[str, Any] | None
) -> tuple[np.ndarray | None, dict[str, Any]]:
    """What a fit that knows batches is told about other cells.

    Parameters
    ----------
    known
        :meth:`KnownBatches.facts` of the fit, or None.

    Returns
    -------
    (n_cells, n_batches) float32, or None: the fit knows none, or the cells tell none; and facts for uns. The
    average batch stands for one that the fit has not seen, which is said in a warning.
    """
    if known is None:
        return None, {}
    batches = KnownBatches.from_facts(known)
    if batches.column not in adata.obs:
        logger.warning("no obs column %r: all cells count as of the average batch", batches.column)
        return None, {"unknown_batches": "all"}
    unknown = batches.unknown(adata.obs)
    if unknown:
        logger.warning(
            "%d batches are not the fit's, their cells count as of the average batch: %s",
            len(unknown),
            listed(unknown),
        )
    return batches.covariates(adata.obs), {"unknown_batches": np.array(unknown, dtype=object)}


def _on_scale(adata: anndata.AnnData, x: Matrix, scale: str) -> Matrix:
    """x (n_cells, n_matched) on the scale of the fit: counts are normalised where the fit's were."""
    if scale != "log1p_cp10k" or _scale(adata) == scale:
        return x
    stored = x if isinstance(x, np.ndarray) else x.data
    if stored.size and stored.min() < 0:
        raise InputError(
            "adata.X",
            f"values are negative (lowest {stored.min():g}), but the fit is on log1p of counts per 10k",
            "Give counts, or log1p of counts per 10k",
        )
    if (stored == np.floor(stored)).all():
        return _log_cp10k(adata, x)
    if stored.max(initial=0) > LARGEST_LOG_CP10K + 1e-3:
        raise InputError(
            "adata.X",
            f"values reach {stored.max():g} and are no counts, but log1p of counts per 10k ends at "
            f"{LARGEST_LOG_CP10K:.3g}",
            "Give counts, or log1p of counts per 10k",
        )
    return x


def _log_cp10k(adata: anndata.AnnData, counts: Matrix) -> Matrix:
    """log1p of counts per 10,000 of each cell's library."""
    if "library_size" in adata.obs:
        library = adata.obs["library_size"].to_numpy(dtype=np.float64)
    else:
        library = np.asarray(adata.X.sum(axis=1), dtype=np.float64).ravel()
    factor = np.divide(1e4, library, out=np.zeros_like(library), where=library > 0).astype(np.float32)
    if isinstance(counts, np.ndarray):
        return np.log1p(counts * factor[:, None])
    return (sparse.diags_array(factor) @ counts).log1p().tocsr()


def _in_memory(adata: anndata.AnnData) -> anndata.AnnData:
    """The AnnData, read from its file where it is backed by one, after a look at its outside."""
    if not isinstance(adata, anndata.AnnData):
        raise InputError("adata", f"is a {type(adata).__name__}, not an AnnData", "Use anndata.read_h5ad")
    if adata.X is None:
        raise InputError("adata.X", "is None", "Put the expression values into X")
    if adata.n_obs == 0:
        raise InputError("adata", "has no cells", "Give an AnnData with cells")
    twice = adata.var_names[adata.var_names.duplicated()].unique()
    if len(twice):
        raise InputError(
            "adata.var_names", f"{len(twice)} gene names occur twice: {listed(twice, 5)}", "Make them unique"
        )
    return adata.to_memory() if adata.isbacked else adata


def _modelled_genes(adata: anndata.AnnData) -> np.ndarray:
    """int64 column numbers of the genes to model."""
    if "modelled" not in adata.var:
        chosen = np.arange(adata.n_vars)
    else:
        chosen = np.flatnonzero(adata.var["modelled"].to_numpy(dtype=bool))
    if len(chosen) == 0:
        raise InputError('adata.var["modelled"]', f"marks none of {adata.n_vars} genes", "Mark some genes")
    return chosen


def _matrix(adata: anndata.AnnData, columns: np.ndarray) -> Matrix:
    """Some columns of X as CSR or dense float32, finite."""
    x = adata.X if np.array_equal(columns, np.arange(adata.n_vars)) else adata[:, columns].X
    if sparse.issparse(x):
        x = sparse.csr_matrix(x, dtype=np.float32)
        x.sort_indices()
    else:
        x = np.ascontiguousarray(x, dtype=np.float32)
    stored = x if isinstance(x, np.ndarray) else x.data
    n_broken = int((~np.isfinite(stored)).sum())
    if n_broken:
        raise InputError(
            "adata.X", f"{n_broken} values are NaN or infinite", "Remove these cells or genes, or impute"
        )
    return x


def _counts(adata: anndata.AnnData, columns: np.ndarray) -> Counts | None:
    """The counts that ``read_atlas`` found behind X; None where it found none, or did not make X."""
    if _scale(adata) != "log1p_cp10k" or "counts" not in adata.layers or "library_size" not in adata.obs:
        return None
    layer = adata.layers["counts"]
    if not np.array_equal(columns, np.arange(adata.n_vars)):
        layer = layer[:, columns]
    if sparse.issparse(layer):
        layer = sparse.csr_matrix(layer, dtype=np.float32)
    else:
        layer = np.ascontiguousarray(layer, dtype=np.float32)
    library = adata.obs["library_size"].to_numpy(dtype=np.float64)
    n_empty = int((~(library > 0)).sum())
    if n_empty:
        raise InputError(
            'adata.obs["library_size"]',
            f"is not above 0 for {n_empty} of {len(library)} cells",
            "Drop these cells, or give their total counts",
        )
    return Counts(layer, library)


def _split(adata: anndata.AnnData, seed: int) -> pd.Categorical:
    """train/validation/test of each cell: as found, or a tenth split off for validation."""
    if "split" in adata.obs:
        labels = adata.obs["split"].astype(str).to_numpy()
        strange = sorted(set(labels) - set(SPLITS))
        if strange:
            raise InputError(
                'adata.obs["split"]', f"has values {listed(strange)}", f"Use only {listed(SPLITS)}"
            )
        if "train" not in labels:
            raise InputError('adata.obs["split"]', "marks no cell 'train'", "Mark the cells to train on")
    else:
        labels = np.full(adata.n_obs, "train", dtype=object)
        order = np.random.default_rng(derive_seed(seed, "validation split")).permutation(adata.n_obs)
        labels[order[: int(VALIDATION_FRACTION * adata.n_obs)]] = "validation"
    return pd.Categorical(labels, categories=[split for split in SPLITS if split in set(labels)])


def _scale(adata: anndata.AnnData) -> str | None:
    """The scale that ``read_atlas`` noted, if it did."""
    noted = adata.uns.get("latentree", {}).get("scale")
    return None if noted is None else str(noted)
