"""What a fit of tree-based regularisation gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from latentree.errors import InputError
from latentree.settings import TBRSettings
from latentree.tbr.cells import Matrix, Names, checked_inputs, checked_names
from latentree.tbr.identifiability import Identifiability, weights_rank
from latentree.tbr.link import Link, mean_of
from latentree.tbr.phi import Phi
from latentree.tbr.structure import Branches
from latentree.tree import Tree

Estimator = Literal["baseline", "joint", "two_stage"]


@dataclass(frozen=True)
class TBRFit:
    """A fitted estimator.

    Parameters
    ----------
    estimator, settings, seed, tree
        What was fitted.
    link
        ``identity``, or ``logistic``: weights, changes and intercepts are log odds then.
    phi
        The network from inputs to latents; latents have unit variance over the training cells.
    weights
        Environments that have training cells x latents (``latent1``, ...).
    intercepts
        Constant of each of these environments.
    changes
        Branches of the whole tree, named by their child nodes, x latents: what is added to the
        parent's weights, exactly 0 where nothing changes. The weights of an environment are
        ``root`` plus the changes on its path.
    root
        Weights at the root of the tree. Where the root has no cells, they are the weights of its
        first child with cells below, because only differences are identified there.
    branches
        For each branch of the tree ``carried_by``: the branch that holds its change. Another name
        than its own where only a sum is identified (chains through nodes without cells, the two
        branches below a root without cells), empty where no cells lie below.
    history
        One row per 50 steps: stage, phi, penalty, step, the loss by its parts (phenotype, changes),
        learning_rate, cpu_seconds, wall_seconds.
    validation_error
        Of the validation cells: mean squared error in units of the phenotype's variance, or mean
        deviance; NaN where there are none.
    candidates
        What the validation cells chose among: phi, penalty (of the gradient steps), validation_error,
        chosen.
    n_latents_tried
        Where the number of latents was chosen: n_latents, singular_value, validation_error (of weights
        of so low a rank), chosen. Empty otherwise.
    penalty
        The one that chose the changes.
    unit
        The phenotype's training sd, which penalties refer to; 1 with the logistic link.
    singular_values
        Of the weights in units of the latents' standard deviations: as many large ones as latents
        whose effects the environments can tell apart.
    unmixing
        (n_latents, n_latents): ``latents(X) @ unmixing.T`` are the latents as they were before the
        rotation of two_stage, mixed arbitrarily; the identity for the other estimators.
    identifiability
        Whether the environments can tell the latents apart; read its ``warnings`` first.
    """

    estimator: Estimator
    settings: TBRSettings
    seed: int
    tree: Tree
    link: Link
    phi: Phi
    weights: pd.DataFrame
    intercepts: pd.Series
    changes: pd.DataFrame
    root: pd.Series
    branches: pd.DataFrame
    history: pd.DataFrame
    validation_error: float
    candidates: pd.DataFrame
    n_latents_tried: pd.DataFrame
    penalty: float
    unit: float
    singular_values: np.ndarray
    unmixing: np.ndarray
    identifiability: Identifiability

    @property
    def rank(self) -> int:
        """Number of singular values of the weights above 3% of the largest."""
        return weights_rank(self.singular_values)

    def latents(self, X: Matrix) -> np.ndarray:
        """Latents of any cells, float32 (n_cells, n_latents), from inputs (n_cells, n_inputs)."""
        inputs = checked_inputs(X)
        if inputs.shape[1] != len(self.phi.centre):
            raise InputError(
                "X",
                f"has {inputs.shape[1]} inputs, the fit has {len(self.phi.centre)}",
                "Give the same inputs in the same order",
            )
        return self.phi.latents(inputs)

    def linear_predictor(self, X: Matrix, environments: Names) -> np.ndarray:
        """The phenotype, or with the logistic link its log odds, of any cells, float64 (n_cells,).

        An environment without training cells is given the weights of the nearest one that had some.
        """
        names = checked_names(environments, self.tree)
        z = self.latents(X)
        if len(names) != len(z):
            raise InputError(
                "environments", f"{len(names)} names for {len(z)} cells", "Give one node name for each cell"
            )
        codes = environment_codes(names, self.tree, tuple(self.weights.index))
        # latent by latent: an array of all cells' weights would be as large as the latents, in float64
        predicted = self.intercepts.to_numpy()[codes]
        for i, effects in enumerate(self.weights.to_numpy().T):
            predicted += z[:, i] * effects[codes]
        return predicted

    def predict(self, X: Matrix, environments: Names) -> np.ndarray:
        """Expected phenotype of any cells (the probability of 1, if logistic), float64 (n_cells,)."""
        return mean_of(self.linear_predictor(X, environments), self.link)


def environment_codes(environments: pd.Categorical, tree: Tree, observed: tuple[str, ...]) -> np.ndarray:
    """Row in ``observed`` of each cell's environment, or of the nearest observed node; int64 (n_cells,)."""
    row = {name: i for i, name in enumerate(observed)}
    used = np.unique(environments.codes)
    names = {int(code): str(environments.categories[code]) for code in used}
    nearest = None if all(name in row for name in names.values()) else tree.nearest_of_all(observed)
    known = np.zeros(len(environments.categories), dtype=np.int64)
    for code, name in names.items():
        known[code] = row[name] if nearest is None else row[tree.names[nearest[tree.index[name]]]]
    return known[environments.codes]


def named_changes(weights: np.ndarray, branches: Branches, latents: Sequence[str]) -> pd.DataFrame:
    """Changes on every branch of the whole tree, from weights (n_nodes, n_latents) of the reduced one."""
    reduced = weights[1:] - weights[branches.reduced.parents[1:]]
    # `+ 0.0` turns minus zeros into zeros
    table = branches.in_whole_tree(reduced) + 0.0
    return pd.DataFrame(table, index=pd.Index(branches.tree.arcs, name="branch"), columns=list(latents))
