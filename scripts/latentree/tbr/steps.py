"""Adam on the network and the weights of all environments together."""

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latentree.adam import Adam, FusedAdam
from latentree.muon import Muon
from latentree.path_sums import PathSums
from latentree.tbr.batching import StepData, batches
from latentree.tbr.link import Link, deviances
from latentree.tbr.phi import Phi
from latentree.training import NonFiniteLossError

_CHECK_EVERY = 50
_WEIGHT_RATE = 5.0  # the weights' learning rate over the network's; measured to converge faster


class _AncestorSum(torch.autograd.Function):
    """Sums of the changes on each environment's path, float32, with their gradient."""

    @staticmethod
    def forward(ctx: Any, changes: Tensor, paths: PathSums) -> Tensor:
        ctx.paths = paths
        return torch.from_numpy(paths.forward(changes.detach().numpy())).float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return torch.from_numpy(ctx.paths.backward(gradients[0].numpy())).float(), None


class TreeWeights(nn.Module):
    """Weights of the environments: the root's plus the changes on the path.

    Parameters
    ----------
    paths
        The paths of the environments.
    root
        (n_latents,) initial weights of the root.
    changes
        (n_branches, n_latents) initial changes.
    penalty
        Weight of the L1 norm of the changes per environment.
    proximal
        Whether the L1 norm acts by soft thresholding after each step, not by its gradient.
    """

    def __init__(
        self,
        paths: PathSums,
        root: np.ndarray,
        changes: np.ndarray,
        penalty: float,
        *,
        proximal: bool = False,
    ) -> None:
        super().__init__()
        self.root = nn.Parameter(torch.from_numpy(root.astype(np.float32)))
        self.changes = nn.Parameter(torch.from_numpy(changes.astype(np.float32)))
        self.paths = paths
        self.penalty = penalty / paths.n_environments
        self.proximal = proximal

    def forward(self) -> Tensor:
        """(n_environments, n_latents)."""
        return self.root + _AncestorSum.apply(self.changes, self.paths)

    def penalised(self) -> Tensor:
        """The L1 term of the loss; nothing where soft thresholding stands for it."""
        if self.proximal:
            return self.changes.new_zeros(())
        return self.penalty * self.changes.abs().sum()

    @torch.no_grad()
    def after_step(self, optimiser: Adam, rate: float) -> None:
        """Soft thresholding in Adam's metric: what its step would take from each change."""
        if not self.proximal:
            return
        state, (_, decay) = optimiser.state[self.changes], optimiser.param_groups[0]["betas"]
        second = state["exp_avg_sq"] / (1 - decay ** float(state["step"]))
        threshold = rate * self.penalty / (second.sqrt() + 1e-8)
        self.changes.copy_(self.changes.sign() * (self.changes.abs() - threshold).clamp_min(0))


class FreeWeights(nn.Module):
    """One unrelated weight vector for each environment, or one for all of them.

    Parameters
    ----------
    weights
        (n_environments, n_latents), or (1, n_latents) shared by all.
    """

    def __init__(self, weights: np.ndarray) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.from_numpy(weights.astype(np.float32)))

    def forward(self) -> Tensor:
        """(n_environments, n_latents), or (1, n_latents)."""
        return self.weights

    def penalised(self) -> Tensor:
        """No penalty."""
        return self.weights.new_zeros(())

    def after_step(self, optimiser: Adam, rate: float) -> None:
        """Nothing to do."""


@dataclass(frozen=True)
class Steps:
    """A run of gradient steps with a one-cycle learning rate.

    Muon moves the matrices inside phi, Adam everything else: at equal time the latents are clearly better
    than by Adam alone (docs/tbr.md).

    Parameters
    ----------
    n_steps, batch_size, learning_rate, weight_decay
        As in the settings; weight decay acts on phi's matrices only, decoupled from the gradient.
    stage
        Name of this run in the history.
    link
        Of the phenotype.
    """

    n_steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    stage: str
    link: Link

    def run(
        self,
        phi: Phi,
        weights: TreeWeights | FreeWeights,
        intercept: nn.Parameter,
        cells: StepData,
        generator: torch.Generator,
    ) -> list[dict[str, Any]]:
        """Change phi, weights and intercept in place; returns the history, a row per 50 steps.

        The latents are divided by their sd over the batch, because the L1 norm of the changes means
        nothing while phi can grow and the weights shrink. The weights belong to latents of unit
        variance; phi's own output keeps whatever scale it has.

        Parameters
        ----------
        intercept
            (1,) or (n_environments,); held fixed where it does not require a gradient.

        Raises
        ------
        NonFiniteLossError
            A part of the loss is no longer finite; the message names it.
        """
        adam, muon = _optimisers(phi, weights, intercept)
        matrices = [parameter for parameter in phi.parameters() if parameter.ndim == 2]
        started = time.process_time(), time.perf_counter()
        history = []
        sums = np.zeros(2)
        counted = 0
        for step, (x, y, codes) in enumerate(batches(cells, self.batch_size, self.n_steps, generator)):
            rate = self.learning_rate * one_cycle(step / self.n_steps)
            for group in (*adam.param_groups, *muon.param_groups):
                group["lr"] = rate * group["factor"]
            error, penalty = _loss(phi, weights, intercept, x, y, codes, self.link)
            adam.zero_grad()
            muon.zero_grad()
            (error + penalty).backward()
            _decay(matrices, rate * self.weight_decay)
            adam.step()
            muon.step()
            weights.after_step(adam, rate * _WEIGHT_RATE)
            sums += error.item(), penalty.item()
            counted += 1
            if counted == _CHECK_EVERY or step == self.n_steps - 1:
                history.append(self._row(step + 1, sums / counted, rate, started))
                sums[:], counted = 0, 0
        return history

    def _row(self, step: int, parts: np.ndarray, rate: float, started: tuple[float, float]) -> dict[str, Any]:
        for name, value in zip(("phenotype", "changes"), parts, strict=True):
            if not math.isfinite(value):
                raise NonFiniteLossError(
                    f"tbr, stage {self.stage}",
                    f"the {name} part of the loss is {value} after step {step}",
                    "Lower learning_rate, or look for extreme values in X and y",
                )
        return {
            "stage": self.stage,
            "step": step,
            "phenotype": parts[0],
            "changes": parts[1],
            "learning_rate": rate,
            "cpu_seconds": time.process_time() - started[0],
            "wall_seconds": time.perf_counter() - started[1],
        }


def _optimisers(phi: Phi, weights: nn.Module, intercept: nn.Parameter) -> tuple[Adam, Muon]:
    """Muon for the matrices of phi's hidden layers, Adam for the rest."""
    inside = [p for p in phi.hidden.parameters() if p.ndim == 2]
    known = {id(p) for p in inside}
    rest = [p for p in phi.parameters() if id(p) not in known]
    heads = [*weights.parameters(), *([intercept] if intercept.requires_grad else [])]
    adam = FusedAdam([{"params": rest, "factor": 1.0}, {"params": heads, "factor": _WEIGHT_RATE}])
    return adam, Muon([{"params": inside, "factor": 1.0}])


@torch.no_grad()
def _decay(matrices: list[nn.Parameter], amount: float) -> None:
    """Shrink phi's matrices by this share."""
    if amount > 0:
        for matrix in matrices:
            matrix.mul_(1 - amount)


def _loss(
    phi: Phi, weights: nn.Module, intercept: Tensor, x: Tensor, y: Tensor, codes: Tensor, link: Link
) -> tuple[Tensor, Tensor]:
    """Mean deviance (squared error for the identity link) and penalty of one batch."""
    z = phi(x)
    z = z / z.std(dim=0, correction=0).clamp_min(1e-6)
    table = weights()
    effects = table[codes] if len(table) > 1 else table
    offset = intercept[codes] if len(intercept) > 1 else intercept
    error = deviances((z * effects).sum(dim=1) + offset, y, link).mean()
    return error, weights.penalised()  # type: ignore[operator]


def one_cycle(progress: float) -> float:
    """Share of the highest learning rate: up over the first fifth, then down along a cosine."""
    warm = 0.2
    if progress < warm:
        return 0.1 + 0.9 * progress / warm
    return 0.002 + 0.998 * 0.5 * (1 + math.cos(math.pi * (progress - warm) / (1 - warm)))
