"""Disentanglement (Eastwood and Williams 2018): does each code tell of one true factor only?"""

import numpy as np
from scipy.stats import entropy

# keeps the entropy of a code without any importance defined, as in disentanglement_lib
_TINY = 1e-11


def dci_importances(factors: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """What gradient-boosted trees make of each code to predict each true factor.

    A code that does not vary has importance 0.

    Parameters
    ----------
    factors
        (n_points, n_factors) true factors.
    codes
        (n_points, n_codes) estimated ones.

    Returns
    -------
    (n_codes, n_factors); columns sum to 1, or to 0 where nothing predicts the factor.
    """
    from sklearn.ensemble import GradientBoostingRegressor

    factors, codes = np.asarray(factors, dtype=np.float64), np.asarray(codes, dtype=np.float64)
    if factors.ndim != 2 or codes.ndim != 2 or len(factors) != len(codes):
        raise ValueError(f"two matrices with the same points are needed, not {factors.shape}, {codes.shape}")
    matrix = np.zeros((codes.shape[1], factors.shape[1]))
    varies = np.ptp(codes, axis=0) > 0
    if varies.any():
        for k, factor in enumerate(factors.T):
            # trees visit the codes in random order, which decides ties
            trees = GradientBoostingRegressor(random_state=0).fit(codes[:, varies], factor)
            matrix[varies, k] = trees.feature_importances_
    return matrix


def dci_disentanglement(factors: np.ndarray, codes: np.ndarray, n_points: int | None = None) -> float:
    """Disentanglement score in [0, 1], as in disentanglement_lib and Moran et al. (2022).

    One minus the entropy (to the base of the number of true factors) of each code's importances for the
    true factors, averaged with the codes' shares of all importance. Rotated factors score low; permuted,
    rescaled or left-out ones do not matter.

    Parameters
    ----------
    factors
        (n_cells, n_factors) true factors, at least two.
    codes
        (n_cells, n_codes) estimated ones.
    n_points
        Only the first so many cells count; None: all.

    Returns
    -------
    0 where no code varies.
    """
    if np.ndim(factors) == 2 and np.shape(factors)[1] < 2:
        raise ValueError("at least two true factors are needed to tell them apart")
    matrix = dci_importances(factors[:n_points], codes[:n_points])
    total = matrix.sum()
    if total == 0:
        return 0.0
    purity = 1 - entropy(matrix.T + _TINY, base=matrix.shape[1])
    return float(purity @ matrix.sum(1) / total)


def dci_16_points(factors: np.ndarray, codes: np.ndarray) -> float:
    """:func:`dci_disentanglement` on the first 16 cells, as the Sparse VAE's reference code has it.

    Its evaluator hands 16 points to the trees, so its published scores rest on that many. Very noisy: for
    comparison with those scores only.
    """
    return dci_disentanglement(factors, codes, n_points=16)
