"""Records of jobs and runs."""

import os
import re
import subprocess
from types import SimpleNamespace

import pytest

from latentree import provenance
from latentree.cli import main
from latentree.errors import InputError
from latentree.files import read_json, sha256_of


@pytest.fixture
def opened(tmp_path, monkeypatch):
    monkeypatch.setenv(provenance.RUN_VARIABLE, "run1")
    provenance.open_run(tmp_path, "run1", ["snakemake"], {"seeds": [0]}, tmp_path)
    return tmp_path


def job(results, rule="fit", started="2026-01-01", **wildcards):
    provenance.write_job_record(results, rule, wildcards, {"state": "success", "started": started})


def test_a_run_opens_as_running_and_closes_with_its_jobs_in_order_of_time(opened):
    path = opened / "provenance" / "run1" / "run.json"
    assert read_json(path)["state"] == "running"
    job(opened, started="2026-01-02", seed="1")
    job(opened, started="2026-01-01", seed="2")
    provenance.close_run(opened, "run1", "success")
    closed = read_json(path)
    assert closed["state"] == "success"
    assert closed["config"] == {"seeds": [0]}
    assert [record["wildcards"]["seed"] for record in closed["jobs"]] == ["2", "1"]


def test_record_closes_what_was_left_open(opened, capsys):
    job(opened)
    assert main(["record", str(opened)]) == 0
    assert "run1: closed as interrupted" in capsys.readouterr().out
    closed = read_json(opened / "provenance" / "run1" / "run.json")
    assert (closed["state"], len(closed["jobs"])) == ("interrupted", 1)
    assert main(["record", str(opened)]) == 0
    assert "no run was left open" in capsys.readouterr().out


def test_a_run_that_nobody_opened_is_assembled_from_its_jobs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(provenance.RUN_VARIABLE, "run1")
    job(tmp_path)
    assert main(["record", str(tmp_path)]) == 0
    assert "run1: closed as unknown" in capsys.readouterr().out
    closed = read_json(tmp_path / "provenance" / "run1" / "run.json")
    assert (closed["state"], len(closed["jobs"])) == ("unknown", 1)


def test_record_refuses_a_folder_without_runs(tmp_path, capsys):
    assert main(["record", str(tmp_path)]) == 2
    assert "has no folder 'provenance'" in capsys.readouterr().err


def test_a_job_without_the_variable_finds_the_open_run(opened, monkeypatch):
    monkeypatch.delenv(provenance.RUN_VARIABLE)
    job(opened)
    assert len(list((opened / "provenance" / "run1" / "jobs").iterdir())) == 1


def test_files_are_described_by_hash_and_size(tmp_path):
    there = tmp_path / "a.txt"
    there.write_bytes(b"abc")
    first, second = provenance.describe_files([str(there), str(tmp_path / "none")])
    assert first == {"path": str(there), "sha256": sha256_of(there), "bytes": 3}
    assert first["sha256"].startswith("ba7816bf")
    assert second["sha256"] is None


def test_git_state_outside_of_a_checkout_is_unknown(tmp_path):
    assert provenance.git_state(tmp_path) == {"commit": None, "dirty": None}


def test_a_commit_is_said_with_its_uncommitted_changes(tmp_path):
    assert provenance.commit_in_words(tmp_path) == "not known: no git checkout"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "a").write_text("a")
    subprocess.run([*git, "add", "a"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "a"], check=True)
    clean = provenance.commit_in_words(tmp_path)
    assert re.fullmatch("[0-9a-f]{40}", clean)
    (tmp_path / "a").write_text("b")
    assert provenance.commit_in_words(tmp_path) == f"{clean} (with uncommitted changes)"


def test_a_job_says_of_which_run_and_command_it_is(tmp_path, monkeypatch):
    monkeypatch.delenv(provenance.RUN_VARIABLE, raising=False)
    assert provenance.run_in_words(tmp_path) == {}
    provenance.open_run(tmp_path, "r1", ["snakemake", "--config", "a b"], {}, tmp_path)
    said = {"run": "r1", "command": "snakemake --config 'a b'"}
    assert provenance.run_in_words(tmp_path) == said
    provenance.close_run(tmp_path, "r1", "success")
    assert provenance.run_in_words(tmp_path) == {}
    monkeypatch.setenv(provenance.RUN_VARIABLE, "r1")
    assert provenance.run_in_words(tmp_path) == said


@pytest.mark.parametrize(("platform", "megabytes"), [("linux", 3072.0), ("darwin", 3.0)])
def test_peak_memory_is_in_mb_where_macos_counts_bytes(monkeypatch, platform, megabytes):
    monkeypatch.setattr(provenance.sys, "platform", platform)
    monkeypatch.setattr(provenance.resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=3 * 2**20))
    assert provenance.peak_memory_mb() == megabytes


def test_run_ids_sort_by_time_and_name_the_process():
    assert re.fullmatch(rf"\d{{8}}T\d{{6}}-{os.getpid()}", provenance.new_run_id())


def test_broken_records_are_named(opened):
    (opened / "provenance" / "run1" / "run.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        provenance.assemble_open_runs(opened)
