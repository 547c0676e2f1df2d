"""What the cells say about the weights of all environments, for latents that stay as they are."""

from dataclasses import dataclass

import numpy as np

from latentree.tbr.link import mean_deviance, mean_of
from latentree.tbr.moments import Moments, with_constant

# a probability nearer to 0 or 1 than this counts as this far in the curvature, so that no cell has weight 0
_LEAST_CURVATURE = 1e-3
# prior sd of a change of a log odds per sd of a latent
_LOGIT_PRIOR_SD = 2.0


@dataclass(frozen=True)
class SquaredErrors:
    """Evidence of a phenotype with the identity link: second moments hold all of it.

    Parameters
    ----------
    moments
        Of the cells; for a model without intercept those of :meth:`Moments.without_intercept`.
    """

    moments: Moments
    linear = True

    @property
    def n_cells(self) -> float:
        return float(self.moments.n_cells.sum())

    @property
    def size(self) -> int:
        """n_latents + 1."""
        return self.moments.cross.shape[1]

    def quadratic(self, weights: np.ndarray) -> Moments:
        """Moments whose squared error is the deviance, near ``weights`` (n_environments, n_latents + 1)."""
        return self.moments

    def error(self, weights: np.ndarray) -> float:
        """Mean deviance of the cells."""
        return self.moments.mse(weights)

    def prior_ratio(self, weights: np.ndarray) -> float:
        """Variance of the noise over the prior variance, 1, of a change."""
        return self.moments.mse(weights)


@dataclass(frozen=True)
class LogOdds:
    """Evidence of a phenotype of 0 and 1 with the logistic link: iteratively reweighted least squares.

    Parameters
    ----------
    z
        (n_cells, n_latents + 1) latents and the constant 1.
    y, codes
        (n_cells,) 0 or 1; environment number.
    n_environments
        Number of environments.
    multiplicity
        (n_cells,) how often each cell counts; None: once.
    intercept
        Whether the model has one; without, the constant's weights are 0.
    """

    z: np.ndarray
    y: np.ndarray
    codes: np.ndarray
    n_environments: int
    multiplicity: np.ndarray | None = None
    intercept: bool = True
    linear = False

    @property
    def n_cells(self) -> float:
        return float(len(self.y) if self.multiplicity is None else self.multiplicity.sum())

    @property
    def size(self) -> int:
        """n_latents + 1."""
        return self.z.shape[1]

    def quadratic(self, weights: np.ndarray) -> Moments:
        """Moments of the working response; as in :class:`SquaredErrors`."""
        predictor = self._predictor(weights)
        p = mean_of(predictor, "logistic")
        curvature = np.maximum(p * (1 - p), _LEAST_CURVATURE)
        count = np.ones(len(p)) if self.multiplicity is None else self.multiplicity
        moments = Moments.zero(self.size, self.n_environments)
        moments.add(self.z, predictor + (self.y - p) / curvature, self.codes, curvature * count)
        # errors are means over cells, however much a cell's curvature is
        moments.n_cells[:] = np.bincount(self.codes, count, minlength=self.n_environments)
        return moments if self.intercept else moments.without_intercept()

    def error(self, weights: np.ndarray) -> float:
        """Mean deviance of the cells."""
        return mean_deviance(self._predictor(weights), self.y, "logistic", self.multiplicity)

    def prior_ratio(self, weights: np.ndarray) -> float:
        """1 over the prior variance of a change; a Bernoulli has no noise of its own to weigh it with."""
        return 1 / _LOGIT_PRIOR_SD**2

    def _predictor(self, weights: np.ndarray) -> np.ndarray:
        predictor: np.ndarray = (self.z * weights[self.codes]).sum(axis=1)
        return predictor


Evidence = SquaredErrors | LogOdds


def evidence_of(
    z: np.ndarray,
    y: np.ndarray,
    codes: np.ndarray,
    n_environments: int,
    *,
    binary: bool,
    intercept: bool = True,
    multiplicity: np.ndarray | None = None,
) -> Evidence:
    """Evidence of cells in memory.

    Parameters
    ----------
    z
        (n_cells, n_latents) latents.
    y, codes
        (n_cells,) phenotype, environment number.
    binary
        Whether the link is logistic.
    intercept
        Whether the model has one.
    multiplicity
        (n_cells,) how often each cell counts; None: once.
    """
    full = with_constant(z)
    if binary:
        return LogOdds(full, y.astype(np.float64), codes, n_environments, multiplicity, intercept)
    moments = Moments.zero(full.shape[1], n_environments)
    moments.add(full, y, codes, multiplicity)
    return SquaredErrors(moments if intercept else moments.without_intercept())
