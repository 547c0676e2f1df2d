"""Cells on which TBR's protocol is tried."""

import anndata as ad
import numpy as np
import pandas as pd

from latentree.tree import Tree

LATENTS = ["L1", "L2", "L3", "L4"]


def make_cells(tree: Tree, n_cells: int = 60, n_others: int = 30, latents=LATENTS, leaky=False):
    """Denoised-looking cells whose latent genes are mixtures of other genes."""
    rng = np.random.default_rng(0)
    types = np.repeat(list(tree.leaves), n_cells)
    centres = rng.normal(size=(len(tree.leaves), 8))[np.repeat(np.arange(len(tree.leaves)), n_cells)]
    programs = centres + rng.normal(size=centres.shape)
    genes = programs @ rng.normal(size=(8, len(latents) + n_others)) + 4
    X = (genes + 0.05 * rng.normal(size=genes.shape)).astype(np.float32)
    names = [*latents, *(f"G{i}" for i in range(n_others))]
    cells = ad.AnnData(
        X, obs=pd.DataFrame(index=[f"c{i}" for i in range(len(X))]), var=pd.DataFrame(index=names)
    )
    cells.obs["cell_type"] = pd.Categorical(types)
    cells.obs["split"] = pd.Categorical(
        rng.choice(["train", "validation", "test"], len(X), p=[0.6, 0.2, 0.2])
    )
    cells.var["modelled"] = True
    cells.uns["latentree"] = {"leaky": leaky}
    return cells
