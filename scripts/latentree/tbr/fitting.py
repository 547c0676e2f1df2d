"""One fit on its way: choice of the network, gradient steps, rotation, sparse weights, result."""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import nn

from latentree.seeds import derive_seed
from latentree.settings import TBRSettings
from latentree.tbr.batching import StepData
from latentree.tbr.cells import Cells
from latentree.tbr.disk_inputs import moments_of_inputs
from latentree.tbr.evidence import Evidence, SquaredErrors, evidence_of
from latentree.tbr.identifiability import identifiability
from latentree.tbr.link import link_of
from latentree.tbr.moments import Moments, collect
from latentree.tbr.phi import FEW_CELLS, Phi, PhiKind
from latentree.tbr.result import Estimator, TBRFit, environment_codes, named_changes
from latentree.tbr.rotation import rotated, whitening
from latentree.tbr.sparse_changes import Solution, least_squares, sparse_solution
from latentree.tbr.steps import FreeWeights, Steps, TreeWeights
from latentree.tbr.structure import Branches
from latentree.tree import Tree

Number = TypeVar("Number", int, float)
TRIED = ["n_latents", "singular_value", "validation_error", "chosen"]
"""Columns of ``TBRFit.n_latents_tried``."""

_FIRST_STAGE = {"baseline": "baseline", "joint": "joint", "two_stage": "free"}
# of the learning rate: the rotated latents are a good start that must not be shaken off
_FINETUNE_RATE = 0.6
# what null means in the settings, below FEW_CELLS training cells and from there on
_PENALTY = (0.03, 0.1)
_N_STEPS = (800, 1500)
_N_FINETUNE_STEPS = (400, 900)
_BATCH_SIZE = (512, 1024)
# weight decay below FEW_CELLS, for so many cells, and its bound where it grows for fewer (docs/tbr.md)
_WEIGHT_DECAY_SMALL = 0.1
_WEIGHT_DECAY, _WEIGHT_DECAY_CELLS = 0.3, 400_000
_MOST_WEIGHT_DECAY = 2.0
# share of the variance of the first weights that environments have in common
_COMMON_START = 0.7
# at least so many cells in a step for each environment; with fewer its weights are learnt too slowly
_BATCH_PER_ENVIRONMENT = 0.5


@dataclass
class State:
    """What gradient steps change; the moments are of the training cells, for the latents as they are now."""

    phi: Phi
    weights: TreeWeights | FreeWeights
    intercept: nn.Parameter
    moments: Moments
    history: list[dict[str, Any]]


class Fitting:
    """One fit: data and settings that its stages share, and the state that they change."""

    state: State

    def __init__(
        self,
        cells: Cells,
        tree: Tree,
        n_latents: int,
        estimator: Estimator,
        seed: int,
        settings: TBRSettings,
        *,
        kind: PhiKind,
        penalty: float | None,
    ) -> None:
        self.estimator, self.seed, self.settings, self.tree = estimator, seed, settings, tree
        self.n_latents, self.kind = n_latents, kind
        observed = set(pd.Categorical(cells.environments[cells.train]).remove_unused_categories().categories)
        self.branches = Branches.identified(tree, observed)
        self.n_environments = len(self.branches.environments)
        self.link = link_of(settings.link, cells.y)
        self.unit = float(cells.y[cells.train].std()) if self.link == "identity" else 1.0
        codes = environment_codes(cells.environments, tree, self.branches.environments)
        y = (cells.y / self.unit).astype(np.float32)
        self.data = StepData(cells.X, y, codes, cells.train, cells.validation)
        self.penalty = self._by_size(penalty, _PENALTY)
        self.inputs = moments_of_inputs(cells.X, cells.train)
        self.n_intercepts = self.n_environments if settings.intercept == "environment" else 1
        self.intercept_start = float(y[cells.train].mean()) if settings.intercept != "none" else 0.0
        if self.link == "logistic" and settings.intercept != "none":
            self.intercept_start = float(np.log(self.intercept_start / (1 - self.intercept_start)))
        self.unmixing = np.eye(n_latents)

    def run(self) -> TBRFit:
        """Fit by the estimator."""
        changing = np.full(self.n_latents, self.estimator != "baseline")
        self.train_first()
        if self.estimator == "two_stage":
            self._rotate_and_finetune(changing)
        return self._result(self._final_solution(changing))

    def train_first(self) -> None:
        """The first steps: two_stage's with free weights, all of the others'."""
        seed = derive_seed(self.seed, "tbr", self.estimator, self.n_latents)
        generator = torch.Generator().manual_seed(seed)
        phi = Phi(self.kind, *self.inputs, self.n_latents, generator)
        intercept = nn.Parameter(
            torch.full((self.n_intercepts,), self.intercept_start),
            requires_grad=self.settings.intercept != "none",
        )
        n_rows = self.n_environments if self.estimator == "two_stage" else 1
        # mostly alike, or groups of environments learn the same latent with opposite signs and stay so; of
        # size 1 together, because latents and phenotype have unit variance
        common, own = (torch.randn((n, self.n_latents), generator=generator) for n in (1, n_rows))
        drawn = (_COMMON_START**0.5 * common + (1 - _COMMON_START) ** 0.5 * own) / np.sqrt(self.n_latents)
        weights: TreeWeights | FreeWeights = FreeWeights(drawn.numpy())
        if self.estimator == "joint":
            changes = np.zeros((self.branches.reduced.n_nodes - 1, self.n_latents))
            weights = self._tree_weights(drawn.numpy()[0], changes)
        moments = Moments.zero(self.n_latents + 1, self.n_environments)
        self.state = State(phi, weights, intercept, moments, [])
        self._steps(_FIRST_STAGE[self.estimator], generator)

    def _rotate_and_finetune(self, changing: np.ndarray) -> None:
        state = self.state
        start = np.linalg.inv(self._rotate())
        if self._by_size(self.settings.n_finetune_steps, _N_FINETUNE_STEPS):
            evidence = self.evidence(self.data.train)
            solution = sparse_solution(evidence, None, self.branches, self._allowed(changing), self.penalty)
            offset = solution.weights[self.branches.nodes, -1]
            with torch.no_grad():
                state.intercept.copy_(torch.from_numpy(offset[: self.n_intercepts]))
            changes = solution.changes(self.branches)[:, :-1]
            state.weights = self._tree_weights(solution.weights[0, :-1], changes)
            seed = derive_seed(self.seed, "tbr", "finetune", self.n_latents)
            self._steps("finetune", torch.Generator().manual_seed(seed))
        self.unmixing = start

    def _rotate(self) -> np.ndarray:
        """Mix the latents so that their weights change sparsely between neighbouring environments."""
        allowed = self._allowed(np.ones(self.n_latents, dtype=bool))
        evidence = self.evidence(self.data.train)
        solution = least_squares(evidence, self.branches, allowed)
        white = whitening(self.state.moments.covariance())
        table = solution.weights[self.branches.nodes]
        moments = evidence.quadratic(table).mixed(white)
        found = rotated(
            table[:, :-1] @ np.linalg.inv(white),
            moments,
            moments.mse(np.column_stack([table[:, :-1] @ np.linalg.inv(white), table[:, -1]])),
            self.branches,
            n_restarts=self.settings.n_restarts,
            seed=derive_seed(self.seed, "tbr", "rotation"),
        )
        self._mix(found @ white)
        return found @ white

    def _steps(self, stage: str, generator: torch.Generator) -> None:
        """Gradient steps; afterwards the latents have unit variance over the training cells."""
        asked, state = self.settings, self.state
        first = self._by_size(asked.n_steps, _N_STEPS)
        second = self._by_size(asked.n_finetune_steps, _N_FINETUNE_STEPS)
        finetune = stage == "finetune"
        steps = Steps(
            # joint is given as many steps as both stages together
            n_steps={"finetune": second, "joint": first + second}.get(stage, first),
            batch_size=asked.batch_size
            or max(self._by_size(None, _BATCH_SIZE), int(_BATCH_PER_ENVIRONMENT * self.n_environments)),
            learning_rate=asked.learning_rate * (_FINETUNE_RATE if finetune else 1.0),
            weight_decay=self._weight_decay(),
            stage=stage,
            link=self.link,
        )
        rows = steps.run(state.phi, state.weights, state.intercept, self.data, generator)
        state.history += [{"phi": self.kind, "penalty": self.penalty, **row} for row in rows]
        data = self.data
        state.moments = collect(state.phi, data.X, data.y, data.codes, data.train, self.n_environments)
        spread = np.sqrt(np.maximum(np.diag(state.moments.covariance()), 1e-12))
        # with an intercept everywhere the latents' means are not identified; 0 is the choice that makes
        # an intercept the phenotype of the environment at average latents
        centre = None
        if self.settings.intercept == "environment":
            centre = state.moments.mean()
            with torch.no_grad():
                state.intercept.add_(state.weights() @ torch.from_numpy(centre / spread).float())
        self._mix(np.diag(1 / spread), centre)

    def _mix(self, matrix: np.ndarray, centre: np.ndarray | None = None) -> None:
        """Replace the latents z by ``matrix @ (z - centre)``."""
        self.state.phi.mix(matrix, centre)
        self.state.moments = self.state.moments.mixed(matrix, centre)

    def evidence(self, rows: np.ndarray) -> Evidence:
        """What these cells say about the weights for the latents as they are now."""
        data, intercept, phi = self.data, self.settings.intercept != "none", self.state.phi
        if self.link == "logistic":
            z = phi.latents(data.X, rows)
            return evidence_of(
                z, data.y[rows], data.codes[rows], self.n_environments, binary=True, intercept=intercept
            )
        moments = self.state.moments
        if rows is not data.train:
            moments = collect(phi, data.X, data.y, data.codes, rows, self.n_environments)
        return SquaredErrors(moments if intercept else moments.without_intercept())

    def _weight_decay(self) -> float:
        """What was asked for, or what was measured to predict best for so many training cells."""
        if self.settings.weight_decay is not None:
            return self.settings.weight_decay
        if self._is_small():
            return _WEIGHT_DECAY_SMALL
        return min(_MOST_WEIGHT_DECAY, _WEIGHT_DECAY * (_WEIGHT_DECAY_CELLS / len(self.data.train)) ** 0.5)

    def _is_small(self) -> bool:
        return len(self.data.train) < FEW_CELLS

    def _by_size(self, asked: Number | None, defaults: tuple[Number, Number]) -> Number:
        """What was asked for, or the default for so many training cells."""
        if asked is not None:
            return asked
        return defaults[0] if self._is_small() else defaults[1]

    def _tree_weights(self, root: np.ndarray, changes: np.ndarray) -> TreeWeights:
        return TreeWeights(self.branches.paths, root, changes, self.penalty, proximal=self.settings.proximal)

    def _allowed(self, changing: np.ndarray) -> np.ndarray:
        """Which latents, and whether the intercept, may change along the tree."""
        return np.append(changing, self.settings.intercept == "environment")

    def _final_solution(self, changing: np.ndarray) -> Solution:
        """The best sparse weights for the latents as they are now, chosen by the validation cells."""
        rows = self.data.validation
        return sparse_solution(
            self.evidence(self.data.train),
            self.evidence(rows) if len(rows) else None,
            self.branches,
            self._allowed(changing),
            self.penalty,
        )

    def _result(self, solution: Solution) -> TBRFit:
        """Put latents in order, turn them to positive mean weights, and name everything."""
        nodes, state = self.branches.nodes, self.state
        effects = solution.weights[nodes, :-1]
        order = np.argsort(-(effects**2).mean(axis=0), kind="stable")
        signs = np.where(effects.mean(axis=0) < 0, -1.0, 1.0)[order]
        turn = np.eye(self.n_latents)[order] * signs[:, None]
        self._mix(turn)
        names = [f"latent{i + 1}" for i in range(self.n_latents)]
        weights = self.unit * solution.weights
        mixed = weights[:, :-1][:, order] * signs
        environments = pd.Index(self.branches.environments, name="environment")
        changes = named_changes(mixed, self.branches, names)
        values, vectors = np.linalg.eigh(state.moments.covariance())
        spread = vectors * np.sqrt(np.maximum(values, 0))
        singular_values = np.linalg.svd(mixed[nodes] @ spread, compute_uv=False) / np.sqrt(len(nodes))
        return TBRFit(
            estimator=self.estimator,
            settings=self.settings,
            seed=self.seed,
            tree=self.tree,
            link=self.link,
            phi=state.phi.eval().requires_grad_(False),
            weights=pd.DataFrame(mixed[nodes], index=environments, columns=names),
            intercepts=pd.Series(weights[nodes, -1], index=environments, name="intercept"),
            changes=changes,
            root=pd.Series(mixed[0], index=names, name=self.tree.root),
            branches=pd.DataFrame({"carried_by": list(self.branches.carried_by)}, index=changes.index),
            history=pd.DataFrame(state.history),
            candidates=pd.DataFrame(),
            n_latents_tried=pd.DataFrame(columns=TRIED),
            validation_error=solution.validation_error,
            penalty=solution.penalty,
            unit=self.unit,
            singular_values=singular_values,
            unmixing=self.unmixing @ turn.T if self.estimator == "two_stage" else self.unmixing,
            identifiability=identifiability(
                singular_values,
                changes.to_numpy(),
                state.moments.n_cells,
                baseline=self.estimator == "baseline",
            ),
        )
