"""The cells of one fit, and the map from their values to what a model sees.

Knows nothing of AnnData, files or torch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Self, TypeAlias

import numpy as np
from scipy import sparse
from sklearn.utils.sparsefuncs import mean_variance_axis

from latentree.errors import InputError
from latentree.models.gene_groups import GeneGroups

Matrix: TypeAlias = sparse.csr_matrix | np.ndarray
"""(n_cells, n_genes) float32 on the scale of an atlas's X, modelled genes only."""

CHUNK_VALUES = 1_000_000
"""Values of a dense chunk at most (4 MB of float32), so that memory does not grow with the atlas."""


@dataclass(frozen=True)
class Counts:
    """Counts of the same cells and genes as x.

    Parameters
    ----------
    values
        (n_cells, n_genes) float32 holding whole numbers, CSR or dense.
    library
        (n_cells,) float64 total count of each cell over its whole library, above 0.
    """

    values: Matrix
    library: np.ndarray


@dataclass(frozen=True)
class TrainingData:
    """The cells one fit may see.

    Parameters
    ----------
    x
        (n_cells, n_genes) float32, CSR or dense.
    train
        (n_train,) int64 rows that parameters are fitted on.
    validation
        (n_validation,) int64 rows that decide when to stop; may be empty.
    counts
        The counts behind x, where x is log1p of counts per 10k and they are known.
    covariates
        (n_cells, n_batches) float32, 1 in the column of each cell's batch, else 0; None: no batches.
    groups
        The gene set that each gene counts to, for models of groups of genes.
    """

    x: Matrix
    train: np.ndarray
    validation: np.ndarray
    counts: Counts | None = None
    covariates: np.ndarray | None = None
    groups: GeneGroups | None = None

    def covariates_of(self, rows: np.ndarray | slice) -> np.ndarray | None:
        """Batches of some cells, (n_rows, n_batches)."""
        return None if self.covariates is None else self.covariates[rows]

    def only(self, rows: np.ndarray) -> "TrainingData":
        """These cells alone, all of them in ``train``."""
        counts = None
        if self.counts is not None:
            counts = Counts(self.counts.values[rows], self.counts.library[rows])
        everything = np.arange(len(rows), dtype=np.int64)
        known = self.covariates_of(rows)
        return replace(
            self, x=self.x[rows], counts=counts, covariates=known, train=everything, validation=everything[:0]
        )

    def spread(self, n_cells: int) -> np.ndarray:
        """At most ``n_cells`` training rows, evenly spaced."""
        return spread(self.train, n_cells)


@dataclass(frozen=True)
class InputScaling:
    """The map from values on the scale of x to what a model sees: (values(x) - centre) / scale.

    Parameters
    ----------
    input
        "log": values(x) = x. "sqrt": values(x) = sqrt(exp(x) - 1), the square root of the scaled counts.
    centre, scale
        (n_genes,) float32. Genes without variance among the training cells have scale 1.
    sd
        (n_genes,) float32 standard deviation of values(x) among the training cells.
    batch_shift
        (n_batches, n_genes) float32 mean of each batch's training cells after scaling, which is taken off
        its cells; None: batches are left as they are.
    """

    input: Literal["log", "sqrt"]
    centre: np.ndarray
    scale: np.ndarray
    sd: np.ndarray
    batch_shift: np.ndarray | None = None

    @classmethod
    def fit(
        cls,
        data: TrainingData,
        input: Literal["log", "sqrt"],
        gene_scaling: float,
        *,
        centred: bool = True,
        by_batch: bool = False,
    ) -> Self:
        """Learn centre (the mean, or 0) and scale (sd ** gene_scaling) of each gene on the training cells.

        ``by_batch``: each batch is centred by itself, where there are batches.

        Raises
        ------
        InputError
            No gene varies among them, or ``input: sqrt`` meets negative values.
        """
        mean, variance = column_moments(_values(data.x, input), data.train)
        sd = np.sqrt(variance)
        # a constant's sd is rounding, not 0
        if (sd <= 1e-7 * np.abs(mean)).all():
            raise InputError(
                "adata.X",
                f"all {len(sd)} modelled genes are constant over the {len(data.train)} training cells",
                "Model genes that vary (more genes, or more training cells)",
            )
        scale = np.where(sd > 1e-8, sd, 1.0) ** gene_scaling
        centre = mean if centred else np.zeros_like(mean)
        fitted = cls(input, centre.astype(np.float32), scale.astype(np.float32), sd.astype(np.float32))
        if not by_batch or data.covariates is None:
            return fitted
        return replace(fitted, batch_shift=_batch_means(fitted, data, data.covariates))

    @property
    def n_genes(self) -> int:
        return len(self.centre)

    @property
    def scaled_sd(self) -> np.ndarray:
        """(n_genes,) float32 standard deviation of the scaled genes among the training cells."""
        return self.sd / self.scale

    def values(self, x: Matrix) -> Matrix:
        """values(x) before centring and scaling; sparse stays sparse."""
        return _values(x, self.input)

    def standardise(self, values: Matrix, covariates: np.ndarray | None = None) -> np.ndarray:
        """Dense float32 (n_cells, n_genes) from the output of :meth:`values`.

        ``covariates`` (n_cells, n_batches): whose cells they are, where batches are centred; None: unknown.
        """
        dense = values.copy() if isinstance(values, np.ndarray) else values.toarray()
        dense -= self.centre
        dense /= self.scale
        if self.batch_shift is not None and covariates is not None:
            dense -= covariates @ self.batch_shift
        return dense

    def apply(self, x: Matrix, covariates: np.ndarray | None = None) -> np.ndarray:
        """What the model sees of these cells: dense float32 (n_cells, n_genes)."""
        return self.standardise(self.values(x), covariates)

    def apply_uncentred(self, x: Matrix) -> Matrix:
        """values(x) / scale, sparse where x is: for models that centre on their own or not at all."""
        values = self.values(x)
        if isinstance(values, np.ndarray):
            return np.asarray(values / self.scale)
        return sparse.csr_matrix(
            (values.data / self.scale[values.indices], values.indices, values.indptr), values.shape
        )

    def invert(self, scaled: np.ndarray, covariates: np.ndarray | None = None) -> np.ndarray:
        """Back to the scale of x: float32 (n_cells, n_genes).

        With ``input: sqrt`` negative square roots count as 0 and the result is log1p of the square.
        """
        if self.batch_shift is not None and covariates is not None:
            scaled = scaled + covariates @ self.batch_shift
        values = scaled * self.scale + self.centre
        if self.input == "sqrt":
            values = np.log1p(np.maximum(values, 0) ** 2)
        return values.astype(np.float32, copy=False)

    def slopes(self, scaled_slopes: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Slopes (n_genes, n_factors) of the scaled mean as slopes on the scale of x (chain rule).

        Parameters
        ----------
        scaled_slopes
            (n_genes, n_factors) change of the scaled mean per unit of each latent.
        at
            (n_genes,) the scaled mean where the slopes were taken.
        """
        gain = self.scale
        if self.input == "sqrt":
            root = np.maximum(at * self.scale + self.centre, 0)
            gain = gain * 2 * root / (1 + root**2)
        return (scaled_slopes * gain[:, None]).astype(np.float32)

    def state(self) -> dict[str, np.ndarray]:
        state = {"scaling.centre": self.centre, "scaling.scale": self.scale, "scaling.sd": self.sd}
        return state if self.batch_shift is None else {**state, "scaling.batch_shift": self.batch_shift}

    @classmethod
    def from_state(cls, input: Literal["log", "sqrt"], state: Mapping[str, np.ndarray]) -> Self:
        centre, scale, sd = (state[f"scaling.{name}"] for name in ("centre", "scale", "sd"))
        return cls(input, centre, scale, sd, state.get("scaling.batch_shift"))


def _batch_means(scaling: InputScaling, data: TrainingData, covariates: np.ndarray) -> np.ndarray:
    """(n_batches, n_genes) float32 mean of the scaled training cells of each batch."""
    sums = np.zeros((covariates.shape[1], scaling.n_genes))
    for rows in row_chunks(len(data.train), scaling.n_genes):
        chosen = data.train[rows]
        sums += covariates[chosen].T @ scaling.apply(data.x[chosen])
    sizes = covariates[data.train].sum(0, dtype=np.float64)
    return (sums / np.maximum(sizes, 1)[:, None]).astype(np.float32)


def scaled_cells(scaling: InputScaling, data: TrainingData, rows: np.ndarray) -> np.ndarray:
    """What a model sees of these cells: dense float32 (n_rows, n_genes)."""
    return scaling.apply(data.x[rows], data.covariates_of(rows))


def spread(rows: np.ndarray, n_cells: int) -> np.ndarray:
    """At most ``n_cells`` of these rows, evenly spaced: atlases often come sorted by type."""
    n_taken = min(len(rows), n_cells)
    return rows[np.linspace(0, len(rows) - 1, n_taken).round().astype(np.int64)]


def stored_values(x: Matrix) -> np.ndarray:
    """The values that are kept: all of a dense matrix, those that are stored of a sparse one."""
    return x if isinstance(x, np.ndarray) else x.data


def row_chunks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Slices over rows such that a dense chunk holds at most ``CHUNK_VALUES`` values."""
    size = max(1, CHUNK_VALUES // max(1, n_columns))
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


def _values(x: Matrix, input: Literal["log", "sqrt"]) -> Matrix:
    """x as float32, or its square-rooted counts; sparse stays sparse because 0 stays 0."""
    if input == "log":
        return x.astype(np.float32, copy=False)
    stored = stored_values(x)
    n_negative = int((stored < 0).sum())
    if n_negative:
        raise InputError(
            "input: sqrt",
            f"{n_negative} values are negative (lowest {stored.min():g}), so they are no log counts",
            "Use input: log",
        )
    roots = np.sqrt(np.expm1(stored, dtype=np.float32))
    if isinstance(x, np.ndarray):
        return roots
    return sparse.csr_matrix((roots, x.indices, x.indptr), shape=x.shape)


def column_moments(values: Matrix, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (ddof 0) of each column over some rows, float64, without a dense copy."""
    if not isinstance(values, np.ndarray):
        # weights of 0 and 1 spare a copy of the training rows
        weights = np.zeros(values.shape[0], dtype=values.dtype)
        weights[rows] = 1
        mean, variance = mean_variance_axis(sparse.csr_matrix(values), axis=0, weights=weights)
        return mean.astype(np.float64), variance.astype(np.float64)
    chosen = values[rows]
    return chosen.mean(axis=0, dtype=np.float64), chosen.var(axis=0, dtype=np.float64)
