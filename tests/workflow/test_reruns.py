"""What an edit or a changed setting runs again: what depends on it, and nothing else."""

import copy
import re

import pytest

from closure_oracle import reached_modules, scripts_as_they_run
from workflow_harness import ROOT, SMALL


def scripts_of_rules() -> dict[str, str]:
    """Rule name -> script, read from the rule files."""
    found = {}
    for file in (ROOT / "workflow" / "rules").glob("*.smk"):
        for name, body in re.findall(r"rule (\w+):(.*?)(?=\n\s*(?:use )?rule |\Z)", file.read_text(), re.S):
            script = re.search(r'code\("(\w+\.py)"\)', body)
            if script:
                found[name] = script.group(1)
    used = {"fit_matrix_model": "fit_model.py", "refit_matrix_model": "refit_model.py"}
    return {**found, **used, "denoise_cells": "denoise_cells.py"}


@pytest.fixture(scope="module")
def rules_that_import(tmp_path_factory):
    """Rules whose script reaches a module, by the standard library's modulefinder."""
    scripts = scripts_as_they_run(tmp_path_factory.mktemp("scripts"))
    reached = {rule: reached_modules(script, scripts) for rule, script in scripts_of_rules().items()}
    return lambda module: {rule for rule, modules in reached.items() if module in modules}


@pytest.fixture(scope="module")
def everything(finished):
    """All rules of the small run, with the description of every job."""
    return finished.planned("--configfile", "my.yaml", "--forceall")


@pytest.fixture
def edited(finished):
    """Edits a file of the finished checkout for one test."""
    originals = {}

    def edit(name: str, addition: str = "\n# an edit\n") -> None:
        path = finished.root / name
        originals[path] = path.read_bytes() if path.exists() else None
        path.write_bytes((originals[path] or b"") + addition.encode())

    yield edit
    for path, content in originals.items():
        path.unlink() if content is None else path.write_bytes(content)


def test_a_second_run_has_nothing_to_do(finished):
    assert "Nothing to be done" in finished.snakemake("--configfile", "my.yaml").stderr


# a module of one rule, of some and of all, in a subpackage or not
@pytest.mark.parametrize("module", ["plots.loadings", "tree", "errors", "tbr.study", "api"])
def test_editing_a_module_reruns_the_rules_that_import_it(
    finished, everything, edited, rules_that_import, module
):
    path = module.replace(".", "/") + ".py"
    edited(f"scripts/latentree/{path}")
    planned = finished.planned("--configfile", "my.yaml")
    triggered = rules_that_import(f"latentree.{module}") & set(everything)
    assert triggered, "the test names a module that no rule reaches"
    assert triggered <= set(planned)
    # the others only follow from files that these write anew
    followers = [job for rule in set(planned) - triggered for job in planned[rule]]
    assert all("updated by another job" in job and "Params" not in job for job in followers)


def test_a_module_that_nobody_uses_reruns_nothing(finished, edited):
    edited("scripts/latentree/nobody_uses_this.py", "x = 1\n")
    assert finished.planned("--configfile", "my.yaml") == {}


def changed(**changes):
    config = copy.deepcopy(SMALL)
    for key, value in changes.items():
        place = config
        *path, last = key.split("__")
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return config


REPORT = {"draw_tables", "write_report"}
REFITS = {"refit_torch_model", "refit_matrix_model"}
CHOICE = {"choose_n_factors", "draw_n_factors"}
USAGE = {"measure_usage", "draw_usage"}
TABLES = {"score_fits", "list_genes", "compare_fits", "enrich_factors", *USAGE, *REPORT, *CHOICE}
PAGES = {"draw_factor_pages"}
CONSENSUS = {"build_consensus", "list_consensus", *PAGES}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"downstream__min_set_size": 3}, {"enrich_factors", "write_report", *CHOICE, *PAGES}),
        ({"downstream__n_top_genes": 20}, {"enrich_factors", "list_genes", "write_report", *CHOICE, *PAGES}),
        ({"tbr__penalty": 0.02}, {"fit_tbr", "collect_tbr", *REPORT}),
        ({"tbr__held_out__n_types": 1}, {"fit_tbr", "collect_tbr", *REPORT}),
        (
            {"models__sparse_vae__lambda0": 0.5},
            {"fit_torch_model", "refit_torch_model", "draw_fit", "draw_training", *TABLES, *CONSENSUS},
        ),
        (
            {"models__pca__gene_scaling": 0.5},
            {"fit_matrix_model", "refit_matrix_model", "draw_fit", *TABLES, *CONSENSUS},
        ),
        # the share of a resample, of which there are none here
        ({"downstream__stability__fraction": 0.7}, {"write_report"}),
        (
            {"downstream__stability__n_halves": 0},
            # the consensus says what halves of the cells do
            {"draw_fit", *TABLES, *CONSENSUS},
        ),
        # what a cluster allows
        ({"resources__max_mem_mb": 64000}, set()),
        (
            {"environments__tree__linkage": "average"},
            {"build_tree", "draw_tree", "fit_tbr", "collect_tbr", *REPORT},
        ),
    ],
)
def test_a_changed_setting_reruns_what_depends_on_it(finished, changes, expected):
    assert (
        set(finished.planned("--configfile", finished.config(changed(**changes), "changed.yaml"))) == expected
    )


def test_a_new_seed_fits_only_that_seed(finished):
    planned = finished.planned("--configfile", finished.config(changed(seeds=[0, 1, 2]), "changed.yaml"))
    assert set(planned) == {
        "fit_torch_model",
        "fit_matrix_model",
        "fit_tbr",
        "collect_tbr",
        "draw_fit",
        *TABLES,
        *CONSENSUS,
    }
    assert (len(planned["fit_torch_model"]), len(planned["fit_matrix_model"])) == (1, 1)


def test_more_refits_leave_those_that_there_are(finished):
    config = finished.config(changed(downstream__stability__n_resamples=2), "changed.yaml")
    planned = finished.planned("--configfile", config)
    assert set(planned) == {*REFITS, "compare_fits", "list_consensus", *REPORT, *CHOICE, *PAGES}
    assert [len(planned[rule]) for rule in sorted(REFITS)] == [2, 2]
    assert all("part=r" in job for rule in REFITS for job in planned[rule])


def test_a_users_config_replaces_the_demos(everything):
    assert "atlas=pbmc" in str(everything)
    assert "pbmc68k" not in str(everything)


def test_single_keys_change_on_the_command_line(finished):
    values = ["models={pca: {n_factors: 3}}", "tbr=null", "preprocess={n_genes: 100}"]
    planned = finished.planned("--configfile", "my.yaml", "--config", *values)
    assert "fit_tbr" not in planned
    assert any("k=3" in job for job in planned["fit_matrix_model"])


def test_how_often_a_checkpoint_is_written_reruns_no_fit(finished):
    config = changed(models__sparse_vae__checkpoint_every=2)
    # the report prints the settings
    assert set(finished.planned("--configfile", finished.config(config, "changed.yaml"))) == {"write_report"}


def test_the_demo_is_planned_from_any_folder(finished, tmp_path):
    assert "pbmc68k" in finished.snakemake("-n", "-d", str(tmp_path)).stdout


def test_no_tbr_key_no_tbr_stage(finished):
    config = {key: value for key, value in SMALL.items() if key != "tbr"}
    planned = finished.planned("--forceall", "--configfile", finished.config(config, "no_tbr.yaml"))
    assert not {"fit_tbr", "collect_tbr"} & set(planned)
    assert "write_report" in planned
