"""A rule script without Snakemake: the object it is handed, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

_SCRIPT = """
import sys
from types import SimpleNamespace
sys.path.insert(0, {scripts!r})
{imports}

class Named(list):
    def __init__(self, **named):
        super().__init__(named.values())
        self.__dict__.update(named)
    def items(self):
        return self.__dict__.items()
    def get(self, key, default=None):
        return self.__dict__.get(key, default)

snakemake = SimpleNamespace(
    log=["log.txt"], threads=1, rule="try", config={{"results": "results"}}, wildcards=Named(seed="7"),
    params=Named(settings={{"a": {setting}}}), input=["in.txt"], output=["out.txt"],
)
with {entered}:
    print("working", flush=True)
    {body}
"""
_PLAIN = {
    "imports": "from latentree.job import rule_script",
    "entered": f"rule_script(snakemake, {str(SCRIPTS / 'collect_tbr.py')!r})",
}
_ONE_ATTEMPT = {
    "imports": "from latentree.attempts import one_attempt\nfrom latentree.job import rule_script",
    "entered": f"rule_script(snakemake, {str(SCRIPTS / 'fit_model.py')!r}) as record,"
    " one_attempt(snakemake, record)",
}


def start_job(
    folder: Path, body: str, *, one_attempt: bool = False, data: str = "in", setting: int = 1
) -> subprocess.Popen[str]:
    """Start a job that reads in.txt and does ``body``; it may write out.txt."""
    (folder / "in.txt").write_text(data)
    kind = _ONE_ATTEMPT if one_attempt else _PLAIN
    return subprocess.Popen(
        [sys.executable, "-c", _SCRIPT.format(scripts=str(SCRIPTS), body=body, setting=setting, **kind)],
        cwd=folder,
        env={**os.environ, "LATENTREE_RUN": "r"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(job: subprocess.Popen[str]) -> tuple[str, str]:
    """What a job that must succeed has written to stdout and stderr."""
    out, err = job.communicate(timeout=60)
    assert job.returncode == 0, err
    return out, err


def record_of(folder: Path) -> dict:
    """The record of the one job of the folder."""
    (file,) = (folder / "results/provenance/r/jobs").glob("*.json")
    record: dict = json.loads(file.read_text())
    return record
