"""UMAP of a fit's latents, coloured by cell type."""

from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from latentree.plots.embedding import draw_embedding, principal_components
from latentree.plots.style import Target


def draw_umap(factors: Any, model: str, path: Target, **options: Any) -> None:
    """As :func:`latentree.plots.embedding.draw_embedding`, by UMAP instead of t-SNE."""
    draw_embedding(factors, model, path, method="UMAP", place=embed_by_umap, **options)


def embed_by_umap(latents: np.ndarray, seed: int) -> np.ndarray:
    """Two coordinates (n_cells, 2) per cell, started from the first two principal components.

    Fewer than 5 cells are shown by their principal components.
    """
    # seconds to import, and many more to compile
    import umap

    start = principal_components(latents)
    if len(latents) < 5:
        return start
    model = umap.UMAP(n_neighbors=min(15, len(latents) - 1), init=start, random_state=seed, n_jobs=1)
    with threadpool_limits(1):
        return np.asarray(model.fit_transform(latents))
