"""Weights of all environments for given latents: sparse changes along the tree, then a refit.

Given the latents, the objective of TBR is convex in the weights (a lasso fused along the tree). It is
solved by ADMM on second moments, which gives exact zeros; the changes that are not zero are then
refitted without the penalty. With the logistic link the moments are those of the working response at
the weights without penalty, and refits are Newton steps.
"""

from dataclasses import dataclass, replace

import numpy as np

from latentree.tbr.evidence import Evidence
from latentree.tbr.structure import Branches
from latentree.tbr.tree_problem import TreeProblem

# penalties tried where there are validation cells, in units of the one asked for; the first allows no change
_PENALTY_PATH = (np.inf, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03)
# a sparser solution is taken where its validation error is at most one standard error larger, the relative
# standard error of a mean of squared normal residuals; never less than this, because phi is not exact
_TOLERATED = 0.01
_MOST_NEWTON_STEPS = 20
_NEWTON_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Solution:
    """Weights of every node of the reduced tree, float64 (n_nodes, n_latents + 1), intercept last.

    ``penalty`` is the one that chose the changes, ``validation_error`` the mean deviance of the
    validation cells, NaN where there are none.
    """

    weights: np.ndarray
    penalty: float
    validation_error: float = np.nan

    def changes(self, branches: Branches) -> np.ndarray:
        """Child minus parent, (n_branches, n_latents + 1); exactly 0 where nothing changes."""
        difference: np.ndarray = self.weights[1:] - self.weights[branches.reduced.parents[1:]]
        return difference


def sparse_solution(
    evidence: Evidence, validation: Evidence | None, branches: Branches, allowed: np.ndarray, penalty: float
) -> Solution:
    """Weights whose changes along the tree are sparse, for latents that stay as they are.

    Parameters
    ----------
    evidence, validation
        Of training and validation cells. With validation cells several penalties are tried and the
        sparsest changes are taken among those that predict these cells about best.
    allowed
        bool (n_latents + 1,): what may change along the tree, intercept last. The intercept's
        changes are not penalised.
    penalty
        Weight of the L1 norm of the changes (see :class:`latentree.settings.TBRSettings`).
    """
    start = least_squares(evidence, branches, allowed)
    n_branches = branches.reduced.n_nodes - 1
    if penalty == 0 or n_branches == 0 or not allowed[:-1].any():
        return start if validation is None else _judged(start, validation, branches)
    problem = TreeProblem.build(evidence.quadratic(start.weights[branches.nodes]), branches)
    ridge = _ridge(evidence, start.weights[branches.nodes])
    path = [penalty * factor for factor in (_PENALTY_PATH if validation is not None else (1.0,))]
    found = []
    for value in path:
        rates = np.where(allowed, value, np.inf)
        rates[-1] = 0.0 if allowed[-1] else np.inf
        changed = problem.sparse_fit(np.tile(rates, (n_branches, 1)), start.weights)
        weights = problem.refit(changed, ridge)
        if not evidence.linear:
            weights = _minimised(evidence, branches, changed, ridge, start.weights)
        found.append(Solution(weights, value))
    if validation is None:
        return found[0]
    found = [_judged(solution, validation, branches) for solution in found]
    tolerated = max(_TOLERATED, float(np.sqrt(2 / validation.n_cells)))
    most = (1 + tolerated) * min(solution.validation_error for solution in found)
    return next(solution for solution in found if solution.validation_error <= most)


def _judged(solution: Solution, validation: Evidence, branches: Branches) -> Solution:
    """The solution with its validation error."""
    return replace(solution, validation_error=validation.error(solution.weights[branches.nodes]))


def least_squares(evidence: Evidence, branches: Branches, allowed: np.ndarray) -> Solution:
    """Weights of least deviance without a penalty; arguments and result as in :func:`sparse_solution`."""
    n_nodes = branches.reduced.n_nodes
    changes = np.tile(allowed, (n_nodes - 1, 1))
    weights = np.zeros((n_nodes, evidence.size))
    if evidence.linear:
        weights = _minimised(evidence, branches, changes, 1e-3, weights)
    ridge = _ridge(evidence, weights[branches.nodes])
    return Solution(_minimised(evidence, branches, changes, ridge, weights), 0.0)


def _minimised(
    evidence: Evidence, branches: Branches, changes: np.ndarray, ridge: float, start: np.ndarray
) -> np.ndarray:
    """Weights (n_nodes, size) of least deviance and ridge where only these changes may differ from zero."""

    def solved(weights: np.ndarray) -> np.ndarray:
        problem = TreeProblem.build(evidence.quadratic(weights[branches.nodes]), branches)
        # where 0 and 1 are separated without error only this keeps the root's weights finite
        return problem.refit(changes, ridge, root_ridge=0.0 if evidence.linear else ridge)

    if evidence.linear:
        return solved(start)
    # Newton from no effect at all: its steps are bounded there, and the deviance is convex
    weights, error = np.zeros_like(start), np.inf
    for _ in range(_MOST_NEWTON_STEPS):
        proposed = solved(weights)
        found = evidence.error(proposed[branches.nodes])
        if found > error * (1 + _NEWTON_TOLERANCE):
            proposed = (weights + proposed) / 2
            found = evidence.error(proposed[branches.nodes])
        moved = np.abs(proposed - weights).max(initial=0)
        weights, error = proposed, found
        if moved < _NEWTON_TOLERANCE:
            break
    return weights


def _ridge(evidence: Evidence, weights: np.ndarray) -> float:
    """Ridge of the squared changes that a normal prior on them amounts to."""
    return 2 * evidence.prior_ratio(weights) * len(weights) / evidence.n_cells
