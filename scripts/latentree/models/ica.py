"""Independent component analysis: FastICA on the principal components (scikit-learn)."""

import warnings
from collections.abc import Mapping
from typing import Self

import numpy as np
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning

from latentree.errors import InputError
from latentree.factor_settings import FactorModelSettings
from latentree.models.base import FactorModel, FitReport, RunOptions, require_factors
from latentree.models.pca import principal_axes
from latentree.models.scaling import InputScaling, TrainingData, row_chunks


class ICAModel(FactorModel):
    """Factors are independent sources with unit variance among the training cells."""

    name = "ica"

    def fit(self, data: TrainingData, seed: int, options: RunOptions) -> FitReport:
        require_factors(
            self.n_factors, {"modelled genes": data.x.shape[1], "training cells": len(data.train)}
        )
        self.scaling = InputScaling.fit(data, self.settings.input, self.settings.gene_scaling)
        axes, variances = principal_axes(
            self.scaling.apply_uncentred(data.x[data.train]), self.n_factors, seed
        )
        _require_rank(variances)
        chunks = row_chunks(len(data.train), data.x.shape[1])
        scores = np.concatenate([self.scaling.apply(data.x[data.train[rows]]) @ axes.T for rows in chunks])
        ica = FastICA(
            whiten="unit-variance",
            max_iter=self.settings.max_iter,
            tol=self.settings.tol,
            random_state=seed,
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            ica.fit(scores.astype(np.float64))
        self._unmixing = (ica.components_ @ axes).astype(np.float32)
        self._mixing = (axes.T @ ica.mixing_).astype(np.float32)
        converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
        note = f"FastICA did not converge in {self.settings.max_iter} iterations; raise max_iter or tol"
        return FitReport(converged=converged, notes=() if converged else (note,))

    def encode(self, scaled: np.ndarray, covariates: np.ndarray | None = None) -> np.ndarray:
        return scaled @ self._unmixing.T

    def decode(self, latents: np.ndarray, covariates: np.ndarray | None = None) -> np.ndarray:
        return latents @ self._mixing.T

    def loadings(self) -> np.ndarray:
        return self.scaling.slopes(self._mixing, at=np.zeros(self.scaling.n_genes, dtype=np.float32))

    def state(self) -> dict[str, np.ndarray]:
        return {**self.scaling.state(), "unmixing": self._unmixing, "mixing": self._mixing}

    @classmethod
    def from_state(
        cls, settings: FactorModelSettings, n_factors: int, state: Mapping[str, np.ndarray]
    ) -> Self:
        model = cls(settings, n_factors)
        model.scaling = InputScaling.from_state(settings.input, state)
        model._unmixing, model._mixing = state["unmixing"], state["mixing"]
        return model


def _require_rank(variances: np.ndarray) -> None:
    """Sources need as many dimensions as there are factors."""
    rank = int((variances > 1e-7 * variances[0]).sum())
    if rank < len(variances):
        raise InputError(
            "n_factors",
            f"{len(variances)} independent components were asked for, but the training cells span only "
            f"{rank} dimensions",
            f"Set n_factors to {max(rank, 1)} at most",
        )
