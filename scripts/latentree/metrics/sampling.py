"""Which cells count where all of them would take too long."""

import numpy as np


def subsample(n_cells: int, max_cells: int, seed: int) -> np.ndarray:
    """Indices of at most ``max_cells`` cells, drawn without replacement, in their order.

    Parameters
    ----------
    n_cells
        Number of cells there are.
    max_cells
        The most that are wanted; with as many cells or fewer all of them are taken.
    seed
        Seed of the draw.

    Returns
    -------
    Increasing integer array.
    """
    if n_cells <= max_cells:
        return np.arange(n_cells)
    return np.sort(np.random.default_rng(seed).choice(n_cells, max_cells, replace=False))
