"""Tree-based regularisation: latent effects of inputs on a phenotype that change sparsely along a tree."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from latentree.config import checked
from latentree.errors import InputError, listed, nearest
from latentree.seeds import derive_seed
from latentree.settings import TBRSettings
from latentree.tbr.cells import Cells, Matrix, Names, checked_cells
from latentree.tbr.fitting import Fitting
from latentree.tbr.latent_number import latents_tried
from latentree.tbr.link import is_binary
from latentree.tbr.phi import PhiKind, phi_kinds
from latentree.tbr.result import Estimator, TBRFit
from latentree.training import reproducible
from latentree.tree import Tree


def fit_tbr(
    X: Matrix,
    y: Sequence[float] | np.ndarray | pd.Series,
    environments: Names,
    tree: Tree,
    n_latents: int | Literal["auto"] = 3,
    estimator: Estimator = "two_stage",
    seed: int = 0,
    settings: TBRSettings | Mapping[str, Any] | None = None,
    threads: int = 1,
    *,
    train: np.ndarray | None = None,
    validation: np.ndarray | None = None,
) -> TBRFit:
    """Fit ``y = w_e . phi(X)`` with weights ``w_e`` that change sparsely along a tree of environments.

    Parameters
    ----------
    X
        Inputs, (n_cells, n_inputs), in memory or on disk (a dense ``h5py.Dataset``, or ``X`` of an AnnData
        opened with ``backed="r"``); standardised on the training cells inside.
    y
        Phenotype, (n_cells,). Where it is 0 or 1 everywhere its log odds are modelled (settings: link).
    environments
        Node of the tree that each cell belongs to, (n_cells,); any node may have cells. An environment
        with one cell is allowed: what its cell cannot tell is taken from its neighbours on the tree.
    tree
        Rooted tree of the environments.
    n_latents
        Number of latents, or ``auto``: as many as the environments' weights need to predict the
        validation cells (``n_latents_tried`` of the result tells what was tried).
    estimator
        ``baseline``: the same weights everywhere. ``joint``: Adam on network, weights and the L1 norm of
        their changes (Layne et al.). ``two_stage``: free weights per environment, then the map of the
        latents under which changes are sparsest, then joint steps.
    seed
        Same seed, threads and machine: the same fit to the last bit.
    settings
        A :class:`TBRSettings` or a mapping of its keys.
    threads
        CPU threads.
    train, validation
        Rows to fit and rows to choose the sparsity by; a random tenth is held back where neither is given.

    Raises
    ------
    InputError
        The arguments do not fit each other or hold unusable values.
    NonFiniteLossError
        The loss became NaN or infinite; the message names its part.
    """
    options = settings if isinstance(settings, TBRSettings) else checked(TBRSettings, settings, "settings")
    if estimator not in get_args(Estimator):
        raise InputError(
            "estimator",
            f"{estimator!r} is none{nearest(str(estimator), get_args(Estimator))}",
            f"Use one of {listed(get_args(Estimator))}",
        )
    rng = np.random.default_rng(derive_seed(seed, "tbr", "split"))
    cells = checked_cells(X, y, environments, tree, train, validation, rng)
    n_inputs = cells.X.shape[1]
    if n_latents != "auto" and not 1 <= n_latents <= n_inputs:
        raise InputError(
            "n_latents",
            f"{n_latents} latents from {n_inputs} input(s)",
            "Ask for at least 1 and at most as many as inputs, or for 'auto'",
        )
    if options.link == "logistic" and not is_binary(cells.y):
        raise InputError(
            "y", "has values besides 0 and 1, but link is logistic", "Give 0 and 1, or use link: identity"
        )
    with reproducible(threads):
        if n_latents != "auto":
            return _best_fit(cells, tree, n_latents, estimator, seed, options)
        tried = latents_tried(cells, tree, seed, options)
        chosen = int(tried.loc[tried["chosen"], "n_latents"].iloc[0])
        return replace(_best_fit(cells, tree, chosen, estimator, seed, options), n_latents_tried=tried)


def _best_fit(
    cells: Cells, tree: Tree, n_latents: int, estimator: Estimator, seed: int, settings: TBRSettings
) -> TBRFit:
    """The fit with the network, and joint with the penalty, that predicts the validation cells best.

    Whole fits are compared: the errors of first stages chose worse networks on cells (docs/tbr.md).
    """
    validated = bool(len(cells.validation))
    asked = settings.penalty if isinstance(settings.penalty, list) else [settings.penalty]
    penalties = asked if validated and estimator == "joint" else asked[:1]

    def run(kind: PhiKind, penalty: float | None) -> TBRFit:
        fit = Fitting(cells, tree, n_latents, estimator, seed, settings, kind=kind, penalty=penalty)
        return fit.run()

    tried = [run(kind, penalties[0]) for kind in phi_kinds(settings.phi, len(cells.train), validated)]
    best = min(tried, key=lambda fit: fit.validation_error) if len(tried) > 1 else tried[0]
    others = [run(best.phi.kind, penalty) for penalty in penalties[1:]]
    if others:
        best = min([best, *others], key=lambda fit: fit.validation_error)
    candidates = [
        {
            "phi": fit.phi.kind,
            "penalty": fit.history["penalty"].iloc[0],
            "validation_error": fit.validation_error,
            "chosen": fit is best,
        }
        for fit in [*tried, *others]
    ]
    return replace(best, candidates=pd.DataFrame(candidates))
