"""How many latents the environments' weights need: their rank, judged by cells that did not make them."""

import numpy as np
import pandas as pd

from latentree.settings import TBRSettings
from latentree.tbr.cells import Cells
from latentree.tbr.fitting import Fit
from latentree.tbr.rotation import whitening
from latentree.tbr.sparse_changes import least_squares
from latentree.tree import Tree

# fewer latents are taken where the validation error is at most this much larger than the smallest
_TOLERATED = 0.02


def latents_tried(cells: Cells, tree: Tree, seed: int, settings: TBRSettings) -> pd.DataFrame:
    """Fit free weights for as many latents as are allowed, and ask how low a rank predicts as well.

    The paper takes the number of latents where the error of fits with more and more of them stops
    falling. Here one fit is enough: the best weights of rank r are its weights cut to their r leading
    singular directions.

    Returns
    -------
    A row for each number of latents from 1: n_latents, singular_value (of the weights of white latents),
    validation_error (training cells' where there are no validation cells), chosen.
    """
    most = min(settings.max_latents, cells.X.shape[1])
    fit = Fit(cells, tree, most, "two_stage", seed, settings)
    fit.train_first("free")
    allowed = np.append(np.ones(most, dtype=bool), settings.intercept == "environment")
    weights = least_squares(fit.evidence(cells.train), fit.branches, allowed).weights[fit.branches.nodes]
    white = whitening(fit.state.moments.covariance())
    effects = weights[:, :-1] @ np.linalg.inv(white)
    left, values, right = np.linalg.svd(effects, full_matrices=False)
    judge = fit.evidence(cells.validation if len(cells.validation) else cells.train)
    errors = []
    for rank in range(1, len(values) + 1):
        cut = (left[:, :rank] * values[:rank]) @ right[:rank] @ white
        errors.append(judge.error(np.column_stack([cut, weights[:, -1]])))
    found = np.array(errors)
    chosen = int(np.flatnonzero(found <= (1 + _TOLERATED) * found.min())[0])
    return pd.DataFrame(
        {
            "n_latents": np.arange(1, len(values) + 1),
            "singular_value": values / np.sqrt(len(effects)),
            "validation_error": found,
            "chosen": np.arange(len(values)) == chosen,
        }
    )
