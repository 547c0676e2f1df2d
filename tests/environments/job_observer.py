"""Notes in the environment's folder what each rule script ran in and borrowed (its sitecustomize)."""

import atexit
import json
import sys
from pathlib import Path


def note_job() -> None:
    """One line for a script that Snakemake started: its name and what it took from elsewhere."""
    if not hasattr(sys.modules["__main__"], "snakemake"):
        return
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    lent = {
        name.partition(".")[0]
        for name, file in files.items()
        if file and "site-packages" in file and not file.startswith(sys.prefix)
    }
    # Snakemake runs a copy, tmp and some letters before the script's own name
    name = Path(sys.argv[0]).name.partition(".")[2]
    with (Path(sys.prefix) / "jobs.jsonl").open("a") as jobs:
        jobs.write(json.dumps({"script": name, "lent": sorted(lent)}) + "\n")


atexit.register(note_job)
