"""What the experiments share: fits, half of the generated cells held out, errors and W on them."""

from collections.abc import Mapping, Sequence
from typing import Any

import anndata
import numpy as np
import pandas as pd
import torch
from scipy.optimize import linear_sum_assignment

from latentree import api
from latentree.fitted import Fit
from latentree.models.layers import noise
from latentree.models.likelihoods import with_fits
from latentree.models.sparse_vae_module import SparseVAEModule
from latentree.models.torch_model import TorchFactorModel
from latentree.models.vae import VAEModule
from latentree.splits import SPLITS
from latentree.synthetic import SyntheticData

HELD_OUT, VALIDATION = 0.5, 0.05
"""Shares of the cells, as in the Sparse VAE's study (two folds, one of them held out)."""


def fit_on_cpu(
    cells: anndata.AnnData, model: str, n_factors: int, seed: int, settings: Mapping[str, Any] | None = None
) -> Fit:
    """One fit, on the CPU wherever it runs: the same part gives the same numbers everywhere."""
    return api.fit(cells, model, n_factors, seed, settings, device="cpu", progress=False)


def fit_stack_on_cpu(
    cells: Sequence[anndata.AnnData],
    model: str,
    n_factors: int,
    seeds: Sequence[int],
    settings: Mapping[str, Any],
) -> list[Fit]:
    """As :func:`fit_on_cpu`, of one fit for each of many data sets."""
    return api.fit_stack(cells, model, n_factors, seeds, settings, device="cpu")


def split_in_half(data: SyntheticData, seed: int) -> anndata.AnnData:
    """The data set with half of its cells held out and a tenth of the others for validation."""
    n_cells = len(data.values)
    order = np.random.default_rng(seed).permutation(n_cells)
    n_test, n_validation = round(HELD_OUT * n_cells), round(VALIDATION * n_cells)
    sides = np.full(n_cells, "train", dtype=object)
    sides[order[:n_test]] = "test"
    sides[order[n_test : n_test + n_validation]] = "validation"
    return cells_of(data.values, sides)


def cells_of(values: np.ndarray, sides: np.ndarray) -> anndata.AnnData:
    """Values (n_cells, n_genes) and each cell's side of the split, as :func:`latentree.fit` takes them."""
    obs = pd.DataFrame(
        {"split": pd.Categorical(sides, categories=list(SPLITS))},
        index=[f"cell{i}" for i in range(len(values))],
    )
    genes = pd.DataFrame(index=[f"x{j}" for j in range(values.shape[1])])
    return anndata.AnnData(values, obs=obs, var=genes)


def rows_of(cells: anndata.AnnData, side: str) -> np.ndarray:
    """Positions of the cells on one side of the split."""
    return np.flatnonzero(cells.obs["split"] == side)


def reconstruction(done: Fit, x: np.ndarray) -> np.ndarray:
    """Means (n_cells, n_genes) decoded from the posterior means of x (n_cells, n_genes).

    A fit shows its latents permuted and turned; the model encodes and decodes its own.
    """
    return done.model.reconstruct(done.model.transform(x))


@torch.no_grad()
def drawn_reconstruction(done: Fit, x: np.ndarray, seed: int) -> np.ndarray:
    """As :func:`reconstruction`, of one draw from each cell's posterior: the error that the paper reports."""
    assert isinstance(done.model, TorchFactorModel)
    module = done.model.module
    generator = torch.Generator().manual_seed(seed)
    scaled = torch.from_numpy(done.model.scaling.apply(x))
    if isinstance(module, VAEModule):
        z = module.transform(module.exact_sample(module.posterior(scaled), generator))
    else:
        assert isinstance(module, SparseVAEModule)
        features = module.cell_features(scaled)
        given = None if features is None else with_fits(features)
        mean, log_variance = (part[0] * module.alive[0] for part in module.encoder(with_fits(scaled), given))
        z = mean + noise(tuple(mean.shape), generator, mean.device) * (0.5 * log_variance).exp()
    return done.model.reconstruct(z.numpy())


def is_alive(done: Fit) -> np.ndarray:
    """(n_factors,) bool: which factors do anything."""
    return done.factors.uns["latentree"]["factors"]["alive"].to_numpy(dtype=bool)


def wrong_entries(data: SyntheticData, codes: np.ndarray, support: np.ndarray, rows: np.ndarray) -> int:
    """Entries of W's support unlike the truth's.

    Each true factor is matched to one code by |correlation|; codes without a partner should be empty.

    Parameters
    ----------
    codes
        (n_rows, n_codes), of the cells ``rows`` of the data.
    support
        (n_genes, n_codes) bool.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.corrcoef(data.factors[rows].T, codes.T)
    n_true = data.mask.shape[1]
    cross = np.abs(np.nan_to_num(correlation[:n_true, n_true:]))
    true, code = linear_sum_assignment(cross, maximize=True)
    wanted = np.zeros_like(support)
    wanted[:, code] = data.mask[:, true]
    return int((wanted != support).sum())


def few_epochs(quick: bool) -> Mapping[str, Any]:
    """Settings that make a fit of the quick variant quick."""
    return {"max_epochs": 3} if quick else {}
