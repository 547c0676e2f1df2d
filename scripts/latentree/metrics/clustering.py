"""How well clusters of the latents agree with the cell types."""

import numpy as np
from numpy.typing import ArrayLike

from latentree.metrics.accuracy import standardisation


def cluster_cells(latents: np.ndarray, n_clusters: int, seed: int = 0) -> np.ndarray:
    """k-means on standardised latents, the best of 10 starts.

    Parameters
    ----------
    latents
        Shape (n_cells, n_factors).
    n_clusters
        Number of clusters; the number of cells is the most there can be.
    seed
        Seed of the starts.

    Returns
    -------
    Cluster of each cell, int32 array of shape (n_cells,).
    """
    from sklearn.cluster import KMeans

    z = np.asarray(latents, dtype=np.float64)
    centre, scale = standardisation(z)
    z = (z - centre) / scale
    # where fewer cells differ than clusters are asked for, scikit-learn would warn and leave clusters empty
    n_clusters = min(n_clusters, len(np.unique(z, axis=0)))
    return KMeans(n_clusters=n_clusters, n_init=10, random_state=seed).fit_predict(z)


def ari(labels: ArrayLike, clusters: ArrayLike) -> float:
    """Adjusted Rand index (Hubert and Arabie, J. Classif. 2:193, 1985): 1 for equal partitions, 0 by chance.

    Parameters
    ----------
    labels, clusters
        Two partitions of the same cells, shape (n_cells,).
    """
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(np.asarray(labels), np.asarray(clusters)))


def nmi(labels: ArrayLike, clusters: ArrayLike) -> float:
    """Normalised mutual information: mutual information over the mean of the two entropies; from 0 to 1.

    Parameters
    ----------
    labels, clusters
        Two partitions of the same cells, shape (n_cells,).
    """
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(np.asarray(labels), np.asarray(clusters)))
