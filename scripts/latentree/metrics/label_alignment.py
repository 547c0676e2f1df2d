"""Does each cell type have a factor of its own?"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from scipy.special import xlogy

_BINS = 10


@dataclass(frozen=True)
class LabelAlignment:
    """How well factors and labels match one to one.

    Attributes
    ----------
    value
        Mean over labels of the score with their factors; nan where no label has a score.
    chance
        Mean of the same over permuted labels. Not 0: the best of many pairs is taken.
    labels
        Names of the labels, in the order of ``scores`` and ``factor``.
    scores
        Score of every pair, shape (n_factors, n_labels).
    factor
        Index of each label's factor, shape (n_labels,). -1 where there are fewer factors than labels: such a
        label counts 0 in the mean; and where the label has no score: it does not count.
    """

    value: float
    chance: float
    labels: tuple[str, ...]
    scores: np.ndarray
    factor: np.ndarray


def factor_label_alignment(
    latents: np.ndarray,
    labels: ArrayLike,
    score: Literal["smi", "spn"] = "smi",
    n_permutations: int = 20,
    seed: int = 0,
) -> LabelAlignment:
    """Latent matching score (LMS-SMI, LMS-SPN), after Moinfar and Theis (DRVI, bioRxiv 2024.11.06.622266).

    Scores every factor for every label by :func:`scaled_mutual_information` ("smi") or
    :func:`same_process_neighbours` ("spn"), finds the one-to-one matching of factors and labels with the
    largest sum, and divides that sum by the number of labels. One factor that tells many types apart, or many
    factors that only together tell one, score low. The definitions are those of DRVI's metrics; ties between
    equal latents are broken at random, so that a dead factor says nothing even where cells are sorted by
    type.

    Parameters
    ----------
    latents
        Shape (n_cells, n_factors).
    labels
        Cell types, shape (n_cells,). A label of one cell or of all cells has no score.
    score
        Which of the two.
    n_permutations
        Permutations of the labels for the level of chance; 0: it is nan.
    seed
        Seed of the permutations and of the order of ties.
    """
    z, names = np.asarray(latents, dtype=np.float64), np.asarray(labels, dtype=str)
    if z.ndim != 2 or len(z) != len(names):
        raise ValueError(f"one label for each cell is needed, not {names.shape} for latents of {z.shape}")
    rng = np.random.default_rng(seed)
    if score not in ("smi", "spn"):
        raise ValueError(f"the score is smi or spn, not {score!r}")
    prepared, of_pairs = (_bins(z), _information) if score == "smi" else (_orders(z, rng), _neighbours)
    found, code = np.unique(names, return_inverse=True)
    of_label = np.arange(len(found)) == code[:, None]
    scores = of_pairs(prepared, of_label)
    value, factor = _match(scores)
    chance = [_match(of_pairs(prepared, rng.permutation(of_label)))[0] for _ in range(n_permutations)]
    return LabelAlignment(
        value, float(np.mean(chance)) if chance else float("nan"), tuple(found.tolist()), scores, factor
    )


def scaled_mutual_information(latents: np.ndarray, of_label: np.ndarray) -> np.ndarray:
    """SMI of every factor with every label: I(bin of the latent; has the label) / H(has the label).

    The bins are ten of equal width from the latent's smallest to its largest value.

    Parameters
    ----------
    latents
        Shape (n_cells, n_factors).
    of_label
        Which cells have which label, bool, shape (n_cells, n_labels).

    Returns
    -------
    Numbers from 0 to 1, shape (n_factors, n_labels); nan for a label that no cell or every cell has. A
    constant factor scores 0.
    """
    return _information(_bins(np.asarray(latents, dtype=np.float64)), np.asarray(of_label, dtype=bool))


def same_process_neighbours(
    latents: np.ndarray, of_label: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """SPN of every factor with every label: are cells with the label next to each other along the factor?

    With cells sorted by the factor, s the number of neighbouring pairs that both have the label, n_c the
    number of cells with it, and p their share: max(0, s / (n_c - 1) - p) / (1 - p). p is what a random
    order gives in expectation; 1 is one unbroken run.

    Parameters
    ----------
    latents
        Shape (n_cells, n_factors).
    of_label
        Which cells have which label, bool, shape (n_cells, n_labels).
    rng
        Orders cells with equal latents.

    Returns
    -------
    Numbers from 0 to 1, shape (n_factors, n_labels); nan for a label of fewer than two cells or of all.
    """
    return _neighbours(_orders(np.asarray(latents, dtype=np.float64), rng), np.asarray(of_label, dtype=bool))


def _bins(z: np.ndarray) -> np.ndarray:
    """Bin of each latent, (n_cells, n_factors)."""
    low, width = z.min(axis=0), np.ptp(z, axis=0)
    share = np.divide(z - low, width, out=np.zeros_like(z), where=width > 0)
    return np.minimum((share * _BINS).astype(np.int64), _BINS - 1)


def _orders(z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The cells sorted by each factor, equal ones at random, (n_cells, n_factors)."""
    orders = np.empty(z.shape, dtype=np.int64)
    for k, column in enumerate(z.T):
        orders[:, k] = np.lexsort((rng.permutation(len(z)), column))
    return orders


def _information(bins: np.ndarray, of_label: np.ndarray) -> np.ndarray:
    n_cells, share = len(of_label), of_label.mean(axis=0)
    entropy = -(xlogy(share, share) + xlogy(1 - share, 1 - share))
    scores = np.full((bins.shape[1], of_label.shape[1]), np.nan)
    defined = entropy > 0
    weights = of_label[:, defined].T.astype(np.float64)
    for k, column in enumerate(bins.T):
        # (2, n_labels, n_bins): shares of cells with and without the label in each bin
        in_bin = np.bincount(column, minlength=_BINS) / n_cells
        with_label = (weights @ (column[:, None] == np.arange(_BINS))) / n_cells
        joint = np.stack([with_label, np.maximum(in_bin - with_label, 0)])
        margin = np.stack([share[defined], 1 - share[defined]])
        independent = margin[:, :, None] * in_bin
        information = (xlogy(joint, joint) - xlogy(joint, independent)).sum(axis=(0, 2))
        scores[k, defined] = np.clip(information / entropy[defined], 0, 1)
    return scores


def _neighbours(order: np.ndarray, of_label: np.ndarray) -> np.ndarray:
    n, share = of_label.sum(axis=0), of_label.mean(axis=0)
    scores = np.full((order.shape[1], of_label.shape[1]), np.nan)
    defined = (n > 1) & (share < 1)
    for k, cells in enumerate(order.T):
        along = of_label[cells][:, defined]
        together = (along[:-1] & along[1:]).sum(axis=0) / (n[defined] - 1)
        scores[k, defined] = np.maximum(together - share[defined], 0) / (1 - share[defined])
    return scores


def _match(scores: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean score of the best one-to-one matching over labels that have scores, and each label's factor."""
    factor = np.full(scores.shape[1], -1)
    defined = np.flatnonzero(~np.isnan(scores).any(axis=0))
    if len(defined) == 0:
        return float("nan"), factor
    rows, columns = linear_sum_assignment(scores[:, defined], maximize=True)
    factor[defined[columns]] = rows
    return float(scores[rows, defined[columns]].sum() / len(defined)), factor
