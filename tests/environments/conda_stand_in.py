"""As much of conda as Snakemake calls, so that it takes its ordinary way where there is no conda.

An environment is a virtual environment of exactly the pins of its file: pip resolves nothing, and nothing of
another environment is seen in it.
"""

import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable
from pathlib import Path

import yaml

OBSERVER = Path(__file__).with_name("job_observer.py")
ACTIVATE = 'export CONDA_PREFIX="$1" PATH="$1/bin:$PATH"\n'


def install(folder: Path) -> Path:
    """Put the commands conda and activate into a folder; the folder to put on PATH."""
    commands = folder / "bin"
    commands.mkdir(parents=True)
    (commands / "conda").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "{folder}" "$@"\n')
    (commands / "conda").chmod(0o755)
    (commands / "activate").write_text(ACTIVATE)
    return commands


def make_environment(prefix: Path, pins: Iterable[str]) -> None:
    """A virtual environment of these pins, in which nothing is lacking that one of them requires."""
    venv.create(prefix, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(prefix / "bin" / "python")]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-compile", *pins], check=True)
    subprocess.run([*pip, "check"], check=True)


def create(file: Path, prefix: Path) -> None:
    """An environment of a file's pins that notes what runs in it."""
    make_environment(prefix, yaml.safe_load(file.read_text())["dependencies"][-1]["pip"])
    (library,) = prefix.glob("lib/python*/site-packages")
    shutil.copy(OBSERVER, library / "sitecustomize.py")


def main(folder: str, *command: str) -> None:
    """Answer one command of Snakemake's."""
    match command:
        case ["info", "--json"]:
            print(json.dumps({"conda_prefix": folder, "platform": "linux-64"}))
        case ["--version"]:
            print("conda 25.1.0")
        case ["config", "--get", "channel_priority", "--json"]:
            print(json.dumps({"get": {"channel_priority": "strict"}}))
        case ["env", "create", "--quiet", "--no-default-packages", "--file", file, "--prefix", prefix]:
            create(Path(file), Path(prefix))
        case ["clean", "-y", "--tarballs"]:
            pass
        case _:
            sys.exit(f"this stand-in for conda does not know: {' '.join(command)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
