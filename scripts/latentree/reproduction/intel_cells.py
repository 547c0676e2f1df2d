"""InteL-VAE's sparse selector and its clusters on real cells (Miao et al. 2022, Figure 7 and section 6.2)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import torch

from latentree.fitted import Fit
from latentree.metrics import ari, cluster_cells, few_shot_accuracy, latent_hoyer, nmi
from latentree.models.intel_sectors import Sectors
from latentree.models.intel_vae import IntelVAEModel
from latentree.reproduction.cell_data import prepared
from latentree.reproduction.held_out import (
    few_epochs,
    fit_on_cpu,
    rows_of,
)

N_FACTORS = 15
N_CLUSTERS = 7
GAMMAS = (0, 10, 30, 100, 300)
LABELLED = (10, 20, 50, 100, 200)
_N_SHUFFLES = 5
# a third of the default's steps: the differences between models are there already
_SCHEDULE = {"max_epochs": 60, "batch_size": 128}
_DEFAULT_GAMMA = 30
HOYER, ERROR, LOG_ERROR = "hoyer", "held-out mse", "log held-out mse"
ARI, NMI, SHARE_GAP, OWN_GAP = "ari", "nmi", "shares off the types'", "shares off the cells'"

SPARSE_MODELS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "vae": ("vae", {}),
    **{f"intel_vae gamma {gamma}": ("intel_vae", {"gamma": float(gamma)}) for gamma in GAMMAS},
    "intel_vae of codes": ("intel_vae", {"gamma": float(_DEFAULT_GAMMA), "penalise": "codes"}),
    "dd_vae sparse": ("dd_vae", {"prior": "sparse"}),
    "vsc": ("vsc", {}),
}
INTEL = f"intel_vae gamma {_DEFAULT_GAMMA}"
FEW_SHOT_MODELS = ("vae", INTEL, "dd_vae sparse", "vsc")
CLUSTER_MODELS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "intel_vae learned": ("intel_vae", {"mapping": "clusters", "n_clusters": N_CLUSTERS}),
    "intel_vae equal": (
        "intel_vae",
        {"mapping": "clusters", "n_clusters": N_CLUSTERS, "learn_proportions": False},
    ),
    "vae": ("vae", {}),
}


def few_shot(n_cells: int) -> str:
    """The metric's name."""
    return f"accuracy after {n_cells} cells"


def sparse_scores(file: Path, seed: int, *, quick: bool) -> dict[str, dict[str, float]]:
    """Sparsity, error and few-shot accuracy on the test cells of one split, by model."""
    cells = prepared(file, n_genes=100 if quick else 1000, split=seed)
    scores = {}
    for name, (model, settings) in SPARSE_MODELS.items():
        done, values, codes = _fitted(cells, model, settings, seed, quick=quick)
        error = float(np.square(done.model.reconstruct(codes) - values).mean())
        scores[name] = {HOYER: latent_hoyer(codes).value, ERROR: error, LOG_ERROR: float(np.log(error))}
        if name in FEW_SHOT_MODELS:
            types = cells.obs["cell_type"].to_numpy()[rows_of(cells, "test")]
            curve = few_shot_accuracy(codes, types, LABELLED, n_shuffles=1 if quick else _N_SHUFFLES)
            scores[name] |= {
                few_shot(n): float(mean) for n, mean in zip(curve.sizes, curve.mean, strict=True)
            }
    return scores


def cluster_scores(file: Path, seed: int, *, quick: bool) -> dict[str, dict[str, float]]:
    """How sectors agree with the types of one split's test cells, and their shares with the types'."""
    cells = prepared(file, n_genes=100 if quick else 1000, split=seed)
    types = cells.obs["cell_type"].to_numpy()[rows_of(cells, "test")]
    frequencies = cells.obs["cell_type"].value_counts(normalize=True).to_numpy()
    scores = {}
    for name, (model, settings) in CLUSTER_MODELS.items():
        done, values, codes = _fitted(cells, model, settings, seed, quick=quick)
        fitted = done.model
        error = float(np.square(fitted.reconstruct(codes) - values).mean())
        if isinstance(fitted, IntelVAEModel):
            found = sector_of(fitted, values)
            shares = np.array(fitted.facts()["cluster_shares"][0])
            own = np.bincount(found, minlength=len(shares)) / len(found)
            gaps = {
                SHARE_GAP: share_gap(shares, frequencies),
                OWN_GAP: 0.5 * float(np.abs(shares - own).sum()),
            }
        else:
            found, gaps = cluster_cells(codes, N_CLUSTERS, seed), {}
        scores[name] = {ARI: ari(types, found), NMI: nmi(types, found), ERROR: error, **gaps}
    return scores


def sector_of(model: IntelVAEModel, values: np.ndarray) -> np.ndarray:
    """The cluster of each cell's posterior mean, (n_cells,), from values (n_cells, n_genes) as in X."""
    mapping = model.module.mapping
    assert isinstance(mapping, Sectors)
    with torch.no_grad():
        posterior = model.module.posterior(torch.from_numpy(model.scaling.apply(values)))
    return mapping.labels(posterior.mean).numpy()


def share_gap(shares: np.ndarray, frequencies: np.ndarray) -> float:
    """Half of the sum of absolute differences of shares sorted by size, from 0 to 1.

    Which cluster is which type is open, so the largest is compared with the largest.
    """
    n = max(len(shares), len(frequencies))
    padded = [np.sort(np.pad(one, (0, n - len(one))))[::-1] for one in (shares, frequencies)]
    return 0.5 * float(np.abs(padded[0] - padded[1]).sum())


def _fitted(
    cells: anndata.AnnData, model: str, settings: Mapping[str, Any], seed: int, *, quick: bool
) -> tuple[Fit, np.ndarray, np.ndarray]:
    """The fit, and values (n_test, n_genes) and latents (n_test, n_factors) of the test cells."""
    given = {**_SCHEDULE, **settings, **few_epochs(quick)}
    done = fit_on_cpu(cells, model, N_FACTORS, seed, given)
    chosen = cells[rows_of(cells, "test"), cells.var["modelled"].to_numpy()].X
    values = chosen if isinstance(chosen, np.ndarray) else chosen.toarray()
    return done, values, done.model.transform(values)
