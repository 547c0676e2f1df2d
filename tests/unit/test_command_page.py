"""docs/commands.md names every command with its options and exit codes."""

import argparse
import os
import re
import shutil
import subprocess
import sys

import pytest

from latentree.cli import _parser
from workflow_harness import ROOT

PAGE = (ROOT / "docs" / "commands.md").read_text()
(COMMANDS,) = (
    action.choices for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)
)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_a_section_with_usage_and_an_example(name):
    found = re.search(rf"^## latentree {name}$(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    assert found
    usage = re.search(rf"`(latentree {name} ?[^`]*)`", found[1])
    assert usage
    for action in COMMANDS[name]._actions:
        for shown in (*action.option_strings[-1:], action.metavar):
            if shown and shown != "--help":
                assert shown in usage[1], shown
    assert f"\nlatentree {name} " in found[1].split("```sh")[1]


def test_the_exit_codes_are_those_of_the_help():
    told = re.findall(r"^  (\d+) ", _parser().epilog or "", re.M)
    assert re.findall(r"^\| (\d+) \|", PAGE, re.M) == told == ["0", "1", "2", "130"]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_setup_makes_the_command_by_its_name(tmp_path):
    environment = tmp_path / ".venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to(sys.executable)
    (environment / ".up-to-date").touch()
    subprocess.run(["make", "setup", f"VENV={environment}"], cwd=ROOT, check=True, capture_output=True)
    done = subprocess.run(
        [environment / "bin" / "latentree", "new", "--help"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert "usage: latentree new" in done.stdout
