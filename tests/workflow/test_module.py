"""latentree as a module of another workflow, which runs in a folder of its own and keeps its own ways."""

import copy
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

from latentree.files import read_json, read_table, sha256_of
from outer_workflow import MODULE, TINY, copies, outer_workflow
from workflow_harness import ROOT


def test_a_module_writes_its_tables_and_leaves_the_other_workflow_as_it_was(tmp_path):
    config = {"samples": ["a"], "latentree": copy.deepcopy(TINY)}
    (tmp_path / "own.gmt").write_text("own\thand-made\tCD3D\tCD3E\tIL32\tLYZ\tCST3\tNKG7\n")
    config["latentree"]["atlases"]["pbmc"]["gene_sets"].append("own.gmt")
    config["latentree"]["downstream"]["min_set_size"] = 2
    outer = outer_workflow(tmp_path, copies("tables/enrichment.tsv"), config)
    # this seed is the other workflow's, though the key has the name of one of latentree's
    outer.snakemake("--config", "seeds=7")

    assert read_json(tmp_path / "seen.json") == {**config, "seeds": 7}
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"Snakefile", "outer.yaml", "own.gmt", "seen.json", "copied", "inside", ".snakemake"}
    assert "own" in set(read_table(tmp_path / "copied" / "elsewhere")["gene_set"])
    results = tmp_path / "inside" / "results"
    assert {path.name for path in results.iterdir()} == {"pbmc", "logs", "benchmarks", "provenance"}
    assert {path.name for path in results.glob("pbmc/fits/*/k*/*")} == {"seed0", "consensus"}

    (file,) = results.glob("provenance/*/run.json")
    run = read_json(file)
    assert run["state"] == "success"
    assert run["config"]["models"]["sparse_vae"]["max_epochs"] == 2
    outputs = {output["path"]: output["sha256"] for job in run["jobs"] for output in job["outputs"]}
    for path in (results / "pbmc").rglob("*.*"):
        name = str(path.relative_to(tmp_path))
        assert outputs[name] == sha256_of(path), name


def test_without_a_config_of_its_own_a_module_is_the_demo(tmp_path):
    outer = outer_workflow(tmp_path, f"{MODULE}\nuse rule * from latentree", {"samples": ["a"]})
    planned = outer.planned("--configfile", "outer.yaml", "--config", "results=mine")
    assert len(planned["fit_torch_model"]) == 6
    assert "results/pbmc68k/report.html" in str(planned["write_report"])


def test_the_whole_config_may_be_the_modules_and_a_rule_of_it_may_be_changed(tmp_path):
    more = """
    config: config

use rule * from latentree as latentree_*

use rule fit_torch_model from latentree as latentree_fit_torch_model with:
    threads: 2
"""
    outer = outer_workflow(tmp_path, MODULE + more, TINY)
    (fit,) = outer.planned("--configfile", "outer.yaml")["latentree_fit_torch_model"]
    assert "threads: 2" in fit


def test_two_modules_keep_to_themselves(tmp_path):
    first, second = copy.deepcopy(TINY), copy.deepcopy(TINY)
    second["atlases"] = {"other": second["atlases"]["pbmc"]}
    second["models"] = {"pca": {"n_factors": 3}}
    modules = f"""
configfile: "outer.yaml"

rule all:
    input: "one/pbmc/tables/genes.tsv", "two/other/tables/genes.tsv"

module one:
    snakefile: "{ROOT / "Snakefile"}"
    config: config["first"] | {{"results": "one"}}

module two:
    snakefile: "{ROOT / "Snakefile"}"
    config: config["second"]
    pathvars:
        results="two",

use rule * from one as one_*
use rule * from two as two_*
"""
    planned = outer_workflow(tmp_path, modules, {"first": first, "second": second}).planned()
    assert set(planned) == {
        *("one_prepare_atlas", "one_fit_torch_model", "one_build_consensus", "one_list_genes"),
        *("two_prepare_atlas", "two_fit_matrix_model", "two_build_consensus", "two_list_genes"),
    }
    assert "two/logs/other/list_genes.log" in planned["two_list_genes"][0]


def test_what_is_wrong_with_a_modules_config_is_said_without_a_traceback(tmp_path):
    wrong = f"{MODULE}\n    config: { ({**TINY, 'seed': [1]})!r}\n\nuse rule * from latentree"
    done = outer_workflow(tmp_path, wrong).snakemake("-n", check=False)
    assert done.returncode == 1
    assert "unknown key 'seed' (nearest: 'seeds')" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_remote_module_is_refused(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=ROOT)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/Snakefile"
        remote = f'module latentree:\n    snakefile: "{address}"\n\nuse rule * from latentree'
        done = outer_workflow(tmp_path, remote).snakemake("-n", check=False)
        server.shutdown()
    assert done.returncode == 1
    assert "from a local checkout only" in done.stdout + done.stderr
