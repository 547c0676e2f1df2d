"""Adam (Kingma and Ba 2015), with its state at hand for proximal steps.

Torch's own loads torch's compiler at the first step, a second of CPU time and 80 MB in every fit.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor


class Adam:
    """Steps on parameters that have a gradient; the others, and their moments, stay as they are.

    Parameters
    ----------
    groups
        Each with "params" and whatever else its user keeps there; "lr", "betas" and "eps" are filled in and
        may be changed between steps.
    lr, betas, eps
        As in the paper: step size, decay of the two moments, what is added to the root.

    Attributes
    ----------
    state
        For each parameter that has been stepped on: "step", a scalar, and "exp_avg" and "exp_avg_sq", of its
        shape.
    """

    def __init__(
        self,
        groups: Iterable[Mapping[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps}
        self.param_groups: list[dict[str, Any]] = [{**defaults, **group} for group in groups]
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self._parameters():
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move each parameter against its gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)

    def _move(self, parameter: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        state = self._state(parameter)
        state["step"] += 1
        (decay1, decay2), n_steps = group["betas"], float(state["step"])
        state["exp_avg"].lerp_(gradient, 1 - decay1)
        state["exp_avg_sq"].mul_(decay2).addcmul_(gradient, gradient, value=1 - decay2)
        root = (state["exp_avg_sq"] / (1 - decay2**n_steps)).sqrt_().add_(group["eps"])
        parameter.addcdiv_(state["exp_avg"], root, value=-group["lr"] / (1 - decay1**n_steps))

    def _state(self, parameter: Tensor) -> dict[str, Tensor]:
        state = self.state.get(parameter)
        if state is None:
            state = {"step": torch.zeros(())}
            state |= {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
            self.state[parameter] = state
        return state

    def tensors(self) -> dict[str, Tensor]:
        """The state by names, for a checkpoint."""
        return {
            f"{place}.{name}": value
            for place, parameter in enumerate(self._parameters())
            for name, value in self.state.get(parameter, {}).items()
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`tensors` gave for parameters in the same order."""
        parameters = self._parameters()
        for key, value in tensors.items():
            place, name = key.split(".", 1)
            parameter = parameters[int(place)]
            device = value.device if name == "step" else parameter.device
            self.state.setdefault(parameter, {})[name] = value.clone().to(device)

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]


class FusedAdam(Adam):
    """The same steps by torch's kernel for whole groups: for many steps on few small parameters (CPU)."""

    @torch.no_grad()
    def step(self) -> None:
        """Move each parameter against its gradient."""
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            states = [self._state(parameter) for parameter in moved]
            if not moved:
                continue
            steps = [state["step"] for state in states]
            torch._foreach_add_(steps, 1)
            torch._fused_adam_(
                moved,
                [parameter.grad for parameter in moved],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                steps,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=0.0,
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )
