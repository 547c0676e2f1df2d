"""One simulated phenotype on real cells: what estimators are fitted to and scored on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latentree.errors import InputError
from latentree.seeds import derive_seed
from latentree.settings import TBRSettings
from latentree.simulate import node_weights, sparse_changes
from latentree.tbr.estimators import Estimator, TBRFit, fit_tbr
from latentree.tbr_config import TBRConfig
from latentree.tbr_variables import Variables, training_rows
from latentree.tree import Tree

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class Phenotype:
    """A simulated phenotype ``y = w_e . Z + noise``.

    ``y`` and ``signal`` (without the noise) are (n_cells,), ``weights`` (n_cells, n_latents) each cell's.
    """

    y: np.ndarray
    signal: np.ndarray
    weights: np.ndarray


def simulate_phenotype(
    Z: np.ndarray, environments: np.ndarray, tree: Tree, n_changes: int, noise: float, seed: int
) -> Phenotype:
    """Simulate a phenotype whose effects change on every branch of the tree.

    Parameters
    ----------
    Z
        (n_cells, n_latents), standardised.
    environments
        (n_cells,) node names.
    n_changes
        Latents whose effect changes on each branch, by N(0, 1); the root's effects are N(0, 1).
    noise
        Standard deviation of the noise.
    """
    rng = np.random.default_rng(seed)
    n_latents = Z.shape[1]
    changes = sparse_changes(tree.n_nodes - 1, n_latents, rng, n_changes=n_changes)
    weights = node_weights(tree, rng.normal(size=(n_latents,)), changes)
    mine = weights[[tree.index[name] for name in environments]]
    signal = (mine * Z).sum(axis=1)
    return Phenotype(signal + noise * rng.normal(size=len(Z)), signal, mine)


@dataclass(frozen=True)
class Rows:
    """Rows to fit, to choose by and to score on, each int64 and ascending."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @classmethod
    def of(cls, cells: "AnnData") -> "Rows":
        """The split of the cells of the environments stage."""
        if "split" not in cells.obs:
            raise InputError("cells", "no obs column 'split'", "Give the cells of the environments stage")
        split = cells.obs["split"].to_numpy()
        rows = cls(
            training_rows(cells), np.flatnonzero(split == "validation"), np.flatnonzero(split == "test")
        )
        if len(rows.test) < 2 or len(rows.train) < 2:
            raise InputError(
                "cells",
                f"{len(rows.train)} training and {len(rows.test)} test cells",
                "Raise environments.max_cells_per_type, so that both have at least 2",
            )
        return rows

    def among(self, chosen: np.ndarray) -> "Rows":
        """The same split of the chosen cells, bool (n_cells,)."""
        return Rows(*(rows[chosen[rows]] for rows in (self.train, self.validation, self.test)))


@dataclass(frozen=True)
class Problem:
    """A phenotype on cells of a tree's environments, ready to be fitted.

    ``environments`` is (n_cells,) node names; ``n_changes`` and ``seed`` are the phenotype's.
    """

    variables: Variables
    phenotype: Phenotype
    environments: np.ndarray
    tree: Tree
    rows: Rows
    settings: TBRConfig
    n_changes: int
    seed: int
    threads: int = 1

    @classmethod
    def simulated(
        cls,
        cells: "AnnData",
        variables: Variables,
        tree: Tree,
        settings: TBRConfig,
        n_changes: int,
        seed: int,
        threads: int = 1,
    ) -> "Problem":
        """The phenotype of a seed and a number of changes, the same for every estimator.

        Parameters
        ----------
        cells
            environments/cells.h5ad, with obs["cell_type"] and obs["split"].
        variables
            Their latents and inputs.
        """
        environments = cells.obs["cell_type"].astype(str).to_numpy(dtype=object)
        phenotype = simulate_phenotype(
            variables.Z,
            environments,
            tree,
            n_changes,
            settings.phenotype.noise,
            derive_seed(seed, "tbr", "phenotype", n_changes),
        )
        rows = Rows.of(cells)
        return cls(variables, phenotype, environments, tree, rows, settings, n_changes, seed, threads)

    def fitted(self, estimator: Estimator, rows: Rows | None = None, phi: str | None = None) -> TBRFit:
        """Fit an estimator to the training cells, or to those among other rows; with another network."""
        chosen = rows or self.rows
        settings = self.settings.model_dump(include=set(TBRSettings.model_fields))
        return fit_tbr(
            self.variables.X,
            self.phenotype.y,
            self.environments,
            self.tree,
            n_latents=self.settings.n_drawn_latents,
            estimator=estimator,
            seed=self.seed,
            settings=TBRSettings(**{**settings, "phi": phi or self.settings.phi}),
            threads=self.threads,
            train=chosen.train,
            validation=chosen.validation,
        )
