"""Checkpoints: fits that were stopped resume to the same bits; damage, other settings, two writers."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from training_fixture import SETTINGS, Autoencoder, assert_same_bits, run, without_times

from latentree import training
from latentree.checkpoints import Checkpoints
from latentree.errors import InputError
from latentree.models.base import RunOptions
from latentree.training import NonFiniteLossError

ROOT = Path(__file__).resolve().parents[2]


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
    assert (tmp_path / "checkpoint" / "checkpoint.safetensors").is_file()


def test_a_deleted_checkpoint_leaves_nothing_and_another_fits_is_not_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    checkpoints = Checkpoints(folder, "a")
    checkpoints.delete()  # where there is none
    run(Autoencoder(), options=RunOptions(checkpoint=folder, checkpoint_key="a"))
    with Checkpoints(folder, "b").locked():
        checkpoints.delete()
        assert (folder / "checkpoint.safetensors").is_file()
    checkpoints.delete()
    assert not folder.exists()


KILLED = """
import os, signal, sys
sys.path[:0] = [{scripts!r}, {tests!r}]
from training_fixture import Autoencoder, SETTINGS, run
from latentree.models.base import RunOptions
from pathlib import Path

class Killed(Autoencoder):
    def loss_parts(self, batch, generator, progress):
        if self.steps == 14:  # in the middle of epoch 5
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss_parts(batch, generator, progress)

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


@pytest.mark.parametrize(
    ("max_epochs", "every", "epoch_seconds", "expected"),
    [
        (25, 7, 1, [7, 14, 21]),
        (25, 7, 1000, [7, 14, 21]),
        # a tenth of the epochs
        (30, None, 1, list(range(3, 31, 3))),
        (29, None, 1, list(range(2, 29, 2))),
        (7, None, 1, list(range(1, 8))),
        # five minutes, never exceeded where epochs are shorter
        (40, None, 100, list(range(3, 41, 3))),
        (40, None, 149, list(range(2, 41, 2))),
        (40, None, 151, list(range(1, 41))),
        (40, None, 1000, list(range(1, 41))),
    ],
)
def test_how_often_checkpoints_are_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    max_epochs: int,
    every: int | None,
    epoch_seconds: float,
    expected: list[int],
) -> None:
    clock = SimpleNamespace(now=0.0, perf_counter=time.perf_counter, process_time=time.process_time)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(training, "time", clock)
    written: list[int] = []
    monkeypatch.setattr(
        training.Checkpoints, "save", lambda self, tensors, facts: written.append(len(facts["history"]))
    )

    class Slow(Autoencoder):
        def on_epoch_start(self, progress: float) -> None:
            clock.now += epoch_seconds

    settings = SETTINGS.model_copy(update={"max_epochs": max_epochs, "checkpoint_every": every})
    run(Slow(), settings, options=RunOptions(checkpoint=tmp_path, checkpoint_key="a"))
    assert written == expected


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

    monkeypatch.setattr("safetensors.torch.save_file", half_written)
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
