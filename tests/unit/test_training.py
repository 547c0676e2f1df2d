"""The fit loop: equal to a plain loop, the same bits again, resumed, locked, stopped, checked."""

import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import Tensor, nn

from latentree import training
from latentree.checkpoints import Checkpoints
from latentree.errors import InputError
from latentree.models.base import FitReport, InputScaling, RunOptions, TrainingData
from latentree.models.layers import linear, noise
from latentree.settings import TorchModelSettings
from latentree.training import NonFiniteLossError, TorchModule, resolve_device, train

ROOT = Path(__file__).resolve().parents[2]
N_GENES = 6


class Autoencoder(TorchModule):
    """A small linear autoencoder with noise, a buffer that moves, and switches for trouble."""

    steps: Tensor

    def __init__(self, *, breaks_at: int | None = None, interrupts_at: int | None = None) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.encoder = linear(N_GENES, 2, generator)
        self.decoder = linear(2, N_GENES, generator)
        self.register_buffer("steps", torch.zeros(()))
        self.breaks_at, self.interrupts_at = breaks_at, interrupts_at
        self.epoch = 0

    def loss_parts(self, x: Tensor, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        z = self.encoder(x)
        z = z + 0.1 * noise(tuple(z.shape), generator, z.device)
        size = (z**2).sum(dim=1).mean()
        return {
            "reconstruction": ((x - self.decoder(z)) ** 2).sum(dim=1).mean(),
            "kl": size * (float("nan") if self.epoch == self.breaks_at else 0.01),
        }

    def validation_parts(self, x: Tensor) -> dict[str, Tensor]:
        return {"reconstruction": ((x - self.decode_mean(self.encode_mean(x))) ** 2).sum(dim=1).mean()}

    def encode_mean(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def decode_mean(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def on_epoch_start(self, progress: float) -> None:
        self.epoch += 1
        if self.epoch == self.interrupts_at:
            raise KeyboardInterrupt

    def after_step(self, learning_rate: float, optimizer: torch.optim.Adam) -> None:
        # a proximal step that depends on Adam's own state and on the buffer
        self.steps += 1
        second = optimizer.state[self.decoder.weight]["exp_avg_sq"]
        self.decoder.weight -= 1e-3 * learning_rate * self.steps.sqrt() / (second.sqrt() + 1)


def example_data(n_cells: int = 50, *, is_sparse: bool = False) -> TrainingData:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n_cells, 2)) @ rng.normal(size=(2, N_GENES)) + 0.3 * rng.normal(
        size=(n_cells, N_GENES)
    )
    x = np.where(rng.random(x.shape) < 0.3, 0, x).astype(np.float32)
    rows = rng.permutation(n_cells)
    return TrainingData(sparse.csr_matrix(x) if is_sparse else x, np.sort(rows[:40]), np.sort(rows[40:]))


SETTINGS = TorchModelSettings(
    max_epochs=12, batch_size=16, learning_rate=0.05, patience=None, checkpoint_every=3
)


def run(
    module: TorchModule,
    settings: TorchModelSettings = SETTINGS,
    data: TrainingData | None = None,
    seed: int = 0,
    options: RunOptions | None = None,
) -> FitReport:
    data = data if data is not None else example_data()
    scaling = InputScaling.fit(data, "log", 1.0)
    return train(module, data, scaling, settings, seed, options if options is not None else RunOptions())


def parameters(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in module.state_dict().items()}


def without_times(report: FitReport) -> list[dict[str, float]]:
    return [
        {key: value for key, value in row.items() if not key.endswith("_seconds")} for row in report.history
    ]


def assert_same_bits(a: nn.Module, b: nn.Module) -> None:
    for name, value in parameters(a).items():
        np.testing.assert_array_equal(value, parameters(b)[name], err_msg=name)


class Mean(TorchModule):
    """One number per gene, no noise: small enough to be fitted by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.full((N_GENES,), 2.0))

    def loss_parts(self, x: Tensor, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        return self.validation_parts(x)

    def validation_parts(self, x: Tensor) -> dict[str, Tensor]:
        return {"error": ((x - self.mean) ** 2).sum(dim=1).mean()}

    def encode_mean(self, x: Tensor) -> Tensor:
        return x

    def decode_mean(self, z: Tensor) -> Tensor:
        return z


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


# checkpoints


@pytest.mark.parametrize("interrupts_at", [1, 3, 4, 7, 12])
@pytest.mark.parametrize("patience", [None, 50])
def test_interrupted_and_resumed_is_bit_identical(
    tmp_path: Path, interrupts_at: int, patience: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    settings = SETTINGS.model_copy(update={"patience": patience})
    undisturbed, resumed = Autoencoder(), Autoencoder()
    expected = run(undisturbed, settings)
    options = RunOptions(checkpoint=tmp_path / "checkpoint", checkpoint_key="a")
    with pytest.raises(KeyboardInterrupt):
        run(Autoencoder(interrupts_at=interrupts_at), settings, options=options)
    report = run(resumed, settings, options=options)

    assert_same_bits(undisturbed, resumed)
    assert without_times(report) == without_times(expected)
    assert report.best_epoch == expected.best_epoch
    done = (interrupts_at - 1) // 3 * 3
    assert report.resumed_from_epoch == (done or None)
    # warnings reach stderr even where nobody set up logging
    said = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert said == ([f"resuming from epoch {done} of 12"] if done else [])
    assert not (tmp_path / "checkpoint").exists()


KILLED = """
import os, signal, sys
sys.path[:0] = [{scripts!r}, {tests!r}]
from test_training import Autoencoder, SETTINGS, run
from latentree.models.base import RunOptions
from pathlib import Path

class Killed(Autoencoder):
    def loss_parts(self, x, generator, progress):
        if self.steps == 14:  # in the middle of epoch 5
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss_parts(x, generator, progress)

run(Killed(), options=RunOptions(checkpoint=Path({folder!r}), checkpoint_key="a"))
"""


def test_killed_after_the_first_checkpoint_is_bit_identical(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    script = KILLED.format(
        scripts=str(ROOT / "scripts"), tests=str(Path(__file__).parent), folder=str(folder)
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    undisturbed, resumed = Autoencoder(), Autoencoder()
    expected = run(undisturbed)
    report = run(resumed, options=RunOptions(checkpoint=folder, checkpoint_key="a"))
    assert report.resumed_from_epoch == 3
    assert_same_bits(undisturbed, resumed)
    assert without_times(report) == without_times(expected)


def leave_checkpoint(folder: Path) -> Path:
    with pytest.raises(KeyboardInterrupt):
        run(Autoencoder(interrupts_at=8), options=RunOptions(checkpoint=folder, checkpoint_key="a"))
    return folder / "checkpoint.safetensors"


def test_checkpoint_of_other_settings_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    leave_checkpoint(tmp_path / "c")
    module, undisturbed = Autoencoder(), Autoencoder()
    report = run(module, options=RunOptions(checkpoint=tmp_path / "c", checkpoint_key="another"))
    run(undisturbed)
    assert report.resumed_from_epoch is None
    assert "other settings, data or code" in caplog.text
    assert_same_bits(module, undisturbed)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "no checkpoint at all"])
def test_damaged_checkpoint_is_said_and_not_used(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = leave_checkpoint(tmp_path / "c")
    content = bytearray(file.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        content[-5] ^= 64
    else:
        content = bytearray(b"" if damage == "empty" else b"something else" * 100)
    file.write_bytes(content)
    module, undisturbed = Autoencoder(), Autoencoder()
    report = run(module, options=RunOptions(checkpoint=tmp_path / "c", checkpoint_key="a"))
    run(undisturbed)
    assert report.resumed_from_epoch is None
    assert "damaged" in caplog.text
    assert str(file) in caplog.text
    assert_same_bits(module, undisturbed)


def test_kill_while_writing_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path, "a")
    checkpoints.save({"x": torch.ones(3)}, {"epoch": 1})

    def half_written(tensors: object, path: Path, metadata: object) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("latentree.checkpoints.save_file", half_written)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save({"x": torch.zeros(3)}, {"epoch": 2})
    found = checkpoints.load()
    assert found is not None
    assert torch.equal(found[0]["x"], torch.ones(3))
    assert found[1] == {"epoch": 1}


HOLDER = """
import sys, time
sys.path.insert(0, {scripts!r})
from pathlib import Path
from latentree.checkpoints import Checkpoints
with Checkpoints(Path({folder!r}), "a").locked():
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_writer_is_refused_and_a_killed_one_lets_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = HOLDER.format(scripts=str(ROOT / "scripts"), folder=str(tmp_path / "c"))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        checkpoints = Checkpoints(tmp_path / "c", "a")
        with (
            pytest.raises(InputError, match=f"another fit is writing.*process {holder.pid} on"),
            checkpoints.locked(timeout=0.1),
        ):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with checkpoints.locked(timeout=0.1):
        assert f'"pid": {os.getpid()}' in (tmp_path / "c" / "holder.json").read_text()


def test_a_failed_fit_lets_go_of_the_folder(tmp_path: Path) -> None:
    options = RunOptions(checkpoint=tmp_path / "c", checkpoint_key="a")
    with pytest.raises(NonFiniteLossError):
        run(Autoencoder(breaks_at=5), options=options)
    assert run(Autoencoder(), options=options).resumed_from_epoch == 3


# early stopping


class Overfitting(Mean):
    """Walks away from the validation cells' optimum: the validation loss falls, then rises."""

    def loss_parts(self, x: Tensor, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
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
    run(Autoencoder())
    assert capfd.readouterr().err == ""


def test_progress_is_a_bar_on_a_terminal(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_on_terminal", lambda: True)
    run(Autoencoder(), options=RunOptions(progress=True))
    shown = capfd.readouterr().err
    assert "12/12" in shown
    assert "loss=" in shown
