"""From factor scores to the loadings of a negative binomial factor model on counts."""

from dataclasses import replace

import numpy as np

from latentree.models.scaling import TrainingData
from latentree.models.starts import Start

# cells that are enough for the regressions: their loadings are only where the fit starts
REGRESSION_CELLS = 4096
_ITERATIONS = 5
# prior variance of a loading is one over this share of the information of an average gene
_RIDGE = 1e-2
# a Newton step moves no coefficient further, in log units
_LONGEST_STEP = 1.0
_LEAST_THETA, _MOST_THETA = 0.05, 1e3
# without scores: weights of standard deviation 1 are fold changes that fits do not come back from (simulated
# counts, two seeds: factors found with .3, lost with 1 and with 0)
_RANDOM_SIZE = 0.3
# genes of a block: (genes, factors, factors) and (cells, genes) arrays stay small
_BLOCK = 256


def negative_binomial_start(
    start: Start, data: TrainingData, scores: np.ndarray, rows: np.ndarray
) -> tuple[Start, np.ndarray]:
    """A start whose offset and loadings are those of regressions of the counts on the start's scores.

    One regression per gene, ``count ~ NB(library * exp(offset + loadings . score), theta)``, with an effect
    of each batch where there are batches, by damped Newton steps with a small ridge; genes without a count
    keep loadings of zero. A random start has no scores to regress on: it keeps its loadings, made smaller.

    Parameters
    ----------
    start
        Of the scaled values.
    data
        With counts.
    scores
        (n_rows, n_factors) of the cells ``rows``, about centred.
    rows
        (n_rows,) training rows, such as ``REGRESSION_CELLS`` of them.

    Returns
    -------
    The start in log units, and the dispersions theta (n_genes,) float64.
    """
    assert data.counts is not None
    counts = data.counts.values[rows]
    log_library = np.log(data.counts.library[rows])
    known = data.covariates_of(rows)
    batches = np.empty((len(rows), 0)) if known is None else known
    design = np.hstack([np.ones((len(rows), 1)), scores, batches])
    n_genes = counts.shape[1]
    coefficients, theta = np.zeros((n_genes, design.shape[1])), np.ones(n_genes)
    for first in range(0, n_genes, _BLOCK):
        genes = slice(first, first + _BLOCK)
        block = counts[:, genes]
        dense = np.asarray(block if isinstance(block, np.ndarray) else block.toarray(), dtype=np.float64)
        coefficients[genes], theta[genes] = _regress(dense, log_library, design)
    n_factors = scores.shape[1]
    loadings = coefficients[:, 1 : 1 + n_factors] if scores.any() else _RANDOM_SIZE * start.loadings
    effects = None if known is None else coefficients[:, 1 + n_factors :]
    return replace(start, offset=coefficients[:, 0], loadings=loadings, batch_effects=effects), theta


def _regress(
    counts: np.ndarray, log_library: np.ndarray, design: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (genes, n_columns) and dispersions (genes,) of counts (n_cells, genes) on a design."""
    n_cells, n_columns = design.shape
    # half a count more in all cells together, so that a gene that is never seen has a finite mean
    coefficients = np.zeros((counts.shape[1], n_columns))
    coefficients[:, 0] = np.log((counts.sum(0) + 0.5) / np.exp(log_library).sum())
    products = (design[:, :, None] * design[:, None]).reshape(n_cells, -1)
    for _ in range(_ITERATIONS):
        mean = np.exp(np.clip(log_library[:, None] + design @ coefficients.T, -15, 15))
        theta = _dispersion(counts, mean)
        weight = mean / (1 + mean / theta)
        gradient = ((counts - mean) / (1 + mean / theta)).T @ design
        information = (weight.T @ products).reshape(-1, n_columns, n_columns)
        ridge = _RIDGE * weight.sum(0).mean() * np.eye(n_columns)
        ridge[0, 0] = 1e-8
        gradient[:, 1:] -= ridge[1, 1] * coefficients[:, 1:]
        step = np.linalg.solve(information + ridge, gradient[..., None])[..., 0]
        coefficients += step * np.minimum(1, _LONGEST_STEP / np.abs(step).max(1, keepdims=True).clip(1e-12))
    coefficients[counts.sum(0) == 0, 1:] = 0
    mean = np.exp(np.clip(log_library[:, None] + design @ coefficients.T, -15, 15))
    return coefficients, _dispersion(counts, mean)


def _dispersion(counts: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Moment estimate of theta (genes,): what the squared residuals exceed the mean by is mean^2 / theta."""
    excess = ((counts - mean) ** 2 - mean).sum(0)
    theta = (mean**2).sum(0) / np.maximum(excess, 1e-12)
    return np.clip(np.where(excess > 0, theta, _MOST_THETA), _LEAST_THETA, _MOST_THETA)
