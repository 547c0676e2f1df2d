"""Bad input ends in one message that names it: before any job where possible, else in the job's log."""

import copy
import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from latentree.input_checks import beside, in_words, problems
from workflow_harness import NO_REFITS, ROOT, SMALL


def small(**atlas):
    config = {key: copy.deepcopy(SMALL[key]) for key in ("atlases", "preprocess")}
    config.update(models={"pca": {"n_factors": 2}}, seeds=[0], downstream=NO_REFITS)
    config["atlases"]["pbmc"].update(atlas)
    return config


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**small(), "seed": [1]}, "unknown key 'seed' (nearest: 'seeds')"),
        ({**small(), "atlases": {"../up": small()["atlases"]["pbmc"]}}, "letters, digits, _ and -"),
        (small(path="nowhere.h5ad"), "no such file: nowhere.h5ad"),
        (small(gene_sets=["nowhere.gmt"]), "no such file: nowhere.gmt"),
        ({**small(), "models": {"pca": {"n_factors": "many"}}}, "models.pca.n_factors"),
        ({**small(gene_sets=[]), "models": {"oi_vae": {}}}, "gene_sets of the atlas or of models.oi_vae"),
        ({**small(gene_sets=["library:Any"]), "models": {"oi_vae": {}}}, "holds no GMT file"),
        ({**small(), "tbr": {"regulators": "nowhere.tsv"}}, "tbr.regulators: no such file"),
        (
            {**small(), "tbr": {**SMALL["tbr"], "regulator_sources": ["chip"]}},
            "tbr.regulator_sources: chooses rows of a table",
        ),
        (small(gene_sets=["LICENSE"]), "LICENSE"),
        ({**small(), "environments": {"tree": {"file": "LICENSE"}}}, "LICENSE"),
        (small(path="builtin:nope"), "'pbmc68k_reduced'"),
    ],
)
def test_what_can_be_known_before_any_job_is_said_before_any_job(config, message):
    # what the Snakefile asks as it is read, without starting Snakemake for each
    assert message in in_words(problems(config, beside(ROOT)))


def test_all_that_is_wrong_is_said_at_once(finished):
    config = {**small(path="nowhere.h5ad", gene_sets=["nowhere.gmt", "LICENSE"]), "device": "gpu"}
    done = finished.snakemake("-n", "--configfile", finished.config(config, "bad.yaml"), check=False)
    for said in ("4 problems", "no such file: nowhere.h5ad", "nowhere.gmt", "LICENSE, line", "'gpu'"):
        assert said in done.stdout + done.stderr
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr


def failing_jobs(checkout, config, *rule_logs, files=()):
    """Run, towards some files or all, until jobs have failed; their logs."""
    done = checkout.snakemake(*files, "--keep-going", "--configfile", checkout.config(config), check=False)
    assert done.returncode == 1
    logs = [(checkout.root / "results" / "logs" / name).read_text() for name in rule_logs]
    for log in logs:
        assert "latentree: error: " in log
        assert "Traceback" not in log
        assert log.splitlines()[-1] in done.stdout + done.stderr, "Snakemake's output has the message, too"
    return logs


@pytest.fixture
def cells():
    """A tiny atlas of counts with two types."""
    counts = np.random.default_rng(0).poisson(1.0, size=(60, 40)).astype(np.float32)
    obs = pd.DataFrame({"type": ["<b>a;b", "CD4+/CD25 T Reg"] * 30}, index=[f"c{i}" for i in range(60)])
    return ad.AnnData(counts, obs, pd.DataFrame(index=[f"G{i}" for i in range(40)]))


def test_a_truncated_file_leaves_nothing_half_written(checkout, cells):
    cells.write_h5ad(checkout.root / "whole.h5ad")
    (checkout.root / "cut.h5ad").write_bytes((checkout.root / "whole.h5ad").read_bytes()[:5000])
    (log,) = failing_jobs(checkout, small(path="cut.h5ad", cell_type="type"), "pbmc/prepare_atlas.log")
    assert "cut.h5ad" in log
    assert not list((checkout.root / "results" / "pbmc").rglob("*.*"))
    (record,) = (checkout.root / "results" / "provenance").glob("*/run.json")
    assert '"state": "failure"' in record.read_text()


def test_more_factors_than_genes_names_both_numbers_and_absent_cuda_is_said(checkout, cells):
    # genes without counts are no genes, which the file's header does not tell
    cells.X[:, 30:] = 0
    cells.write_h5ad(checkout.root / "a.h5ad")
    config = {**small(path="a.h5ad", cell_type="type", gene_sets=[]), "device": "cuda"}
    config["models"] = {"pca": {"n_factors": 39}, "vae": {"n_factors": 2, "max_epochs": 1}}
    fits = ["pca.k39", "vae.k2"]
    logs = failing_jobs(
        checkout,
        config,
        *(f"pbmc/fit_model/{fit}.seed0.log" for fit in fits),
        files=[f"results/pbmc/fits/{fit.replace('.', '/')}/seed0/factors.h5ad" for fit in fits],
    )
    assert "39" in logs[0]
    assert "30" in logs[0]
    assert "cuda" in logs[1].lower()


@pytest.fixture
def server(tmp_path):
    """A local web server over a folder of its own."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    running = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{running.server_address[1]}"
    running.shutdown()
    running.server_close()


def test_a_download_is_checked_and_its_error_shows_both_hashes(checkout, cells, server):
    folder, address = server
    cells.write_h5ad(folder / "a.h5ad")
    right = hashlib.sha256((folder / "a.h5ad").read_bytes()).hexdigest()
    config = small(path=f"{address}/a.h5ad", sha256="0" * 64, cell_type="type", gene_sets=[])
    (log,) = failing_jobs(checkout, config, "pbmc/download_atlas.log")
    assert right in log
    assert "0" * 64 in log
    assert not (checkout.root / "results" / "pbmc" / "source.h5ad").exists()

    config["atlases"]["pbmc"]["sha256"] = right
    checkout.snakemake("results/pbmc/atlas.h5ad", "--configfile", checkout.config(config))
    atlas = ad.read_h5ad(checkout.root / "results" / "pbmc" / "atlas.h5ad")
    assert set(atlas.obs["cell_type"]) == {"<b>a;b", "CD4+/CD25 T Reg"}
