"""How far batches mix in the latents, cell type by cell type."""

import numpy as np
from numpy.typing import ArrayLike

from latentree.metrics.accuracy import standardisation
from latentree.metrics.sampling import subsample


def batch_mixing(
    latents: np.ndarray,
    batches: ArrayLike,
    cell_types: ArrayLike | None = None,
    n_neighbours: int = 30,
    max_cells: int = 20_000,
    seed: int = 0,
) -> float:
    """Neighbours from other batches, relative to their number if the batches were mixed at random.

    The neighbours of a cell are the nearest ones of its own cell type on standardised latents, so that
    batches with other shares of the types are not taken for batches that lie apart. With n cells of a type,
    n_b of them in the cell's batch, chance would make a share of (n - n_b) / (n - 1) of its neighbours come
    from other batches; the score is the number found over the number expected, both summed over cells.
    It is in the style of kBET and LISI (Buettner et al. 2019; Korsunsky et al. 2019), without their tests
    and perplexities.

    Parameters
    ----------
    latents
        Shape (n_cells, n_factors), living factors.
    batches
        Batch of each cell, shape (n_cells,).
    cell_types
        Type of each cell, shape (n_cells,); None: all cells are of one type. A type that occurs in one batch
        only cannot mix and does not count.
    n_neighbours
        Neighbours of each cell; all others of its type where there are fewer, which says nothing and gives
        exactly 1.
    max_cells
        Of more cells so many are drawn with ``seed``.
    seed
        Seed of the draw.

    Returns
    -------
    0 where every cell's neighbours are of its own batch, 1 (up to sampling error) where batches do not
    matter, above 1 where cells avoid their own batch; nan where no type occurs in two batches, or without
    factors.
    """
    from sklearn.neighbors import NearestNeighbors

    z, batch = np.asarray(latents, dtype=np.float64), np.asarray(batches)
    types = np.zeros(len(z), dtype=np.int64) if cell_types is None else np.asarray(cell_types)
    if z.ndim != 2 or not len(z) == len(batch) == len(types):
        raise ValueError(
            f"a batch and a type for each cell are needed, not {batch.shape} and {types.shape} for {z.shape}"
        )
    if z.shape[1] == 0:
        return float("nan")
    kept = subsample(len(z), max_cells, seed)
    z, batch, types = z[kept], batch[kept], types[kept]
    centre, scale = standardisation(z)
    z = (z - centre) / scale
    found = expected = 0.0
    for name in np.unique(types):
        cells = np.flatnonzero(types == name)
        _, code, counts = np.unique(batch[cells], return_inverse=True, return_counts=True)
        if len(counts) < 2:
            continue
        n, k = len(cells), min(n_neighbours, len(cells) - 1)
        # without an argument a cell is not its own neighbour, even among cells at the same place
        near = NearestNeighbors(n_neighbors=k).fit(z[cells]).kneighbors(return_distance=False)
        found += np.count_nonzero(code[near] != code[:, None])
        expected += k * float((counts * (n - counts)).sum()) / (n - 1)
    return found / expected if expected > 0 else float("nan")
