"""What surrounds every rule script: log, exit code, record, and the refusal of a foreign library."""

import re
import subprocess
import sys

import pandas as pd
import pytest
from job_fixture import SCRIPTS, record_of, start_job

from latentree.errors import InputError
from latentree.files import read_table, write_table
from latentree.job import refuse_foreign_library


def run(folder, body):
    job = start_job(folder, body)
    job.stdout_text, job.stderr_text = job.communicate(timeout=60)
    return job, (folder / "log.txt").read_text(), record_of(folder)


def test_success_is_logged_and_recorded(tmp_path):
    done, log, record = run(tmp_path, "open('out.txt', 'w').write('out')")
    assert done.returncode == 0
    assert done.stdout_text == "working\n"
    assert re.fullmatch(r"working\ntry: done in \d+\.\d s\n", log)
    assert record["state"] == "success"
    assert record["seed"] == "7"
    assert record["settings"] == {"settings": {"a": 1}}
    assert [file["bytes"] for file in record["inputs"] + record["outputs"]] == [2, 3]
    assert record["modules_outside_code_hash"] == []


def test_bad_input_is_one_message_and_exit_code_2(tmp_path):
    body = "from latentree.errors import InputError; raise InputError('a.h5ad', 'is empty', 'Give cells')"
    done, log, record = run(tmp_path, body)
    assert done.returncode == 2
    assert done.stderr_text == "latentree: error: a.h5ad: is empty. Give cells.\n"
    assert done.stderr_text in log
    assert record["state"] == "failure"
    assert record["outputs"][0]["sha256"] is None


def test_a_bug_keeps_its_traceback_and_fails(tmp_path):
    done, log, record = run(tmp_path, "raise KeyError('bug')")
    assert done.returncode == 1
    assert "KeyError: 'bug'" in log
    assert "Traceback" in done.stderr_text
    assert record["state"] == "failure"


def test_ctrl_c_is_one_line_and_its_record_says_so(tmp_path):
    done, log, record = run(tmp_path, "raise KeyboardInterrupt")
    assert done.returncode == 130
    assert "goes on from here" in log
    assert "Traceback" not in done.stderr_text
    assert record["state"] == "interrupted"


def test_threads_are_set_before_numpy_is_loaded(tmp_path):
    body = "import os; assert 'numpy' not in sys.modules; print(os.environ['OMP_NUM_THREADS'])"
    assert run(tmp_path, body)[0].stdout_text == "working\n1\n"


def test_a_library_from_elsewhere_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not the library beside the script"):
        refuse_foreign_library(str(tmp_path / "fit_model.py"))


def test_scores_of_all_estimators_are_one_sorted_table(tmp_path):
    rows = [
        (name, 3, changes, seed, metric)
        for name in ("two_stage", "joint")
        for seed in (10, 2)
        for changes in (1, 0)
        for metric in ("nmse", "mcc")
    ]
    columns = ["estimator", "n_latents", "n_changes", "seed", "metric"]
    # the other two tables are sorted by more columns
    table = pd.DataFrame(rows, columns=columns).assign(held_out="a", shots=5, method="ols")
    for name, mine in table.groupby("estimator"):
        write_table(mine, tmp_path / f"{name}.tsv")
    # in a process of its own, because a rule's script sets threads and logging for its process
    driver = f"""
import runpy
from types import SimpleNamespace
runpy.run_path({str(SCRIPTS / "collect_tbr.py")!r}, init_globals={{"snakemake": SimpleNamespace(
    log=[], threads=1, rule="collect_tbr", config={{"results": "results"}}, wildcards={{}}, params={{}},
    input=dict.fromkeys(["scores", "transfer", "identifiability"], ["two_stage.tsv", "joint.tsv"]),
    output={{name: name + ".tsv" for name in ("scores", "transfer", "identifiability")}},
)}})
"""
    subprocess.run([sys.executable, "-c", driver], cwd=tmp_path, check=True)
    found = read_table(tmp_path / "scores.tsv").astype({"seed": int})[columns]
    assert list(found.itertuples(index=False, name=None)) == sorted(rows)
