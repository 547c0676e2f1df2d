"""Which genes drive each latent: integrated gradients, or the weights of a linear map.

Integrated gradients (Sundararajan, Taly and Yan, ICML 2017) share the difference of a latent between
a cell and a reference cell out over the genes: gradient along the straight way between the two, times
the gene's difference. The shares add up to the latent's difference. Where the inputs are components of
genes the way between two cells is straight in both, so the shares go back to genes through the axes.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from latentree.tbr.phi import Phi

N_STEPS = 64
_CHUNK = 512


@dataclass(frozen=True)
class GeneShares:
    """How the genes move the latents, over some cells.

    Parameters
    ----------
    slope
        float64 (n_latents, n_genes): mean gradient on the way from the reference, times the gene's sd
        about the reference. For a linear map its weight, in latent units per sd of the gene.
    importance
        float64 (n_latents, n_genes): mean absolute share of the gene.
    """

    slope: np.ndarray
    importance: np.ndarray


def path_gradients(phi: Phi, X: np.ndarray, reference: np.ndarray, n_steps: int = N_STEPS) -> np.ndarray:
    """Mean gradient of every latent on the way from the reference to each cell.

    The midpoints of ``n_steps`` equal parts of the way; exact for a linear map with one step.

    Parameters
    ----------
    X
        Inputs, (n_cells, n_inputs).
    reference
        (n_inputs,), or one for each cell (n_cells, n_inputs).

    Returns
    -------
    float64 (n_latents, n_cells, n_inputs). Times ``X - reference``: the shares of the inputs.
    """
    n_latents = phi.last.out_features
    start = np.broadcast_to(np.asarray(reference, dtype=np.float32), X.shape)
    if phi.kind == "linear":
        weights = (phi.last.weight / phi.scale).detach().numpy().astype(np.float64)
        return np.broadcast_to(weights[:, None, :], (n_latents, *X.shape))
    total = np.zeros((n_latents, *X.shape))
    difference = X.astype(np.float32) - start
    for step in range(n_steps):
        points = start + np.float32((step + 0.5) / n_steps) * difference
        for first in range(0, len(X), _CHUNK):
            rows = slice(first, first + _CHUNK)
            at = torch.from_numpy(np.ascontiguousarray(points[rows])).requires_grad_(True)
            z = phi(at)
            for latent in range(n_latents):
                # cells do not touch each other, so the gradient of the sum holds each cell's own
                (gradient,) = torch.autograd.grad(z[:, latent].sum(), at, retain_graph=True)
                total[latent, rows] += gradient.numpy()
    return total / n_steps


def gene_shares(
    phi: Phi,
    X: np.ndarray,
    genes: np.ndarray,
    reference: np.ndarray,
    axes: np.ndarray | None = None,
    n_steps: int = N_STEPS,
) -> GeneShares:
    """Share the latents of cells out over genes.

    Parameters
    ----------
    X
        Inputs of the network, (n_cells, n_inputs).
    genes
        Values of the genes, (n_cells, n_genes): X itself where genes are the inputs.
    reference
        The reference's genes: (n_genes,), or one row for each cell (n_cells, n_genes), such as the mean
        cell of its own type.
    axes
        (n_genes, n_inputs), where ``X = (genes - some centre) @ axes``; None where genes are inputs.
    """
    difference = genes.astype(np.float64) - reference
    step = difference if axes is None else difference @ axes
    gradients = path_gradients(phi, X, X - step, n_steps)
    spread = np.sqrt((difference**2).mean(axis=0))
    slope, importance = [], []
    for gradient in gradients:
        if phi.kind == "linear":
            gradient = gradient[:1]
        of_genes = gradient if axes is None else gradient @ axes.T
        slope.append(of_genes.mean(axis=0) * spread)
        importance.append(np.abs(of_genes * difference).mean(axis=0))
    return GeneShares(np.array(slope), np.array(importance))


def gene_table(shares: GeneShares, genes: list[str], latents: list[str], n_genes: int) -> pd.DataFrame:
    """The leading genes of each latent: latent, gene, weight, importance, rank (1 is the first).

    Ranked by importance; ``weight`` is the slope with its sign. Genes without any share are left out.
    """
    rows = []
    for name, slope, importance in zip(latents, shares.slope, shares.importance, strict=True):
        order = np.argsort(-importance, kind="stable")[:n_genes]
        rows += [
            (name, genes[i], float(slope[i]), float(importance[i]), rank + 1)
            for rank, i in enumerate(order)
            if importance[i] > 0
        ]
    return pd.DataFrame(rows, columns=["latent", "gene", "weight", "importance", "rank"])
