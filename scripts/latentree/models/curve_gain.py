"""Did a decoder's curves earn their place? Held-out error against straight lines on the same factors."""

import numpy as np

from latentree.models.base import FactorModel
from latentree.models.scaling import Matrix, TrainingData, row_chunks
from latentree.models.starts import CONSTANT


def curve_gain(model: FactorModel, data: TrainingData, used: np.ndarray) -> float | None:
    """Share of the lines' squared error on validation cells that the model's curves save.

    The lines are least squares of each gene's x on the factors that it uses, through training cells; errors
    count in units of the gene's residual variance there, so that no gene outweighs the others; genes that
    are constant there count nothing. Negative where lines do better.

    Parameters
    ----------
    model
        Fitted.
    data
        The cells it was fitted to.
    used
        (n_genes, n_factors) bool.

    Returns
    -------
    None without validation cells.
    """
    if len(data.validation) == 0:
        return None
    lines, spread = _lines(model, data, used)
    errors = np.zeros(2)
    for rows in row_chunks(len(data.validation), data.x.shape[1]):
        chosen = data.validation[rows]
        x, known = data.x[chosen], data.covariates_of(chosen)
        latents = model.transform(x, known)
        dense = _dense(x)
        errors[0] += (((dense - _design(latents, known) @ lines) ** 2) / spread).sum()
        errors[1] += (((dense - model.reconstruct(latents, known)) ** 2) / spread).sum()
    return float(1 - errors[1] / errors[0]) if errors[0] > 0 else None


def _lines(model: FactorModel, data: TrainingData, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (n_columns, n_genes) and mean squared residuals (n_genes,) on training cells.

    Of a constant, the factors and the batches; the residuals are infinite for genes that do not vary there.
    """
    n_genes, n_batches = len(used), 0 if data.covariates is None else data.covariates.shape[1]
    used = np.hstack([np.ones((n_genes, 1), bool), used, np.ones((n_genes, n_batches), bool)])
    n_columns = used.shape[1]
    gram, cross = np.zeros((n_columns, n_columns)), np.zeros((n_columns, n_genes))
    squares = np.zeros(n_genes)
    for rows in row_chunks(len(data.train), n_genes):
        chosen = data.train[rows]
        x, known = data.x[chosen], data.covariates_of(chosen)
        design, dense = _design(model.transform(x, known), known), _dense(x)
        gram += design.T @ design
        cross += design.T @ dense
        squares += (dense**2).sum(0)
    lines = np.zeros_like(cross)
    for gene in range(n_genes):
        terms = np.flatnonzero(used[gene])
        lines[terms, gene] = np.linalg.lstsq(gram[np.ix_(terms, terms)], cross[terms, gene], rcond=None)[0]
    n_cells = len(data.train)
    residuals = (squares - (lines * cross).sum(0)) / n_cells
    variance = squares / n_cells - (cross[0] / n_cells) ** 2
    # a gene that never varied here would have errors without a unit
    varies = variance > CONSTANT + 1e-9 * squares / n_cells
    return lines, np.where(varies, np.maximum(residuals, 1e-6 * variance), np.inf)


def _design(latents: np.ndarray, covariates: np.ndarray | None) -> np.ndarray:
    known = np.empty((len(latents), 0)) if covariates is None else covariates
    return np.hstack([np.ones((len(latents), 1)), latents.astype(np.float64), known])


def _dense(x: Matrix) -> np.ndarray:
    return (x if isinstance(x, np.ndarray) else x.toarray()).astype(np.float64)
