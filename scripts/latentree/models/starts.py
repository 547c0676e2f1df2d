"""Where a Sparse VAE starts: varimax-rotated probabilistic principal components, or random weights.

Pure numpy; deterministic. The varimax start sees nothing but the covariance of the training cells.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.linalg
from scipy.sparse.linalg import eigsh

# a variance below this is rounding error: the gene is constant
CONSTANT = 1e-10
# a noise variance below this share of the gene's variance would let one gene define a factor
_LEAST_NOISE = 0.05
# genes per axis from which Lanczos iterations are quicker than all eigenvectors, and take no copies
_LANCZOS_FROM = 10


@dataclass(frozen=True)
class Start:
    """Starting values of a factor model x = offset + L z + noise.

    Attributes
    ----------
    loadings
        (n_genes, n_factors), in units of x.
    scores
        (n_genes, n_factors): ``x @ scores`` is the posterior mean of z under one noise level for all genes.
    noise_variance
        (n_genes,), in units of x squared; 1 for constant genes, which have no loadings either.
    posterior_variance
        (n_factors,): variances of z given a cell, likewise.
    offset
        (n_genes,): 0, because x is centred.
    support
        (n_genes, n_factors) bool, which factors a gene may use; None: all. A gene may use a factor on
        which it has no slope: by a curve, or in an interaction.
    correlation
        (n_factors, n_factors) of the factors; None: they start uncorrelated.
    batch_effects
        (n_genes, n_batches) added to x in each batch; None: 0.
    """

    loadings: np.ndarray
    scores: np.ndarray
    noise_variance: np.ndarray
    posterior_variance: np.ndarray
    offset: np.ndarray
    support: np.ndarray | None = None
    correlation: np.ndarray | None = None
    batch_effects: np.ndarray | None = None


def varimax(
    loadings: np.ndarray, kaiser: float = 0.0, n_iterations: int = 500, tol: float = 1e-9
) -> np.ndarray:
    """The rotation that maximises the variance of squared loadings (Kaiser 1958).

    Parameters
    ----------
    loadings
        (n_genes, n_factors).
    kaiser
        Rows are divided by their length to this power: 1 is Kaiser's normalisation, 0 none.
    n_iterations, tol
        Iterations at most; stop when the criterion rises by less than this share.

    Returns
    -------
    (n_factors, n_factors), orthogonal.
    """
    lengths = np.linalg.norm(loadings, axis=1, keepdims=True)
    rows = loadings / np.where(lengths > 0, lengths, 1) ** kaiser
    rotation, criterion = np.eye(loadings.shape[1]), 0.0
    for _ in range(n_iterations):
        rotated = rows @ rotation
        squares = rotated * rotated
        gradient = rows.T @ (rotated * (squares - squares.mean(axis=0)))
        left, singular_values, right = np.linalg.svd(gradient)
        rotation = left @ right
        if singular_values.sum() <= criterion * (1 + tol):
            break
        criterion = singular_values.sum()
    return rotation


def varimax_start(
    covariance: np.ndarray,
    n_factors: int,
    rotate: Literal["axes", "loadings"] = "axes",
    reliability: np.ndarray | None = None,
) -> Start:
    """Probabilistic principal components, rotated by varimax, with the posterior scores they imply.

    Principal axes V have loadings ``V * sqrt(eigenvalue - rest)`` (Tipping and Bishop 1999), ``rest`` being
    the mean of the eigenvalues left out. Varimax of the loadings keeps the factors uncorrelated and lets
    the few strong components rule the rotation. Varimax of the axes themselves, of length 1 each, lets the
    factors correlate as it finds them; on the same span they agree better between disjoint halves of the
    cells (docs/sparse_vae.md). Each factor points where its loadings' cubes are positive (skew); a gene's
    noise is what the loadings leave of its variance.

    Parameters
    ----------
    covariance
        (n_genes, n_genes) of the scaled training values.
    n_factors
        At most n_genes.
    rotate
        What varimax makes simple: the axes, or their loadings (uncorrelated factors).
    reliability
        (n_factors,) in [0, 1] of each axis (:func:`axis_reliability`): scores hear little of an axis that
        other cells would not show. None: all are heard alike.
    """
    variance = np.diag(covariance)
    eigenvalues, vectors, rest = leading_axes(covariance, n_factors)
    vectors = vectors * (variance > CONSTANT)[:, None]
    # a component no stronger than the rest has no place of its own
    sd = np.sqrt(np.maximum(eigenvalues - rest, 1e-9 * max(eigenvalues[0], CONSTANT)))
    # z = turn' u for uncorrelated components u of unit variance
    turn = sd[:, None] * varimax(vectors) if rotate == "axes" else varimax(vectors * sd)
    turn = turn / np.linalg.norm(turn, axis=0)
    loadings = (vectors * sd) @ np.linalg.inv(turn).T
    sign = np.where((loadings**3).sum(0) < 0, -1.0, 1.0)
    loadings, turn = loadings * sign, turn * sign
    correlation = turn.T @ turn
    noise = np.maximum(variance - ((loadings @ correlation) * loadings).sum(1), _LEAST_NOISE * variance)
    # one noise level for all genes here, so that the scores span the principal components. Weighing each
    # gene by its own noise would undo the gene scaling (zheng2017, 10 factors, accuracy .81 against .84)
    even = max(rest, _LEAST_NOISE * variance.mean())
    heard = sd**2 / (sd**2 + even)
    if reliability is not None:
        heard = heard * np.sqrt(reliability)
    return Start(
        loadings=loadings,
        scores=(vectors * (heard / sd)) @ turn,
        noise_variance=np.where(variance > CONSTANT, noise, 1.0),
        posterior_variance=((1 - heard)[:, None] * turn**2).sum(0),
        offset=np.zeros(len(covariance)),
        correlation=correlation,
    )


def axis_reliability(scores: np.ndarray, n_factors: int, n_splits: int = 3) -> np.ndarray:
    """How much of each leading axis comes back in the leading axes of disjoint halves of the cells.

    The squared length of an axis seen from one half's axes times that from the other's, averaged over
    random splits into halves, which are the same in every call.

    Parameters
    ----------
    scores
        (n_cells, n_axes) of more leading axes than are asked about, leading first: what the halves' axes
        are looked for in.
    n_factors
        Leading axes to judge, at most n_axes.
    n_splits
        Pairs of halves.

    Returns
    -------
    (n_factors,) in [0, 1].
    """
    rng = np.random.default_rng(0)
    n_cells = len(scores)
    reliability = np.zeros(n_factors)
    for _ in range(n_splits):
        first = np.zeros(n_cells, dtype=bool)
        first[rng.permutation(n_cells)[: n_cells // 2]] = True
        seen = np.ones(n_factors)
        for half in (scores[first], scores[~first]):
            axes = np.linalg.eigh(half.T @ half)[1][:, -n_factors:]
            seen *= (axes[:n_factors] ** 2).sum(1)
        reliability += seen / n_splits
    return np.clip(reliability, 0, 1)


def leading_axes(covariance: np.ndarray, n_factors: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Largest eigenvalues (n_factors,), their vectors (n_genes, n_factors), and the mean of the others."""
    n_genes = len(covariance)
    if n_genes > _LANCZOS_FROM * n_factors:
        # a fixed vector to start from, so that the same covariance gives the same bits
        begin = np.random.default_rng(0).standard_normal(n_genes)
        eigenvalues, vectors = eigsh(covariance, n_factors, v0=begin)
        order = np.argsort(eigenvalues)
        eigenvalues, vectors = eigenvalues[order], vectors[:, order]
    else:
        # all of them: LAPACK's search for some leaves some out where many are equal
        eigenvalues, vectors = (found[..., -n_factors:] for found in scipy.linalg.eigh(covariance))
    n_rest = n_genes - n_factors
    rest = max(np.trace(covariance) - eigenvalues.sum(), 0.0) / n_rest if n_rest else 0.0
    return eigenvalues[::-1], _oriented(vectors)[:, ::-1], rest


def random_start(variance: np.ndarray, n_factors: int, rng: np.random.Generator) -> Start:
    """The paper's start: standard normal weights, all of a gene's variance taken for noise, no scores.

    Parameters
    ----------
    variance
        (n_genes,) of the scaled training values.
    n_factors
        Number of factors.
    rng
        Source of the weights.
    """
    shape = (len(variance), n_factors)
    return Start(
        loadings=rng.standard_normal(shape),
        scores=np.zeros(shape),
        noise_variance=np.where(variance > CONSTANT, variance, 1.0),
        posterior_variance=np.ones(n_factors),
        offset=np.zeros(len(variance)),
    )


def _oriented(vectors: np.ndarray) -> np.ndarray:
    """Eigenvectors with their largest entry positive: LAPACK's signs differ between builds."""
    largest = vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])]
    return vectors * np.where(largest < 0, -1.0, 1.0)
