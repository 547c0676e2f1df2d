"""Facts about fitted factors: order, direction, share of variance, and how well cells are given back.

Arrays and models only; knows nothing of AnnData.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from latentree.metrics.held_out_r2 import squared_errors
from latentree.models.base import FactorModel
from latentree.models.scaling import TrainingData, column_moments, row_chunks

CELLS_FOR_SHARES = 2000
"""Training cells, evenly spaced, that shares of variance are measured on."""

LEAST_SHARE_ALIVE = 1e-4
"""A factor that explains less of the variance than this is called dead."""


@dataclass(frozen=True)
class Arrangement:
    """Order and direction in which a model's own factors are shown; a part of the saved fit.

    Parameters
    ----------
    order
        (n_factors,) int64: the model's factor shown in each place.
    sign
        (n_factors,) float32: 1, or -1 where the factor in that place is flipped.
    """

    order: np.ndarray
    sign: np.ndarray

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Latents or loadings (n, n_factors) of the model as shown; zeros stay zeros without a sign."""
        return np.ascontiguousarray(values[:, self.order] * self.sign + np.float32(0), dtype=np.float32)

    def reorder(self, values: np.ndarray) -> np.ndarray:
        """Values without a direction, such as inclusion probabilities (n_genes, n_factors), as shown."""
        return np.ascontiguousarray(values[:, self.order], dtype=np.float32)

    def undo(self, shown: np.ndarray) -> np.ndarray:
        """The model's own latents (n_cells, n_factors) from those shown."""
        latents = np.empty_like(shown)
        latents[:, self.order] = shown * self.sign
        return latents

    def state(self) -> dict[str, np.ndarray]:
        return {"arrangement.order": self.order, "arrangement.sign": self.sign}

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        return cls(state["arrangement.order"], state["arrangement.sign"])


@dataclass(frozen=True)
class TrainingMoments:
    """Mean and standard deviation of each modelled gene among the training cells, on the scale of x.

    Both float64 (n_genes,).
    """

    mean: np.ndarray
    sd: np.ndarray

    @classmethod
    def of(cls, data: TrainingData) -> Self:
        mean, variance = column_moments(data.x, data.train)
        return cls(mean, np.sqrt(variance))


def arrange(model: FactorModel, data: TrainingData) -> tuple[Arrangement, np.ndarray]:
    """Factors by decreasing share of variance, the largest loading of each positive.

    Returns
    -------
    The arrangement, and the share of variance (n_factors,) float64 of the factors as shown.
    """
    shares = variance_shares(model, data)
    order = np.argsort(-shares, kind="stable")
    loadings = model.loadings()
    extreme = loadings[np.abs(loadings).argmax(axis=0), np.arange(model.n_factors)]
    sign = np.where(extreme < 0, -1, 1).astype(np.float32)
    return Arrangement(order.astype(np.int64), sign[order]), shares[order]


def variance_shares(model: FactorModel, data: TrainingData) -> np.ndarray:
    """Share of the training cells' variance that is lost when a factor is held at its mean.

    (n_factors,) float64; for principal components the explained variance ratio. Measured on the scale of x
    on at most ``CELLS_FOR_SHARES`` training cells. Factors that overlap may sum to more or less than what
    all explain together, and a factor whose absence helps has a negative share.
    """
    rows = data.spread(CELLS_FOR_SHARES)
    x, known = data.x[rows], data.covariates_of(rows)
    x = x if isinstance(x, np.ndarray) else x.toarray()
    latents = model.transform(x, known)
    mean = x.mean(axis=0, dtype=np.float64)
    total = sum(float(((x[rows] - mean) ** 2).sum()) for rows in row_chunks(*x.shape))
    if total == 0:
        return np.zeros(model.n_factors)
    lost = np.empty(model.n_factors)
    for k in range(model.n_factors):
        without = latents.copy()
        without[:, k] = latents[:, k].mean()
        lost[k] = _squared_error(model, x, without, known)
    return (lost - _squared_error(model, x, latents, known)) / total


def alive(loadings: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Which factors are in use: some loading is not zero, and the share of variance is not negligible.

    bool (n_factors,), from loadings (n_genes, n_factors) and shares (n_factors,).
    """
    return (loadings != 0).any(axis=0) & (shares > LEAST_SHARE_ALIVE)


def r2(
    model: FactorModel, data: TrainingData, latents: np.ndarray, rows: np.ndarray, training: TrainingMoments
) -> tuple[float | None, float | None]:
    """R^2 of some cells against the training mean: in the units of x, and with genes at unit training sd.

    Parameters
    ----------
    latents
        The model's own latents of all cells, (n_cells, n_factors).
    rows
        The cells to score; None is returned for both where there are none or they do not vary.
    """
    sums = np.zeros((2, 2))
    for chunk in row_chunks(len(rows), data.x.shape[1]):
        part = rows[chunk]
        cells, reconstruction = data.x[part], model.reconstruct(latents[part], data.covariates_of(part))
        sums[0] += squared_errors(cells, reconstruction, training.mean)
        sums[1] += squared_errors(cells, reconstruction, training.mean, training.sd)
    plain, scaled = (1 - float(error / total) if total > 0 else None for error, total in sums)
    return plain, scaled


def _squared_error(
    model: FactorModel, x: np.ndarray, latents: np.ndarray, covariates: np.ndarray | None
) -> float:
    total = 0.0
    for rows in row_chunks(*x.shape):
        known = None if covariates is None else covariates[rows]
        total += float(((x[rows] - model.reconstruct(latents[rows], known)) ** 2).sum(dtype=np.float64))
    return total
