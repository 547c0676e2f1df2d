"""latentree verify: files against their newest records."""

import json
from pathlib import Path

import pytest

from latentree import provenance
from latentree.cli import main


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An atlas made of an input, and a fit made of the atlas."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(provenance.RUN_VARIABLE, "run1")
    Path("in.h5ad").write_text("cells")
    ran("prepare", ["in.h5ad"], "results/a/atlas.h5ad")
    ran("fit", ["results/a/atlas.h5ad"], "results/a/fits/factors.h5ad")
    return tmp_path / "results"


def ran(rule: str, inputs: list[str], output: str, ended: str = "2026-01-01", **facts: object) -> None:
    """A job that wrote one file, and its record."""
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    if facts.get("state") != "failure":
        Path(output).write_text(f"{output} {ended}")
    record = {
        "state": "success",
        "started": ended,
        "ended": ended,
        "inputs": provenance.describe_files(inputs),
        "outputs": provenance.describe_files([output]),
    }
    provenance.write_job_record("results", rule, {"output": output}, record | facts)


def verified(capsys: pytest.CaptureFixture[str], results: str | Path = "results") -> tuple[int, list[str]]:
    code = main(["verify", str(results)])
    return code, capsys.readouterr().out.splitlines()


def test_all_is_as_recorded(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for left_over in ("logs/x.log", "attempts/y/z", "a/fits/checkpoint/state.json", "benchmarks/b.tsv"):
        (results / left_over).parent.mkdir(parents=True, exist_ok=True)
        (results / left_over).write_text("x")
    assert verified(capsys) == (0, ["3 files looked at in results: all as recorded"])


def test_each_kind_of_drift_is_listed(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (results / "a/fits/factors.h5ad").write_text("edited")
    (results / "a/mine.txt").write_text("x")
    Path("in.h5ad").write_text("other cells")
    code, said = verified(capsys)
    assert code == 1
    assert said == [
        "changed: results/a/fits/factors.h5ad",
        "no record: results/a/mine.txt",
        "input changed since: in.h5ad (read by 1 job)",
        "3 files looked at in results: 3 findings",
    ]
    Path("in.h5ad").unlink()
    (results / "a/fits/factors.h5ad").unlink()
    assert verified(capsys)[1][:2] == ["missing: results/a/fits/factors.h5ad", "missing: in.h5ad"]


def test_the_newest_record_counts_whichever_run_it_is_of(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(provenance.RUN_VARIABLE, "run0")
    ran("prepare", ["in.h5ad"], "results/a/atlas.h5ad", ended="2026-02-01", taken_over={"ended": "x"})
    code, said = verified(capsys)
    # the fit has read the atlas as it was before
    assert code == 1
    assert said[0] == "input changed since: results/a/atlas.h5ad (read by 1 job)"
    ran("fit", ["results/a/atlas.h5ad"], "results/a/fits/factors.h5ad", ended="2026-02-02")
    assert verified(capsys)[0] == 0


def test_a_file_of_a_failed_job_is_missing_and_says_so(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (results / "a/fits/factors.h5ad").unlink()
    ran("fit", [], "results/a/fits/factors.h5ad", ended="2026-03-01", state="failure")
    code, said = verified(capsys)
    assert code == 1
    assert said[0] == "missing: results/a/fits/factors.h5ad (the state of its last job: failure)"


def test_results_may_be_moved_and_looked_at_from_elsewhere(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = results.rename(results.parent / "moved")
    (moved.parent / "elsewhere").mkdir()
    monkeypatch.chdir(moved.parent / "elsewhere")
    assert verified(capsys, moved)[0] == 0
    assert verified(capsys, "../moved")[0] == 0


def test_what_cannot_be_verified_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path)]) == 2
    (tmp_path / "provenance").mkdir()
    assert main(["verify", str(tmp_path)]) == 2
    jobs = tmp_path / "provenance" / "run" / "jobs"
    jobs.mkdir(parents=True)
    for broken in ("{", json.dumps([])):
        (jobs / "fit-1.json").write_text(broken)
        assert main(["verify", str(tmp_path)]) == 2
    assert "fit-1.json" in capsys.readouterr().err


def test_a_jobs_end_says_how_far_its_stage_is(results: Path) -> None:
    said = provenance.plan_run(results, "run1", {"atlas": {"prepare": 1}, "models": {"fit": 2, "refit": 3}})
    assert said == "jobs by stage: atlas 1, models 5; 6 in all"
    job = provenance.job_name("refit", {"part": "r0"})
    assert provenance.progress(results, job) == "models 2 of 5, all 3 of 6 jobs"
    assert provenance.progress(results, provenance.job_name("other", {})) == ""


def test_without_a_plan_nothing_is_said(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert provenance.progress(results, "fit-1") == ""
    monkeypatch.delenv(provenance.RUN_VARIABLE)
    assert provenance.progress(results, "fit-1") == ""
