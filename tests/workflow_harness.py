"""A copy of the checkout to run Snakemake in, and a config small enough for tests."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]

# small in every direction, but every stage runs on real cells
SMALL = {
    "atlases": {
        "pbmc": {
            "path": "builtin:pbmc68k_reduced",
            "cell_type": "bulk_labels",
            "gene_sets": ["resources/gene_sets/immune_programs.gmt"],
        }
    },
    "seeds": [0, 1],
    "preprocess": {"n_genes": 200},
    "models": {
        "sparse_vae": {"n_factors": 4, "max_epochs": 40, "checkpoint_every": 4},
        "pca": {"n_factors": 4},
    },
    "tbr": {
        "latents": ["CD3D", "CD79A", "LYZ", "NKG7", "CST3"],
        "n_latents": 2,
        "regulators": "resources/immune_transcription_factors.txt",
        "estimators": ["baseline", "two_stage"],
        "n_steps": 100,
        "n_finetune_steps": 50,
    },
    # UMAP takes longer to compile than all fits to run
    "downstream": {"umap": False, "stability": {"n_resamples": 0, "n_halves": 1}},
}
NO_REFITS = {
    "umap": False,
    "enrichment": {"gsea": False},
    "stability": {"n_resamples": 0, "n_halves": 0},
}


def clean_environment() -> dict[str, str]:
    """The environment without what an outer run of latentree or pytest may have set."""
    return {key: value for key, value in os.environ.items() if key not in {"LATENTREE_RUN", "PYTHONPATH"}}


@dataclass(frozen=True)
class Checkout:
    """A copy of the working tree, with Snakemake run in it."""

    root: Path

    def snakemake(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Snakemake in the copy; its output is in the error of a failed check."""
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
            cwd=self.root,
            env=clean_environment(),
            capture_output=True,
            text=True,
        )
        if check and done.returncode:
            raise AssertionError(
                f"snakemake {arguments} exited {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done

    def config(self, config: dict, name: str = "my.yaml") -> str:
        """Write a config; its name for --configfile."""
        (self.root / name).write_text(yaml.safe_dump(config))
        return name

    def planned(self, *arguments: str) -> dict[str, list[str]]:
        """Rules that a dry run would run, each with the description of every job (its reason, too)."""
        output = self.snakemake("-n", *arguments).stdout
        jobs: dict[str, list[str]] = {}
        # jobs of a group are indented
        for _, rule, description in re.findall(
            r"^( *)(?:local)?rule (\w+):\n((?:\1    .*\n)+)", output, re.M
        ):
            if rule != "all":
                jobs.setdefault(rule, []).append(description)
        return jobs


def copy_of_the_checkout(target: Path) -> Checkout:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    names = listed.stdout.splitlines() if listed.returncode == 0 else []
    for name in names:
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    assert (target / "Snakefile").is_file(), "the tests copy the files that git lists"
    return Checkout(target)
