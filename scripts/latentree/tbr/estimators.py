"""Tree-based regularisation: latent effects of inputs on a phenotype that change sparsely along a tree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import nn

from latentree.config import checked
from latentree.errors import InputError, listed, nearest
from latentree.seeds import derive_seed
from latentree.settings import TBRSettings
from latentree.tbr.cells import Cells, check_names, checked_cells, checked_inputs
from latentree.tbr.disk_inputs import moments_of_inputs
from latentree.tbr.moments import Moments, collect
from latentree.tbr.phi import FEW_CELLS, Phi, phi_kind
from latentree.tbr.rotation import sparsest_map, whitening
from latentree.tbr.sparse_changes import Solution, least_squares, sparse_solution
from latentree.tbr.steps import FreeWeights, StepData, Steps, TreeWeights
from latentree.tbr.structure import Branches
from latentree.training import reproducible
from latentree.tree import Tree

Number = TypeVar("Number", int, float)
Estimator = Literal["baseline", "joint", "two_stage"]

# of the learning rate: the rotated latents are a good start that must not be shaken off
_FINETUNE_RATE = 0.6
# what null means in the settings, below FEW_CELLS training cells and from there on
_PENALTY = (0.03, 0.1)
_WEIGHT_DECAY = (0.1, 0.0)
_N_STEPS = (800, 2500)
_N_FINETUNE_STEPS = (400, 1500)
_RANK_SHARE = 0.05


@dataclass(frozen=True)
class TBRFit:
    """A fitted estimator.

    Parameters
    ----------
    estimator, settings, seed, tree
        What was fitted.
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
        One row per 50 steps: stage, step, the loss by its parts (phenotype, changes),
        learning_rate, cpu_seconds, wall_seconds.
    singular_values
        Of the weights in units of the latents' standard deviations: as many large ones as latents
        whose effects the environments can tell apart.
    """

    estimator: Estimator
    settings: TBRSettings
    seed: int
    tree: Tree
    phi: Phi
    weights: pd.DataFrame
    intercepts: pd.Series
    changes: pd.DataFrame
    root: pd.Series
    branches: pd.DataFrame
    history: pd.DataFrame
    singular_values: np.ndarray

    @property
    def rank(self) -> int:
        """Number of singular values of the weights above 5% of the largest."""
        return int((self.singular_values > _RANK_SHARE * self.singular_values[0]).sum())

    def latents(self, X: np.ndarray | sparse.spmatrix) -> np.ndarray:
        """Latents of any cells, float32 (n_cells, n_latents), from inputs (n_cells, n_inputs)."""
        inputs = checked_inputs(X)
        if inputs.shape[1] != len(self.phi.centre):
            raise InputError(
                "X",
                f"has {inputs.shape[1]} inputs, the fit has {len(self.phi.centre)}",
                "Give the same inputs in the same order",
            )
        return self.phi.latents(inputs)

    def predict(
        self, X: np.ndarray | sparse.spmatrix, environments: Sequence[str] | np.ndarray
    ) -> np.ndarray:
        """Phenotype of any cells, float64 (n_cells,).

        An environment without training cells is given the weights of the nearest one that had some.
        """
        names = np.asarray(environments, dtype=object)
        check_names(names, self.tree)
        z = self.latents(X)
        if len(names) != len(z):
            raise InputError(
                "environments", f"{len(names)} names for {len(z)} cells", "Give one node name for each cell"
            )
        codes = environment_codes(names, self.tree, tuple(self.weights.index))
        effects = self.weights.to_numpy()[codes]
        return (z * effects).sum(axis=1) + self.intercepts.to_numpy()[codes]


def fit_tbr(
    X: np.ndarray | sparse.spmatrix,
    y: Sequence[float] | np.ndarray,
    environments: Sequence[str] | np.ndarray,
    tree: Tree,
    n_latents: int = 3,
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
        Inputs, (n_cells, n_inputs); standardised on the training cells inside.
    y
        Phenotype, (n_cells,).
    environments
        Node of the tree that each cell belongs to, (n_cells,); any node may have cells. An environment
        with one cell is allowed: what its cell cannot tell is taken from its neighbours on the tree.
    tree
        Rooted tree of the environments.
    n_latents
        Number of latents.
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
    if not 1 <= n_latents <= cells.X.shape[1]:
        raise InputError(
            "n_latents",
            f"{n_latents} latents from {cells.X.shape[1]} input(s)",
            "Ask for at least 1 and at most as many as inputs",
        )
    with reproducible(threads):
        return _Fit(cells, tree, n_latents, estimator, seed, options).run()


def environment_codes(environments: np.ndarray, tree: Tree, observed: tuple[str, ...]) -> np.ndarray:
    """Row in ``observed`` of each cell's environment, or of the nearest observed node; int64 (n_cells,)."""
    numbers, names = pd.factorize(environments)
    row = {name: i for i, name in enumerate(observed)}
    if all(name in row for name in names):
        return np.array([row[name] for name in names], dtype=np.int64)[numbers]
    nearest = tree.nearest_of_all(observed)
    known = [row[tree.names[nearest[tree.index[name]]]] for name in names]
    return np.array(known, dtype=np.int64)[numbers]


class _Fit:
    """One fit on its way: network, data and history that its stages share."""

    _moments: Moments  # of the training cells, for the latents as they are now

    def __init__(
        self, cells: Cells, tree: Tree, n_latents: int, estimator: Estimator, seed: int, settings: TBRSettings
    ) -> None:
        self.estimator, self.seed, self.settings, self.tree = estimator, seed, settings, tree
        self.n_latents = n_latents
        self.branches = Branches.identified(tree, set(cells.environments[cells.train].tolist()))
        self.n_environments = len(self.branches.environments)
        self.unit = float(cells.y[cells.train].std())
        codes = environment_codes(cells.environments, tree, self.branches.environments)
        y = (cells.y / self.unit).astype(np.float32)
        self.data = StepData(cells.X, y, codes, cells.train, cells.validation)
        self.penalty = self._by_size(settings.penalty, _PENALTY)
        self.history: list[dict[str, Any]] = []
        # every draw of this fit comes from here
        self.generator = torch.Generator().manual_seed(derive_seed(seed, "tbr", estimator, n_latents))
        centre, scale = moments_of_inputs(cells.X, cells.train)
        kind = phi_kind(settings.phi, len(cells.train))
        self.phi = Phi(kind, centre, scale, n_latents, self.generator)
        n_intercepts = self.n_environments if settings.intercept == "environment" else 1
        start = float(y[cells.train].mean()) if settings.intercept != "none" else 0.0
        self.intercept = nn.Parameter(
            torch.full((n_intercepts,), start), requires_grad=settings.intercept != "none"
        )

    def run(self) -> TBRFit:
        solution = {"baseline": self._baseline, "joint": self._joint, "two_stage": self._two_stage}[
            self.estimator
        ]()
        return self._result(solution)

    def _baseline(self) -> Solution:
        self._steps("baseline", FreeWeights(self._random((1, self.n_latents))))
        return self._final_solution(np.zeros(self.n_latents, dtype=bool))

    def _joint(self) -> Solution:
        shape = (self.branches.reduced.n_nodes - 1, self.n_latents)
        self._steps("joint", self._tree_weights(self._random((self.n_latents,)), np.zeros(shape)))
        return self._final_solution(np.ones(self.n_latents, dtype=bool))

    def _two_stage(self) -> Solution:
        self._steps("free", FreeWeights(self._random((self.n_environments, self.n_latents))))
        self._rotate()
        changing = np.ones(self.n_latents, dtype=bool)
        if self._by_size(self.settings.n_finetune_steps, _N_FINETUNE_STEPS) == 0:
            return self._final_solution(changing)
        allowed = self._allowed(changing)
        moments = self._solvable(self._moments)
        solution = sparse_solution(moments, None, self.branches, allowed, self.penalty)
        with torch.no_grad():
            offset = solution.weights[self.branches.nodes, -1]
            self.intercept.copy_(torch.from_numpy(offset[: len(self.intercept)]))
        root, changes = solution.weights[0, :-1], solution.changes(self.branches)[:, :-1]
        self._steps("finetune", self._tree_weights(root, changes))
        return self._final_solution(changing)

    def _rotate(self) -> None:
        """Mix the latents so that their weights change sparsely between neighbouring environments."""
        allowed = self._allowed(np.ones(self.n_latents, dtype=bool))
        solution = least_squares(self._solvable(self._moments), self.branches, allowed)
        white = whitening(self._moments.covariance())
        weights = solution.weights[self.branches.nodes, :-1] @ np.linalg.inv(white)
        pairs, steps = self.branches.contrasts()
        found = sparsest_map(
            weights[pairs[:, 1]] - weights[pairs[:, 0]],
            1.0 / steps**2,
            n_restarts=self.settings.n_restarts,
            seed=derive_seed(self.seed, "tbr", "rotation"),
        )
        self._mix(found @ white)

    def _mix(self, matrix: np.ndarray, centre: np.ndarray | None = None) -> None:
        """Replace the latents z by ``matrix @ (z - centre)``."""
        self.phi.mix(matrix, centre)
        self._moments = self._moments.mixed(matrix, centre)

    def _steps(self, stage: str, weights: TreeWeights | FreeWeights) -> None:
        """Adam steps; afterwards the latents have unit variance over the training cells."""
        asked = self.settings
        first = self._by_size(asked.n_steps, _N_STEPS)
        second = self._by_size(asked.n_finetune_steps, _N_FINETUNE_STEPS)
        finetune = stage == "finetune"
        steps = Steps(
            # joint is given as many steps as both stages together
            n_steps={"finetune": second, "joint": first + second}.get(stage, first),
            batch_size=asked.batch_size,
            learning_rate=asked.learning_rate * (_FINETUNE_RATE if finetune else 1.0),
            weight_decay=self._by_size(asked.weight_decay, _WEIGHT_DECAY),
            stage=stage,
        )
        self.history += steps.run(self.phi, weights, self.intercept, self.data, self.generator)
        self._moments = self._collected(self.data.train)
        spread = np.sqrt(np.maximum(np.diag(self._moments.covariance()), 1e-12))
        # with an intercept everywhere the latents' means are not identified; 0 is the choice that makes
        # an intercept the phenotype of the environment at average latents
        centre = self._moments.mean() if self.settings.intercept == "environment" else None
        self._mix(np.diag(1 / spread), centre)

    def _by_size(self, asked: Number | None, defaults: tuple[Number, Number]) -> Number:
        """What was asked for, or the default for so many training cells."""
        if asked is not None:
            return asked
        return defaults[0] if len(self.data.train) < FEW_CELLS else defaults[1]

    def _tree_weights(self, root: np.ndarray, changes: np.ndarray) -> TreeWeights:
        return TreeWeights(self.branches.paths, root, changes, self.penalty)

    def _random(self, shape: tuple[int, ...]) -> np.ndarray:
        """Initial weights; of size 1, because latents and phenotype have unit variance."""
        drawn: np.ndarray = torch.randn(shape, generator=self.generator).numpy()
        return drawn / np.sqrt(self.n_latents)

    def _allowed(self, changing: np.ndarray) -> np.ndarray:
        """Which latents, and whether the intercept, may change along the tree."""
        return np.append(changing, self.settings.intercept == "environment")

    def _collected(self, rows: np.ndarray) -> Moments:
        return collect(self.phi, self.data.X, self.data.y, self.data.codes, rows, self.n_environments)

    def _solvable(self, moments: Moments) -> Moments:
        """The moments as the model sees them: without a constant where it has no intercept."""
        return moments if self.settings.intercept != "none" else moments.without_intercept()

    def _final_solution(self, changing: np.ndarray) -> Solution:
        """The best sparse weights for the latents as they are now, chosen by the validation cells."""
        rows = self.data.validation
        return sparse_solution(
            self._solvable(self._moments),
            self._solvable(self._collected(rows)) if len(rows) else None,
            self.branches,
            self._allowed(changing),
            self.penalty,
        )

    def _result(self, solution: Solution) -> TBRFit:
        """Put latents in order, turn them to positive mean weights, and name everything."""
        effects = solution.weights[self.branches.nodes, :-1]
        order = np.argsort(-(effects**2).mean(axis=0), kind="stable")
        signs = np.where(effects.mean(axis=0) < 0, -1.0, 1.0)[order]
        self._mix(np.eye(self.n_latents)[order] * signs[:, None])
        names = [f"latent{i + 1}" for i in range(self.n_latents)]
        weights = self.unit * solution.weights
        mixed = weights[:, :-1][:, order] * signs
        reduced = Solution(mixed, solution.penalty).changes(self.branches)
        environments = pd.Index(self.branches.environments, name="environment")
        branches = pd.Index(self.tree.arcs, name="branch")
        # `+ 0.0` turns the minus zeros of the signs into zeros
        changes = self.branches.in_whole_tree(reduced) + 0.0
        table = mixed[self.branches.nodes]
        values, vectors = np.linalg.eigh(self._moments.covariance())
        spread = vectors * np.sqrt(np.maximum(values, 0))
        return TBRFit(
            estimator=self.estimator,
            settings=self.settings,
            seed=self.seed,
            tree=self.tree,
            phi=self.phi.eval().requires_grad_(False),
            weights=pd.DataFrame(table, index=environments, columns=names),
            intercepts=pd.Series(weights[self.branches.nodes, -1], index=environments, name="intercept"),
            changes=pd.DataFrame(changes, index=branches, columns=names),
            root=pd.Series(mixed[0], index=names, name=self.tree.root),
            branches=pd.DataFrame({"carried_by": list(self.branches.carried_by)}, index=branches),
            history=pd.DataFrame(self.history),
            singular_values=np.linalg.svd(table @ spread, compute_uv=False) / np.sqrt(len(table)),
        )
