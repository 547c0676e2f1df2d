"""The small run's files keep the contract of docs/outputs.md, and say how they came about."""

import html
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from latentree.files import read_json, read_table, sha256_of
from outputs_page import undocumented
from workflow_harness import ROOT, SMALL, clean_environment, copy_of_the_checkout


@pytest.fixture(scope="module")
def atlas(finished) -> Path:
    return finished.root / "results" / "pbmc"


def test_every_fit_keeps_the_contract(atlas):
    files = sorted(atlas.glob("fits/*/k*/*/factors.h5ad"))
    assert len(files) == 6
    for file in files:
        model, k = file.parts[-4], int(file.parts[-3][1:])
        factors = ad.read_h5ad(file)
        assert factors.obsm[f"X_{model}"].shape == (factors.n_obs, k)
        assert factors.obsm[f"X_{model}"].dtype == np.float32
        assert np.isfinite(factors.obsm[f"X_{model}"]).all()
        loadings = np.asarray(factors.varm[f"{model}_loadings"])
        assert loadings.shape == (factors.n_vars, k)
        largest = loadings[np.abs(loadings).argmax(0), np.arange(k)]
        assert (largest >= 0).all()
        assert {"cell_type", "split"} <= set(factors.obs)
        uns = factors.uns["latentree"]
        assert {"model", "settings_json", "seed", "versions_json", "atlas_sha256", "factors"} <= set(uns)
        assert uns["atlas_sha256"] == sha256_of(atlas / "atlas.h5ad")
        assert len(uns["factors"]["alive"]) == k


def test_every_file_column_and_key_is_on_the_page_of_outputs(finished):
    assert undocumented(finished.root / "results") == []


def test_the_tables_answer_the_questions_of_the_tutorial(finished, monkeypatch, capsys):
    import matplotlib as mpl

    mpl.use("Agg")
    page = (ROOT / "docs" / "tutorial.md").read_text()
    ours = {"my_atlas": "pbmc", "k15": "k4", "'monocytes'": "'CD14+ Monocyte'"}
    monkeypatch.chdir(finished.root)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.S):
        for theirs, here in ours.items():
            block = block.replace(theirs, here)
        exec(block.replace('color="cell_type"', 'color="cell_type", show=False'), names)
    said = capsys.readouterr().out
    assert names["factor"] in {"f1", "f2", "f3", "f4"}
    for answer in ("specificity", "loading", "halves_of_cells", "gene_set", "control_mean"):
        assert answer in said


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("metrics", "atlas model n_factors seed metric split value"),
        ("genes", "model n_factors seed factor gene loading inclusion"),
        (
            "enrichment",
            "model n_factors seed factor method gene_set n_overlap n_set n_background odds_ratio p_value"
            " q_value genes nes direction like",
        ),
        (
            "enrichment_summary",
            "model n_factors seed method n_factors_tested n_sets_tested n_enriched n_pairs_enriched"
            " control_mean control_max n_permutations ratio",
        ),
        ("stability", "model n_factors comparison factor agreement"),
        ("usage", "model n_factors seed factor cell_type n_cells mean_usage share_using specificity"),
        ("consensus", "model n_factors factor stability_mean stability_lowest seeds_found n_seeds"),
        ("n_factors", "model n_factors n_seeds fit_metric held_out_mean held_out_sd score stability_halves"),
        ("tbr", "estimator phenotype n_latents n_changes seed metric value"),
        ("tbr_transfer", "estimator n_latents n_changes seed held_out nearest shots method nmse nmse_sd"),
    ],
)
def test_tables_are_tidy_and_filled(atlas, table, columns):
    found = read_table(atlas / "tables" / f"{table}.tsv")
    assert list(found.columns[: len(columns.split())]) == columns.split()
    assert len(found)


def test_what_became_of_the_gene_sets_is_said_beside_the_table_and_on_the_page(atlas):
    notes = read_json(atlas / "tables" / "enrichment_notes.json")
    assert "are tested, with gseapy" in notes[-1]
    assert html.escape(notes[-1]) in (atlas / "report.html").read_text()


def test_the_page_says_which_code_and_software_made_it(atlas):
    shown = (atlas / "report.html").read_text().split("<h3>Versions</h3>")[1]
    for name in ("latentree", "torch", "scikit-learn", "python", "snakemake", "commit"):
        assert f"<dt>{name}</dt>" in shown, name


def test_scores_come_with_their_references(atlas):
    metrics = read_table(atlas / "tables" / "metrics.tsv").query("metric == 'accuracy' and split == 'test'")
    assert {"majority", "chance", "pca", "nmf", "sparse_vae"} <= set(metrics["model"])
    assert metrics["value"].astype(float).between(0, 1).all()
    best = metrics.groupby("model")["value"].max()
    assert best["sparse_vae"] > best["majority"]


def test_halves_share_no_cell_but_the_test_cells(atlas):
    whole = ad.read_h5ad(atlas / "fits" / "pca" / "k4" / "seed0" / "factors.h5ad").obs["split"]
    for model in ("sparse_vae", "pca"):
        folders = [atlas / "resamples" / model / "k4" / part for part in ("half0", "half1")]
        halves = [ad.read_h5ad(folder / "factors.h5ad").obs["split"] for folder in folders]
        for half, folder in zip(halves, folders, strict=True):
            assert (half == whole[half.index]).all()
            assert read_json(folder / "fit.json")["refit"]["part"] == folder.name
        assert set(halves[0].index) & set(halves[1].index) == set(whole.index[whole == "test"])
        assert set(halves[0].index) | set(halves[1].index) == set(whole.index)


def test_stability_comes_with_its_references_and_the_page_claims_by_it(atlas):
    table = read_table(atlas / "tables" / "stability.tsv").query("factor == 'all'")
    levels = table.set_index(["model", "comparison"])["agreement"]
    assert levels.between(0, 1).all()
    halves = {(model, "halves") for model in ("sparse_vae", "pca", "varimax", "varimax_start")}
    assert set(levels.index) == {*halves, ("sparse_vae", "seeds"), ("pca", "seeds")}
    page = (atlas / "report.html").read_text()
    assert "Between fits on disjoint halves of the training cells" in page
    assert f"sparse_vae (k\u00a0=\u00a04) {levels['sparse_vae', 'halves']:.2f}" in page
    assert "agree by construction" in page


def test_seeds_that_agree_by_construction_are_judged_by_halves_of_the_cells(atlas):
    table = read_table(atlas / "tables" / "consensus.tsv").query("model == 'pca'").set_index("factor")
    assert table.loc["all", "half_agreement"] == pytest.approx(1)
    assert "by construction" in table.loc["all", "note"]
    factors = table.drop(index="all")
    assert list(factors.index) == ["f1", "f2", "f3", "f4"]
    assert ((factors["halves_of_cells"] >= 0.71) == (factors["stable"] == "yes")).all()
    metrics = read_table(atlas / "tables" / "metrics.tsv").query("seed == 'consensus'")
    assert {"sparse_vae", "pca"} == set(metrics["model"])
    assert (atlas / "figures" / "n_factors.svg").stat().st_size > 1000


@pytest.mark.parametrize("name", ["genes", "enrichment", "enrichment_summary", "usage"])
def test_tables_describe_the_consensus_beside_every_seed(atlas, name):
    table = read_table(atlas / "tables" / f"{name}.tsv")
    for model in ("sparse_vae", "pca"):
        mine = table[table["model"] == model]
        assert {"0", "1", "consensus"} == set(mine["seed"])
        factors = ad.read_h5ad(atlas / "fits" / model / "k4" / "consensus" / "factors.h5ad")
        if name == "genes":
            listed = mine[mine["seed"] == "consensus"]
            loadings = pd.DataFrame(
                factors.varm[f"{model}_loadings"], factors.var_names, ["f1", "f2", "f3", "f4"]
            )
            assert len(listed)
            for row in listed.itertuples():
                assert row.loading == pytest.approx(loadings.loc[row.gene, row.factor], rel=1e-6)


def test_every_picture_is_there_as_svg_and_as_png(atlas):
    figures = atlas / "figures"
    names = {
        suffix: {str(file.relative_to(figures).with_suffix("")) for file in figures.rglob(f"*.{suffix}")}
        for suffix in ("svg", "png")
    }
    assert names["svg"] == names["png"]
    assert {"sparsity", "factors/sparse_vae_k4/f1", "factors/pca_k4/f4"} <= names["svg"]


def test_tbr_scores_come_with_chance_and_floor(atlas):
    tbr = read_table(atlas / "tables" / "tbr.tsv")
    assert {"baseline", "two_stage"} == set(tbr["estimator"])
    assert {"mcc", "mcc_chance", "span_r2", "nmse", "nmse_floor"} <= set(tbr["metric"])


def test_report_is_there_and_needs_no_network(atlas):
    page = (atlas / "report.html").read_text()
    assert "CD4+/CD25 T Reg" in page
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)


def test_qc_tells_decisions_and_counts(atlas):
    assert "log" in (atlas / "qc.json").read_text()
    assert read_json(atlas / "qc.json")


def test_a_run_record_is_closed_and_names_every_file_with_its_hash(finished):
    (file,) = (finished.root / "results" / "provenance").glob("*/run.json")
    run = read_json(file)
    assert run["state"] == "success"
    assert run["config"]["seeds"] == [0, 1]
    assert "--configfile" in run["command"]
    outputs = {output["path"]: output["sha256"] for job in run["jobs"] for output in job["outputs"]}
    for path in (finished.root / "results" / "pbmc").rglob("*"):
        name = str(path.relative_to(finished.root))
        if path.is_file():
            assert outputs[name] == sha256_of(path), name
    fit = next(job for job in run["jobs"] if job["rule"] == "fit_torch_model")
    assert fit["seed"] in {"0", "1"}
    assert fit["settings"]["settings"]["max_epochs"] == 40
    assert fit["versions"]["torch"]
    assert fit["peak_memory_mb"] > 50


def test_every_module_that_a_job_loaded_is_in_its_static_closure(finished):
    (file,) = (finished.root / "results" / "provenance").glob("*/run.json")
    for job in read_json(file)["jobs"]:
        assert job["modules_outside_code_hash"] == [], job["rule"]


def test_a_finished_run_is_as_recorded_and_leaves_no_job(finished):
    config = finished.config(SMALL, "again.yaml")
    for arguments, said in (
        (["verify", "results"], "all as recorded"),
        (["check", config], "jobs: none left"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "latentree", *arguments],
            cwd=finished.root,
            env={**clean_environment(), "PYTHONPATH": "scripts"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert said in done.stdout


@pytest.fixture(scope="module")
def second(finished, tmp_path_factory):
    """Another copy whose run is killed and taken up again, up to the tables: figures are not compared."""
    made = copy_of_the_checkout(tmp_path_factory.mktemp("second") / "latentree")
    config = made.config(SMALL)
    killed_after_first_checkpoint(made, config)
    made.snakemake("--unlock", "--configfile", config)
    tables = finished.root.glob("results/pbmc/tables/*.tsv")
    names = [str(table.relative_to(finished.root)) for table in tables]
    made.snakemake(*names, "--configfile", config, "--rerun-incomplete")
    return made


def killed_after_first_checkpoint(made, config):
    """Run a fit until it has written a checkpoint, then SIGKILL Snakemake and all its jobs."""
    fit = "results/pbmc/fits/sparse_vae/k4/seed0/factors.h5ad"
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", fit, "--cores", "1", "--configfile", config],
        cwd=made.root,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    checkpoint = made.root / Path(fit).with_name("checkpoint") / "checkpoint.safetensors"
    while process.poll() is None and time.monotonic() < deadline and not checkpoint.exists():
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_killed_run_resumes_and_ends_identical(finished, second):
    log = "".join(file.read_text() for file in second.root.glob("results/logs/pbmc/fit_model/sparse_vae*"))
    resumed = re.search(r"resum\w+ from epoch (\d+)", log)
    assert resumed, log
    assert int(resumed.group(1)) > 0
    folders = ("fits/*/k*/seed*", "resamples/*/k*/*")
    patterns = [f"{folder}/{file}" for folder in folders for file in ("factors.h5ad", "model.safetensors")]
    for pattern in ("tables/*.tsv", *patterns):
        files = sorted((finished.root / "results" / "pbmc").glob(pattern))
        assert files
        for file in files:
            name = file.relative_to(finished.root)
            assert sha256_of(second.root / name) == sha256_of(file), name
    assert not list(second.root.glob("results/pbmc/fits/*/k*/seed*/checkpoint/*.safetensors"))


def test_what_sigkill_left_open_is_assembled(second):
    first = min(second.root.glob("results/provenance/*/run.json"))
    assert read_json(first)["state"] == "running"
    done = subprocess.run(
        [sys.executable, "-m", "latentree", "record", "results"],
        cwd=second.root,
        env={**clean_environment(), "PYTHONPATH": "scripts"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "closed as interrupted" in done.stdout
    states = [read_json(file)["state"] for file in sorted(second.root.glob("results/provenance/*/run.json"))]
    assert states == ["interrupted", "success"]
