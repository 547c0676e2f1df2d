"""Adam against torch's own."""

import numpy as np
import pytest
import torch

from latentree.adam import Adam, FusedAdam


def _run(make, n_steps: int, skipped: int | None = None) -> tuple[list[torch.Tensor], object]:
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(3, 2, generator=generator)) for _ in range(2)]
    optimizer = make([{"params": parameters[:1]}, {"params": parameters[1:]}])
    for step in range(n_steps):
        for place, group in enumerate(optimizer.param_groups):
            group["lr"] = 0.1 / (1 + place + step)
        optimizer.zero_grad()
        loss = ((parameters[0] - 1) ** 4).sum()
        if step != skipped:
            loss = loss + (parameters[0] * parameters[1]).sum().sin()
        loss.backward()
        optimizer.step()
    return parameters, optimizer


@pytest.mark.parametrize("ours", [Adam, FusedAdam])
@pytest.mark.parametrize("skipped", [None, 0, 3])
def test_steps_are_those_of_torch(skipped, ours):
    """Also where a parameter has no gradient in one of them: its moments then wait."""
    ours, theirs = (_run(make, 8, skipped)[0] for make in (ours, torch.optim.Adam))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_state_is_torchs_for_proximal_steps():
    (parameters, ours), (_, theirs) = _run(Adam, 5), _run(torch.optim.Adam, 5)
    expected = theirs.state[theirs.param_groups[1]["params"][0]]
    found = ours.state[parameters[1]]
    assert float(found["step"]) == float(expected["step"]) == 5
    np.testing.assert_allclose(found["exp_avg_sq"], expected["exp_avg_sq"], rtol=1e-5)


def test_state_moves_to_another_optimizer_to_the_last_bit():
    parameters, one = _run(Adam, 4)
    copies = [torch.nn.Parameter(parameter.detach().clone()) for parameter in parameters]
    other = Adam([{**group, "params": [copy]} for group, copy in zip(one.param_groups, copies, strict=True)])
    other.load(one.tensors())
    for optimizer, moved in ((one, parameters), (other, copies)):
        optimizer.zero_grad()
        sum((parameter**2).sum() for parameter in moved).backward()
        optimizer.step()
    for parameter, copy in zip(parameters, copies, strict=True):
        assert torch.equal(parameter, copy)
