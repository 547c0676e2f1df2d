"""How far the cell types lie apart in the latents."""

import numpy as np
from numpy.typing import ArrayLike

from latentree.metrics.accuracy import standardisation
from latentree.metrics.sampling import subsample


def silhouette(latents: np.ndarray, labels: ArrayLike, max_cells: int = 5000, seed: int = 0) -> float:
    """Mean silhouette width (Rousseeuw, J. Comput. Appl. Math. 20:53, 1987) on standardised latents.

    For one cell ``(b - a) / max(a, b)``, with ``a`` the mean Euclidean distance to the other cells of its
    label and ``b`` to those of the nearest other label: 1 where labels are far apart and narrow, 0 where
    they overlap, below 0 where cells lie nearer to another label. The only cell of a label has width 0.

    Parameters
    ----------
    latents
        Shape (n_cells, n_factors). A dead factor that is not exactly constant becomes noise of full size
        when standardised, so living factors are what one wants to give.
    labels
        Cell types or clusters, shape (n_cells,).
    max_cells
        Of more cells so many are drawn with ``seed``, because time and memory grow with their square.
    seed
        Seed of the draw.

    Returns
    -------
    A number from -1 to 1; nan with one label, with as many labels as cells, or without factors.
    """
    from sklearn.metrics import silhouette_score

    z, names = np.asarray(latents, dtype=np.float64), np.asarray(labels)
    if z.ndim != 2 or len(z) != len(names):
        raise ValueError(f"one label for each cell is needed, not {names.shape} for latents of {z.shape}")
    kept = subsample(len(z), max_cells, seed)
    z, names = z[kept], names[kept]
    if z.shape[1] == 0 or not 2 <= len(np.unique(names)) < len(names):
        return float("nan")
    centre, scale = standardisation(z)
    return float(silhouette_score((z - centre) / scale, names))
