"""The weights of a fit solved again for other cells or other counts of the same cells; phi stays."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from latentree.errors import InputError
from latentree.tbr.cells import Names, checked_names
from latentree.tbr.evidence import evidence_of
from latentree.tbr.result import TBRFit, environment_codes, named_changes
from latentree.tbr.sparse_changes import sparse_solution
from latentree.tbr.structure import Branches


@dataclass(frozen=True)
class Resolved:
    """Weights, intercepts, changes and root as in :class:`TBRFit`, in the phenotype's own units."""

    weights: pd.DataFrame
    intercepts: pd.Series
    changes: pd.DataFrame
    root: pd.Series


def solve_again(
    fit: TBRFit,
    Z: np.ndarray,
    y: np.ndarray,
    environments: Names,
    multiplicity: np.ndarray | None = None,
) -> Resolved:
    """Sparse weights for given latents, by the penalty that the fit chose.

    Parameters
    ----------
    fit
        Tells the tree, the environments, the link, the unit of the phenotype and the penalty. A
        baseline's weights are the same everywhere.
    Z
        (n_cells, n_latents): latents, as ``fit.latents`` gives them.
    y
        (n_cells,) phenotype.
    environments
        Node of each cell; those without training cells in the fit count for their nearest one.
    multiplicity
        (n_cells,) how often each cell counts (bootstrap), not negative; None: once. Environments whose
        cells all count 0 take their weights from their neighbours.

    Raises
    ------
    InputError
        The shapes do not fit each other, or counts are negative or all 0.
    """
    names = checked_names(environments, fit.tree)
    counts = np.ones(len(names)) if multiplicity is None else np.asarray(multiplicity, dtype=np.float64)
    target = np.asarray(y, dtype=np.float64)
    if not np.shape(Z) == (len(names), len(fit.root)) or not target.shape == counts.shape == (len(names),):
        raise InputError(
            "Z, y, environments, multiplicity",
            f"have shapes {np.shape(Z)}, {target.shape}, ({len(names)},) and {counts.shape}",
            f"Give {len(fit.root)} latents, a phenotype, a node and a count for each cell",
        )
    if counts.min(initial=0) < 0 or counts.sum() == 0:
        raise InputError("multiplicity", "has negative counts or none at all", "Give counts of 0 and more")
    observed = tuple(fit.weights.index)
    branches = Branches.identified(fit.tree, observed)
    evidence = evidence_of(
        np.asarray(Z),
        target / fit.unit,
        environment_codes(names, fit.tree, observed),
        len(observed),
        binary=fit.link == "logistic",
        intercept=fit.settings.intercept != "none",
        multiplicity=counts,
    )
    changing = np.full(len(fit.root) + 1, fit.estimator != "baseline")
    changing[-1] = fit.settings.intercept == "environment"
    solution = sparse_solution(evidence, None, branches, changing, fit.penalty)
    weights, latents = fit.unit * solution.weights, list(fit.root.index)
    table = weights[branches.nodes]
    return Resolved(
        weights=pd.DataFrame(table[:, :-1], index=fit.weights.index, columns=latents),
        intercepts=pd.Series(table[:, -1], index=fit.weights.index, name="intercept"),
        changes=named_changes(weights[:, :-1], branches, latents),
        root=pd.Series(weights[0, :-1], index=latents, name=fit.tree.root),
    )
