"""Attempts at a job: one at a time, and what one has finished no other repeats."""

import errno
import logging
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from job_fixture import ended, record_of, start_job

from latentree.attempts import Attempts
from latentree.locks import HeldError, locked

WRITE = "open('out.txt', 'w').write('out')"


def attempt(folder: Path, body: str = WRITE, **depends_on: object) -> subprocess.Popen[str]:
    return start_job(folder, body, one_attempt=True, **depends_on)


def slow_attempt(folder: Path, seconds: int) -> subprocess.Popen[str]:
    """An attempt that is at work when this returns."""
    started = attempt(folder, f"__import__('time').sleep({seconds}); {WRITE}")
    assert started.stdout is not None
    assert started.stdout.readline() == "working\n"
    return started


def test_what_was_finished_is_taken_over_and_said_in_the_record(tmp_path: Path) -> None:
    assert ended(attempt(tmp_path))[0] == "working\n"
    first = record_of(tmp_path)
    assert "taken_over" not in first
    (tmp_path / "out.txt").unlink()
    out, err = ended(attempt(tmp_path))
    assert out == ""
    assert "taken from an attempt that ended" in err
    assert (tmp_path / "out.txt").read_text() == "out"
    second = record_of(tmp_path)
    assert second["state"] == "success"
    assert second["outputs"] == first["outputs"]
    assert second["taken_over"]["started"] == first["started"]


@pytest.mark.parametrize("other", [{"setting": 2}, {"data": "other"}, {}], ids=["setting", "data", "damage"])
def test_what_was_finished_otherwise_is_not_taken_over(tmp_path: Path, other: dict) -> None:
    ended(attempt(tmp_path))
    if not other:
        # the kept file is the same file under another name
        (tmp_path / "out.txt").write_text("edited")
    out, err = ended(attempt(tmp_path, **other))
    assert out == "working\n"
    assert "starting anew" in err
    assert (tmp_path / "out.txt").read_text() == "out"


def test_an_attempt_that_failed_leaves_nothing_to_take(tmp_path: Path) -> None:
    failed = attempt(tmp_path, f"{WRITE}; raise KeyError('bug')")
    failed.communicate(timeout=60)
    assert failed.returncode == 1
    assert ended(attempt(tmp_path))[0] == "working\n"


def test_a_second_attempt_waits_for_the_first_and_takes_its_outputs(tmp_path: Path) -> None:
    first = slow_attempt(tmp_path, 3)
    out, err = ended(attempt(tmp_path))
    assert out == ""
    assert f"still runs (process {first.pid} on" in err
    ended(first)


def test_a_second_attempt_does_the_work_of_a_killed_first(tmp_path: Path) -> None:
    first = slow_attempt(tmp_path, 60)
    second = attempt(tmp_path)
    threading.Timer(2.0, first.send_signal, [signal.SIGKILL]).start()
    out, err = ended(second)
    assert out == "working\n"
    assert "waiting for its end" in err
    first.communicate()


def test_files_that_cannot_be_linked_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr("os.link", no_links)
    output = tmp_path / "out" / "a.txt"
    output.parent.mkdir()
    output.write_text("a")
    attempts = Attempts(tmp_path / "job", "key", (output,))
    with attempts.alone():
        assert attempts.take_over() is None
        attempts.keep({"ended": "now"})
    output.unlink()
    assert attempts.take_over() == {"ended": "now"}
    assert output.read_text() == "a"


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    # a second lock of one process is another writer, too
    with (
        locked(tmp_path / "f", 0.1),
        pytest.raises(HeldError, match=f"process {os.getpid()} on"),
        locked(tmp_path / "f", 0.1),
    ):
        pass
    with locked(tmp_path / "f", 0.1):
        pass


def test_without_locks_all_is_done_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", no_locks)
    caplog.set_level(logging.WARNING)
    with locked(tmp_path / "f", 0.1), locked(tmp_path / "f", 0.1):
        pass
    assert "knows no locks" in caplog.text
