"""Principal component analysis (scikit-learn), on sparse matrices without a dense copy."""

from collections.abc import Mapping
from typing import Self

import numpy as np
from sklearn.decomposition import PCA

from latentree.factor_settings import FactorModelSettings
from latentree.models.base import FactorModel, FitReport, RunOptions, require_factors
from latentree.models.scaling import InputScaling, Matrix, TrainingData

# above, the matrix of genes x genes costs more than Lanczos steps (measured at 1,000 and 2,000 genes)
MAX_GENES_FOR_COVARIANCE = 500


class PCAModel(FactorModel):
    """Factors are scores on the principal axes of the training cells."""

    name = "pca"

    def fit(self, data: TrainingData, seed: int, options: RunOptions) -> FitReport:
        require_factors(
            self.n_factors, {"modelled genes": data.x.shape[1], "training cells": len(data.train)}
        )
        self.scaling = InputScaling.fit(data, self.settings.input, self.settings.gene_scaling)
        self._axes, _ = principal_axes(self.scaling.apply_uncentred(data.x[data.train]), self.n_factors, seed)
        return FitReport()

    def encode(self, scaled: np.ndarray, covariates: np.ndarray | None = None) -> np.ndarray:
        return scaled @ self._axes.T

    def decode(self, latents: np.ndarray, covariates: np.ndarray | None = None) -> np.ndarray:
        return latents @ self._axes

    def loadings(self) -> np.ndarray:
        return self.scaling.slopes(self._axes.T, at=np.zeros(self.scaling.n_genes, dtype=np.float32))

    def state(self) -> dict[str, np.ndarray]:
        return {**self.scaling.state(), "axes": self._axes}

    @classmethod
    def from_state(
        cls, settings: FactorModelSettings, n_factors: int, state: Mapping[str, np.ndarray]
    ) -> Self:
        model = cls(settings, n_factors)
        model.scaling = InputScaling.from_state(settings.input, state)
        model._axes = state["axes"]
        return model


def principal_axes(x: Matrix, n_axes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Principal axes (n_axes, n_genes) float32 and variances (n_axes,) float64 of x (n_cells, n_genes).

    x is centred implicitly; the arithmetic is float64, because the variances of the last axes are small
    differences of large numbers.
    """
    few_genes = x.shape[1] <= MAX_GENES_FOR_COVARIANCE
    nearly_all = n_axes > 0.5 * min(x.shape)
    solver = "covariance_eigh" if few_genes or nearly_all else "arpack"
    pca = PCA(n_axes, svd_solver=solver, random_state=seed).fit(x.astype(np.float64))
    return pca.components_.astype(np.float32), pca.explained_variance_
