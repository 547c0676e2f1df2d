"""Another workflow, which uses latentree as a module and keeps its own rules, config and first target."""

from pathlib import Path

import yaml

from workflow_harness import NO_REFITS, ROOT, SMALL, Checkout

TINY = {
    "atlases": SMALL["atlases"],
    "seeds": [0],
    "preprocess": {"n_genes": 100},
    "models": {"sparse_vae": {"n_factors": 2, "max_epochs": 2}},
    "downstream": NO_REFITS,
}
MODULE = f"""
module latentree:
    snakefile: "{ROOT / "Snakefile"}"
"""
# its {model} is none of latentree's, and its first rule stays the one that is run
OUTER = f"""
import json
from pathlib import Path

configfile: "outer.yaml"

rule all:
    input: "copied/elsewhere"
{MODULE}
    config: config["latentree"]
    prefix: "inside"

use rule * from latentree as latentree_*

rule copy:
    input: "inside/results/pbmc/FILE"
    output: "copied/{{model}}"
    shell: "cp {{input}} {{output}}"

onstart:
    Path("seen.json").write_text(json.dumps(config))
    latentree.onstart()

onsuccess:
    latentree.onsuccess()
"""


def outer_workflow(folder: Path, snakefile: str, config: dict | None = None) -> Checkout:
    """A folder with a Snakefile, and its config in outer.yaml."""
    (folder / "Snakefile").write_text(snakefile)
    if config is not None:
        (folder / "outer.yaml").write_text(yaml.safe_dump(config))
    return Checkout(folder)


def copies(file: str) -> str:
    """The workflow that copies one file of latentree's results."""
    return OUTER.replace("FILE", file)
