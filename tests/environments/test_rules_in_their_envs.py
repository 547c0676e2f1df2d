"""Every rule in an environment of exactly its pins, made and entered by Snakemake's own conda code."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml

from environments.conda_stand_in import install, make_environment
from environments.env_files import (
    ENVS,
    GPU,
    closure,
    distributions,
    known_pins,
    normal,
    requirements_on,
    scripts_by_env,
)
from latentree.files import write_table
from latentree.reproduction.records import MEASUREMENT_COLUMNS, NOT_RUN
from latentree.reproduction.registry import EXPERIMENTS
from workflow_harness import NO_REFITS, SMALL, clean_environment, copy_of_the_checkout

# what the Snakefile imports: Snakemake lends its own packages to scripts, so it may have no others
SNAKEFILE_NEEDS = ("snakemake", "pydantic", "pyyaml")
ATLAS = SMALL | {
    "seeds": [0],
    "models": {"oi_vae": {"n_factors": 3, "max_epochs": 3}},
    # a table of regulators would be read by the Snakefile too, which then needs pandas
    "tbr": SMALL["tbr"] | {"regulators": None, "estimators": ["baseline"]},
    "downstream": NO_REFITS | {"umap": True, "enrichment": {"gsea": True}},
}
MEASURED = {
    "seeds": [0],
    "models": {"sparse_vae": {"n_factors": 2, "max_epochs": 3}},
    "environments": {"magic": {"engine": "magic-impute", "fit_on": "all"}},
    "tbr": {
        "phenotype": {"column": "condition", "n_bootstrap": 3},
        "n_latents": 1,
        "estimators": ["two_stage"],
    },
    "reproduction": {"quick": True},
}
PART = "intel/digits"
# a dry run where no environment was made before
NOTHING_MADE = ["-n", "--conda-prefix", "none"]
# environments are made before the first test that looks at the runs
pytestmark = pytest.mark.timeout(1800)


@dataclass(frozen=True)
class Lab:
    """A copy of the checkout beside a Snakemake of its own and the stand-in for conda."""

    folder: Path

    @property
    def checkout(self) -> Path:
        return self.folder / "latentree"

    @property
    def environments(self) -> Path:
        return self.folder / "environments"

    def snakemake(
        self, config: dict, *targets: str, options: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run Snakemake with a config as a lab that has conda does."""
        (self.checkout / "my.yaml").write_text(yaml.safe_dump(config))
        path = f"{self.folder / 'conda' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        command = [self.folder / "snakemake" / "bin" / "python", "-m", "snakemake", "--cores", "2"]
        usual = ["--sdm", "conda", "--conda-prefix", self.environments, "--configfile", "my.yaml"]
        return subprocess.run(
            [*command, *usual, *options, "--", *targets],
            cwd=self.checkout,
            env=clean_environment() | {"PATH": path, "no_proxy": "*"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def jobs(self) -> Iterator[tuple[str, dict]]:
        """Every script that ran in an environment of the project's, with the name of that one's file."""
        named = {path.read_text(): path.name for path in ENVS.glob("*.yaml")}
        for noted in self.environments.glob("*/jobs.jsonl"):
            env = named.get(noted.parent.with_suffix(".yaml").read_text())
            yield from ((env, json.loads(line)) for line in noted.open() if env is not None)


def write_atlas(path: Path) -> None:
    """Counts of three cell types, half of the cells treated."""
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {"type": np.resize(["B", "CD4 T", "CD8 T"], 240), "condition": np.repeat(["ctrl", "stim"], 120)},
        index=[f"c{i}" for i in range(240)],
    )
    rates = 1 + obs["type"].factorize()[0][:, None] * np.arange(30) % 5
    var = pd.DataFrame(index=[f"G{i}" for i in range(30)])
    ad.AnnData(rng.poisson(rates).astype(np.float32), obs, var).write_h5ad(path)


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[Lab]:
    made = Lab(tmp_path_factory.mktemp("lab"))
    known = known_pins(gpu=False)
    make_environment(
        made.folder / "snakemake", [str(known[name]) for name in closure(SNAKEFILE_NEEDS, known)]
    )
    install(made.folder / "conda")
    copy_of_the_checkout(made.checkout)
    yield made
    # pytest keeps the folders of three sessions, and these are gigabytes
    shutil.rmtree(made.environments, ignore_errors=True)


@pytest.fixture(scope="module")
def address(lab) -> Iterator[str]:
    """Where the copy of the checkout is served."""
    handler = partial(SimpleHTTPRequestHandler, directory=lab.checkout)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def finished(lab, address) -> Lab:
    """The lab after runs that need every rule's script."""
    succeeds(lab.snakemake(ATLAS))
    write_atlas(lab.checkout / "a.h5ad")
    checksum = hashlib.sha256((lab.checkout / "a.h5ad").read_bytes()).hexdigest()
    atlas = {"path": f"{address}/a.h5ad", "sha256": checksum, "cell_type": "type", "condition": "condition"}
    atlas["gene_sets"] = ["library:immune_programs.gmt"]
    library = {"enrichment": {"library_address": f"{address}/resources/gene_sets/"}}
    for name, experiment in EXPERIMENTS.items():
        for part in experiment.part_names(quick=True):
            if f"{name}/{part}" != PART:
                skip_part(lab.checkout / "results/reproduction_quick/parts" / name / part, name)
    wanted = ["tables/tbr.tsv", "figures/tbr_tree.svg", "resamples/sparse_vae/k2/half0/fit.json"]
    wanted += ["figures/conditions_sparse_vae_k2.svg"]
    targets = [
        *(f"results/a/{file}" for file in wanted),
        "results/gene_sets/immune_programs.gmt.gmt",
        "reproduce",
    ]
    config = MEASURED | {"atlases": {"a": atlas}, "downstream": library}
    succeeds(lab.snakemake(config, *targets))
    return lab


def skip_part(place: Path, experiment: str) -> None:
    """The tables of a part of an experiment that was not run."""
    place.parent.mkdir(parents=True, exist_ok=True)
    row = [experiment, "not run: one part is enough here", "", NOT_RUN, 0, np.nan]
    write_table(pd.DataFrame([row], columns=MEASUREMENT_COLUMNS), place.with_suffix(".tsv"))
    write_table(pd.DataFrame(), place.with_suffix(".samples.tsv"))


def succeeds(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout


def test_a_dry_run_names_the_environments(lab):
    done = lab.snakemake(ATLAS, options=NOTHING_MADE)
    succeeds(done)
    created = re.findall(r"Conda environment .*?([\w-]+\.yaml) will be created", done.stdout)
    assert set(created) == {"atlas.yaml", "downstream.yaml", "report.yaml", "torch.yaml"}


def test_fits_that_ask_for_cuda_get_the_environment_with_cuda(lab):
    done = lab.snakemake(ATLAS | {"device": "cuda"}, options=NOTHING_MADE)
    succeeds(done)
    assert re.search(rf"Conda environment .*{GPU} will be created", done.stdout)


def test_every_script_ran_in_the_environment_of_its_rule(finished):
    ran: dict[str, set[str]] = {}
    for env, job in finished.jobs():
        ran.setdefault(env, set()).add(job["script"])
    # its CUDA libraries are some 3 GB and need a GPU
    assert ran == {env: scripts for env, scripts in scripts_by_env().items() if env != GPU}


def test_no_script_borrowed_what_its_environment_must_have(finished):
    for env, job in finished.jobs():
        lent = {normal(name) for module in job["lent"] for name in distributions().get(module, [])}
        assert "snakemake" in lent
        assert not lent & requirements_on(env).keys(), f"{job['script']} in {env}"


def test_records_hold_the_pinned_versions(finished):
    known = {name: pin.version for name, pin in known_pins(gpu=False).items()}
    records = list((finished.checkout / "results/provenance").glob("*/jobs/*.json"))
    assert records
    for record in map(Path.read_text, records):
        versions = json.loads(record)["versions"]
        del versions["python"]
        assert {name: version.split("+")[0] for name, version in versions.items()} == {
            name: known[normal(name)] for name in versions
        }


def test_nothing_is_left_to_do(finished):
    done = finished.snakemake(ATLAS, options=["-n"])
    succeeds(done)
    assert "Nothing to be done" in done.stdout


@contextmanager
def lacking(lab: Lab, env: str, package: str) -> Iterator[None]:
    """The copy of the checkout with a pin taken out of an environment file."""
    file = lab.checkout / "envs" / env
    text = file.read_text()
    file.write_text(re.sub(rf"      - {package}==.*\n", "", text))
    assert file.read_text() != text
    yield
    file.write_text(text)


def test_a_rule_whose_environment_lacks_an_import_fails(finished):
    with lacking(finished, "report.yaml", "matplotlib"):
        done = finished.snakemake(ATLAS, "results/pbmc/figures/tree.svg")
    assert done.returncode == 1
    assert "ModuleNotFoundError: No module named 'matplotlib'" in done.stdout


def test_an_environment_that_lacks_what_a_package_needs_is_not_made(finished):
    with lacking(finished, "report.yaml", "MarkupSafe"):
        done = finished.snakemake(ATLAS, "results/pbmc/figures/tree.svg")
    assert done.returncode == 1
    assert "Could not create conda environment" in done.stdout
    assert "jinja2 3.1.6 requires markupsafe, which is not installed" in done.stdout
