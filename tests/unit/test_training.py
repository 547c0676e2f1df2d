"""The fit loop: equal to a plain loop, the same bits again, stopped early, checked."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from training_fixture import (
    N_GENES,
    SETTINGS,
    Autoencoder,
    Mean,
    assert_same_bits,
    example_data,
    parameters,
    run,
    without_times,
)

from latentree import fit_progress
from latentree.batches import Batch
from latentree.errors import InputError
from latentree.models.base import RunOptions
from latentree.models.scaling import InputScaling
from latentree.training import NonFiniteLossError, resolve_device


def test_full_batches_equal_a_plain_loop_of_adam() -> None:
    data = example_data()
    module = Mean()
    report = run(module, SETTINGS.model_copy(update={"batch_size": 40, "max_epochs": 5}), data)

    x = torch.from_numpy(InputScaling.fit(data, "log", 1.0).apply(data.x[data.train]))
    mean = torch.full((N_GENES,), 2.0, requires_grad=True)
    adam = torch.optim.Adam([mean], lr=0.05)
    losses = []
    for epoch in range(5):
        adam.param_groups[0]["lr"] = 0.05 * 0.5 * (1 + np.cos(np.pi * epoch / 5))
        adam.zero_grad()
        loss = ((x - mean) ** 2).sum(dim=1).mean()
        losses.append(loss.item())
        loss.backward()
        adam.step()
    np.testing.assert_allclose(module.mean.detach(), mean.detach(), rtol=1e-5)
    np.testing.assert_allclose([row["loss"] for row in report.history], losses, rtol=1e-5)


def test_every_cell_counts_once_in_the_loss_whatever_the_last_batch_holds() -> None:
    class Fixed(Mean):
        def learning_rate_factor(self, progress: float) -> float:
            return 0.0

    data = example_data()
    rows = [
        run(Fixed(), SETTINGS.model_copy(update={"batch_size": size, "max_epochs": 1}), data).history[0]
        for size in (7, 40)
    ]
    assert rows[0]["loss"] == pytest.approx(rows[1]["loss"], rel=1e-5)


def test_history_has_the_parts_that_sum_to_the_loss_and_the_schedule() -> None:
    report = run(Autoencoder())
    assert [row["epoch"] for row in report.history] == list(range(1, 13))
    first, last = report.history[0], report.history[-1]
    assert list(first) == [
        "epoch", "reconstruction", "kl", "loss", "validation_loss",
        "learning_rate", "cpu_seconds", "wall_seconds",
    ]  # fmt: skip
    assert first["loss"] == pytest.approx(first["reconstruction"] + first["kl"])
    assert last["loss"] < first["loss"]
    assert last["learning_rate"] < 0.02 * first["learning_rate"]
    assert report.converged
    assert report.best_epoch is None


def test_same_seed_same_bits_and_another_seed_others() -> None:
    a, b, c = Autoencoder(), Autoencoder(), Autoencoder()
    first, second = run(a), run(b)
    assert_same_bits(a, b)
    assert without_times(first) == without_times(second)
    run(c, seed=1)
    assert not np.array_equal(parameters(a)["encoder.weight"], parameters(c)["encoder.weight"])


def test_sparse_and_dense_cells_give_the_same_fit() -> None:
    a, b = Autoencoder(), Autoencoder()
    run(a, data=example_data())
    run(b, data=example_data(is_sparse=True))
    for name, value in parameters(a).items():
        # the sparse moments are rounded in another order
        np.testing.assert_allclose(value, parameters(b)[name], rtol=1e-3, atol=1e-5)


def test_global_random_state_threads_and_determinism_are_left_as_they_were() -> None:
    before = torch.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    numpy_before = np.random.get_state()[1].copy()
    run(Autoencoder(), options=RunOptions(threads=2))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    np.testing.assert_array_equal(numpy_before, np.random.get_state()[1])


# early stopping


class Overfitting(Mean):
    """Walks away from the validation cells' optimum: the validation loss falls, then rises."""

    def loss_parts(self, batch: Batch, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        return {"pull": self.mean.sum()}

    def learning_rate_factor(self, progress: float) -> float:
        return 1.0


def test_stops_early_and_keeps_the_best_weights() -> None:
    settings = SETTINGS.model_copy(
        update={"patience": 4, "max_epochs": 100, "batch_size": 40, "learning_rate": 0.2}
    )
    module = Overfitting()
    report = run(module, settings)
    losses = [row["validation_loss"] for row in report.history]
    best = int(np.argmin(losses))
    assert 0 < best < len(losses) - 1
    assert len(losses) == best + 1 + 4
    assert report.best_epoch == best + 1
    assert report.converged
    # Adam's steps on a constant slope have the size of the learning rate
    np.testing.assert_allclose(module.mean.detach(), 2 - 0.2 * (best + 1), rtol=1e-4)


def test_epochs_before_the_objective_settles_are_never_the_best() -> None:
    settings = SETTINGS.model_copy(
        update={"patience": 4, "max_epochs": 100, "batch_size": 40, "learning_rate": 0.2}
    )
    module = Overfitting()
    module.settles_at = 0.3  # long after the lowest validation loss
    report = run(module, settings)
    assert report.best_epoch == 31
    assert len(report.history) == 35


def test_without_patience_the_last_weights_are_kept() -> None:
    module = Overfitting()
    settings = SETTINGS.model_copy(update={"max_epochs": 30, "batch_size": 40, "learning_rate": 0.2})
    report = run(module, settings)
    assert len(report.history) == 30
    np.testing.assert_allclose(module.mean.detach(), 2 - 0.2 * 30, rtol=1e-4)


def test_without_validation_cells_nothing_stops_early() -> None:
    data = replace(example_data(), validation=np.zeros(0, dtype=np.int64))
    report = run(Autoencoder(), SETTINGS.model_copy(update={"patience": 1}), data)
    assert len(report.history) == 12
    assert np.isnan(report.history[-1]["validation_loss"])


def test_a_limit_of_epochs_that_was_reached_first_is_no_convergence() -> None:
    settings = SETTINGS.model_copy(update={"patience": 50})
    assert not run(Overfitting(), settings).converged
    # a learning rate that has gone to 0 has nowhere left to go
    assert run(Autoencoder(), settings).converged


# checks and options


def test_the_part_that_is_not_finite_is_named_with_its_epoch() -> None:
    with pytest.raises(
        NonFiniteLossError, match=r"'kl' became nan in epoch 4.*[Ll]ower learning_rate \(now 0.05\)"
    ):
        run(Autoencoder(breaks_at=4))


def test_device_auto_is_cpu_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == "cpu"
    assert resolve_device("cpu") == "cpu"
    with pytest.raises(InputError, match="device: cuda"):
        resolve_device("cuda")
    with pytest.raises(InputError, match="'gpu' is no device"):
        resolve_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == "cuda"
    assert resolve_device("cpu") == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_cuda_agrees_with_cpu() -> None:
    a, b = Autoencoder(), Autoencoder()
    run(a)
    run(b, options=RunOptions(device="cuda"))
    for name, value in parameters(a).items():
        np.testing.assert_allclose(value, b.state_dict()[name].cpu().numpy(), rtol=1e-2, atol=1e-3)


def test_progress_is_a_few_lines_where_stderr_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    run(Autoencoder(), SETTINGS.model_copy(update={"max_epochs": 25}), options=RunOptions(progress=True))
    lines = capfd.readouterr().err.splitlines()
    assert 10 <= len(lines) <= 14
    assert lines[-1].startswith("epoch 25 of 25: loss ")
    assert re.fullmatch(r"epoch 2 of 25: loss .*, validation .*; .* so far, at most about .* left", lines[0])
    run(Autoencoder())
    assert capfd.readouterr().err == ""


def test_a_time_is_said_for_people() -> None:
    said = [fit_progress.in_words(seconds) for seconds in (0.2, 59.4, 200, 7500)]
    assert said == ["0 s", "59 s", "3 min 20 s", "2 h 5 min"]


def test_progress_is_a_bar_on_a_terminal(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_progress, "on_terminal", lambda: True)
    run(Autoencoder(), options=RunOptions(progress=True))
    shown = capfd.readouterr().err
    assert "12/12" in shown
    assert "loss=" in shown
