"""How much each cell type uses each factor of a fit."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from latentree.scores import LoadedFit, sorted_fits

USAGE_COLUMNS = [
    "model", "n_factors", "seed", "factor", "cell_type", "n_cells", "mean_usage", "share_using",
    "specificity",
]  # fmt: skip
_ENDS = (1, 99)
"""Percentiles between which a factor's range lies; a cell beyond its middle uses the factor."""


def usage_table(fits: Sequence[LoadedFit]) -> pd.DataFrame:
    """Usage of every live factor by every cell type, over all cells of the fit.

    Returns
    -------
    Columns ``USAGE_COLUMNS``, types in alphabetical order. mean_usage: the type's mean latent minus that of
    all cells, in units of the factor's sd over all cells. share_using: share of the type's cells whose
    latent lies above the middle of the factor's range (from the 1st to the 99th percentile of all cells).
    specificity: probability that a random cell of the type uses the factor more than a random cell of the
    other types (area under the ROC curve; ties count half): 1 all of them, .5 no difference, 0 none; NaN
    where there is one type only.
    """
    tables = [_of_one_fit(fit) for fit in sorted_fits(fits)]
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=USAGE_COLUMNS)


def in_units_of_sd(latents: np.ndarray) -> np.ndarray:
    """Latents (n_cells, n_factors) as float64 with mean 0 and sd 1; a constant one is 0 everywhere."""
    centred = latents - latents.mean(axis=0, dtype=np.float64)
    spread = centred.std(axis=0)
    return centred / np.where(spread > 0, spread, 1.0)


def _of_one_fit(fit: LoadedFit) -> pd.DataFrame:
    latents = in_units_of_sd(fit.latents[:, fit.alive])
    factors = np.array(fit.factor_names)[fit.alive]
    types, codes = np.unique(fit.cell_types, return_inverse=True)
    n_cells = np.bincount(codes)
    uses = latents > np.percentile(latents, _ENDS, axis=0).mean(axis=0)
    return pd.DataFrame(
        {
            "model": fit.model,
            "n_factors": fit.n_factors,
            "seed": fit.seed,
            "factor": np.repeat(factors, len(types)),
            "cell_type": np.tile(types, len(factors)),
            "n_cells": np.tile(n_cells, len(factors)),
            "mean_usage": _means(latents, codes, n_cells).ravel(),
            "share_using": _means(uses, codes, n_cells).ravel(),
            "specificity": _specificity(latents, codes, n_cells).ravel(),
        }
    )


def _means(values: np.ndarray, codes: np.ndarray, n_cells: np.ndarray) -> np.ndarray:
    """Mean of each type, (n_factors, n_types), of values (n_cells, n_factors)."""
    sums = [np.bincount(codes, weights=column, minlength=len(n_cells)) for column in values.T]
    return np.array(sums).reshape(-1, len(n_cells)) / n_cells


def _specificity(latents: np.ndarray, codes: np.ndarray, n_cells: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each type against the others, (n_factors, n_types), from ranks."""
    if len(n_cells) < 2:
        return np.full((latents.shape[1], len(n_cells)), np.nan)
    ranks = np.zeros_like(latents) if not latents.size else rankdata(latents, axis=0)
    # the U statistic of Mann and Whitney, over the number of pairs
    return (_means(ranks, codes, n_cells) - (n_cells + 1) / 2) / (len(codes) - n_cells)
