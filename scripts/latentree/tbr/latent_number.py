"""How many latents the environments' weights need: their rank, judged by cells that did not make them."""

import numpy as np
import pandas as pd

from latentree.settings import TBRSettings
from latentree.tbr.cells import Cells
from latentree.tbr.fitting import TRIED, Fitting
from latentree.tbr.phi import PhiKind, phi_kinds
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
    validation_error (training cells' where there are no validation cells), chosen. Of the network whose
    smallest error is smallest, where the settings leave it open.
    """
    kinds = phi_kinds(settings.phi, len(cells.train), bool(len(cells.validation)))
    tried = [_tried(cells, tree, seed, settings, kind) for kind in kinds]
    return min(tried, key=lambda table: table["validation_error"].min())


def _tried(cells: Cells, tree: Tree, seed: int, settings: TBRSettings, kind: PhiKind) -> pd.DataFrame:
    """The table of one network."""
    most = min(settings.max_latents, cells.X.shape[1])
    fit = Fitting(cells, tree, most, "two_stage", seed, settings, kind=kind, penalty=None)
    fit.train_first()
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
    numbers = np.arange(len(values))
    columns = numbers + 1, values / np.sqrt(len(effects)), found, numbers == chosen
    return pd.DataFrame(dict(zip(TRIED, columns, strict=True)))
