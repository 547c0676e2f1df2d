"""How many labelled cells a classifier on the latents needs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

SIZES = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


@dataclass(frozen=True)
class FewShotCurve:
    """Accuracy by number of labelled cells.

    Attributes
    ----------
    sizes
        Numbers of labelled cells, those that there were cells for.
    mean, sd
        Mean and standard deviation (of a sample; nan for one shuffle) of the accuracy over shuffles, shape
        (n_sizes,).
    n_test
        Test cells of each shuffle.
    """

    sizes: tuple[int, ...]
    mean: np.ndarray
    sd: np.ndarray
    n_test: int


def few_shot_accuracy(
    latents: np.ndarray,
    labels: ArrayLike,
    sizes: Sequence[int] = SIZES,
    n_shuffles: int = 10,
    n_test: int = 2000,
    test_share: float = 0.3,
    seed: int = 0,
) -> FewShotCurve:
    """Accuracy of a small random forest on latents against the number of labelled cells it has seen.

    Miao et al. (2022): a forest of 50 trees of depth 4, trained on the first cells of a shuffle that takes
    the types in turn, tested on other cells. Their code tests on the last cells in turn, which is fair where
    all types are equally frequent; here test cells are set aside before types are taken in turn, so that they
    have the types' own frequencies.

    Parameters
    ----------
    latents
        Latents of cells that the model was not fitted to, shape (n_cells, n_factors).
    labels
        Their types, shape (n_cells,).
    sizes
        Numbers of labelled cells. Those above the number of cells that are left for training are left out.
    n_shuffles
        Shuffles averaged over; the forest's own seed is always 0.
    n_test
        Test cells, unless ``test_share`` gives fewer.
    test_share
        The largest share of all cells to test on.
    seed
        Seed of the shuffles, so that models given the same cells see the same ones.

    Raises
    ------
    ValueError
        Where there are too few cells to test on one and train on one.
    """
    from sklearn.ensemble import RandomForestClassifier

    z, types = np.asarray(latents, dtype=np.float64), np.asarray(labels, dtype=str)
    if z.ndim != 2 or len(z) != len(types):
        raise ValueError(f"one label for each cell is needed, not {types.shape} for latents of {z.shape}")
    held_out = min(n_test, int(test_share * len(z)))
    n_train = len(z) - held_out
    if held_out < 1 or n_train < 1:
        raise ValueError(f"of {len(z)} cells {held_out} would be left to test on and {n_train} to train on")
    fitting = tuple(size for size in sizes if size <= n_train)
    rng = np.random.default_rng(seed)
    scores = np.empty((n_shuffles, len(fitting)))
    for shuffle in range(n_shuffles):
        order = rng.permutation(len(z))
        train, test = in_turn(order[:n_train], types), order[n_train:]
        for i, size in enumerate(fitting):
            forest = RandomForestClassifier(n_estimators=50, max_depth=4, random_state=0)
            forest.fit(z[train[:size]], types[train[:size]])
            scores[shuffle, i] = np.mean(forest.predict(z[test]) == types[test])
    sd = scores.std(axis=0, ddof=1) if n_shuffles > 1 else np.full(len(fitting), np.nan)
    return FewShotCurve(fitting, scores.mean(axis=0), sd, held_out)


def in_turn(cells: np.ndarray, types: np.ndarray) -> np.ndarray:
    """Cells reordered so that the types take turns: the first of every type, the second of every type, ...

    Within a turn, and within a type, cells keep their order; a type that has run out is passed over.

    Parameters
    ----------
    cells
        Indices of cells.
    types
        Types of all cells.
    """
    turn = np.empty(len(cells), dtype=np.int64)
    for name in np.unique(types[cells]):
        of_type = types[cells] == name
        turn[of_type] = np.arange(of_type.sum())
    return cells[np.argsort(turn, kind="stable")]
