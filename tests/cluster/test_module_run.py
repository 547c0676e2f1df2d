"""latentree as a module runs to its report; in parts, `make test` has it in tests/workflow/test_module.py."""

from latentree.files import read_json
from outer_workflow import TINY, copies, outer_workflow


def test_a_module_runs_to_its_report(tmp_path):
    outer_workflow(tmp_path, copies("report.html"), {"latentree": TINY}).snakemake()
    assert "CD4+/CD25 T Reg" in (tmp_path / "copied" / "elsewhere").read_text()
    (run,) = (tmp_path / "inside" / "results" / "provenance").glob("*/run.json")
    assert {job["state"] for job in read_json(run)["jobs"]} == {"success"}
