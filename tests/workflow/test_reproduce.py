"""The papers' experiments as jobs: skipped without data, rerun one by one."""

import json

import pytest

from latentree.files import read_table
from workflow_harness import copy_of_the_checkout

PARTS = "results/reproduction_quick/parts"
WANTED = [f"{PARTS}/{part}.tsv" for part in ("shift/high", "cells/split0", "ratings/folds")]
# the demo's config, and no data of any experiment
QUICK = ["--config", "reproduction={quick: true}"]


@pytest.fixture(scope="module")
def skipped(tmp_path_factory):
    """A copy of the checkout in which three parts that lack their data have run."""
    made = copy_of_the_checkout(tmp_path_factory.mktemp("reproduce") / "latentree")
    made.snakemake(*QUICK, "--", *WANTED)
    return made


def test_parts_without_data_are_skipped_and_recorded(skipped):
    for file in WANTED:
        assert list(read_table(skipped.root / file)["metric"]) == ["not_run"]
    records = [
        json.loads(file.read_text())
        for file in (skipped.root / "results/provenance").glob("*/jobs/run_experiment-*.json")
    ]
    assert {record["wildcards"]["experiment"] for record in records} == {"shift", "cells", "ratings"}
    assert all(record["modules_outside_code_hash"] == [] for record in records)


def test_only_an_edited_experiment_and_one_whose_data_came_run_again(skipped):
    with open(skipped.root / "scripts/latentree/reproduction/shift.py", "a") as module:
        module.write("\n# an edit\n")
    (skipped.root / "u.data").write_text("1\t1\t5\t881250000\n")
    given = ["--config", "reproduction={quick: true, movielens: u.data}"]
    planned = skipped.planned(*given, "--", *WANTED)
    edited, data_came = sorted(planned.pop("run_experiment"), key=lambda job: "ratings" in job)
    assert "experiment=shift" in edited
    assert "Params" in edited
    assert "experiment=ratings" in data_came
    assert planned == {}
