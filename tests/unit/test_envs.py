"""The conda environments: exact pins, the requirements' own, and whatever their rules import."""

import ast
import re
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from latentree.code_hash import PACKAGE, import_closure

ROOT = Path(__file__).resolve().parents[2]
ENVS = sorted((ROOT / "envs").glob("*.yaml"))
# imported only where the data or the settings ask for it, in rules whose environment has it
ELSEWHERE = {
    "scanpy": "builtin atlases and dendrograms, in the atlas stage",
    "scikit-misc": "seurat_v3, in the atlas stage",
    "gseapy": "enrichment, in the downstream stage",
}


# pydantic pins the version of its core itself
BROUGHT_ALONG = {"pydantic-core"}


def pins(lines):
    return dict(line.strip().split("==") for line in lines if "==" in line)


def required() -> dict[str, str]:
    lines = [*(ROOT / "requirements.txt").open(), *(ROOT / "requirements-dev.txt").open()]
    return {normal(name): version for name, version in pins(lines).items()}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def env_pins(path: Path) -> dict[str, str]:
    (by_pip,) = [
        item["pip"] for item in yaml.safe_load(path.read_text())["dependencies"] if isinstance(item, dict)
    ]
    return {normal(name): version for name, version in pins(by_pip).items()}


@pytest.mark.parametrize("path", ENVS, ids=lambda path: path.stem)
def test_pins_are_exact_and_those_of_the_requirements(path):
    env = yaml.safe_load(path.read_text())
    assert env["channels"] == ["conda-forge", "nodefaults"]
    python, pip, by_pip = env["dependencies"]
    assert python == "python=3.11"
    assert pip.startswith("pip=")
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in by_pip["pip"])
    known = required()
    assert {name: known.get(name) for name in env_pins(path)} == env_pins(path)


def test_torch_comes_first_in_the_requirements():
    lines = [
        line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")
    ]
    assert lines[0] == "torch==2.13.0"


def scripts_by_env() -> dict[str, set[str]]:
    """Rule scripts by the environment that their rules name."""
    found: dict[str, set[str]] = {}
    for file in (ROOT / "workflow" / "rules").glob("*.smk"):
        for body in re.split(r"\n\s*(?:use )?rule ", file.read_text())[1:]:
            env = re.search(r"envs/(\w[\w-]*\.yaml)", body)
            script = re.search(r'code\("(\w+\.py)"\)', body)
            if env and script:
                found.setdefault(env.group(1), set()).add(script.group(1))
    found["atlas.yaml"].add("denoise_cells.py")
    found["magic-impute.yaml"] = {"denoise_cells_magic_impute.py"}
    return found


# scripts share most of the library, and the installed packages do not change
@cache
def imported(file: Path) -> set[str]:
    """Packages that one file imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").split(".")[0])
    return names


distributions = cache(packages_distributions)


def third_party(script: str) -> set[str]:
    """Distributions that a script and the library modules it reaches import."""
    files = [file for file in import_closure(ROOT / "scripts" / script) if file.suffix == ".py"]
    outside = set().union(*map(imported, files)) - set(sys.stdlib_module_names) - {PACKAGE, ""}
    return {normal(distributions()[name][0]) for name in outside}


@pytest.mark.parametrize("env", sorted(scripts_by_env()))
def test_an_environment_holds_what_its_rules_import(env):
    there = set(env_pins(ROOT / "envs" / env))
    for script in scripts_by_env()[env]:
        lacking = third_party(script) - there - set(ELSEWHERE) - BROUGHT_ALONG
        assert not lacking, f"{script} imports {lacking}"


def test_what_some_environments_leave_out_is_where_it_is_used():
    assert {"scanpy", "scikit-misc"} <= set(env_pins(ROOT / "envs" / "atlas.yaml"))
    assert "gseapy" in env_pins(ROOT / "envs" / "downstream.yaml")


def test_every_rule_has_a_known_environment():
    named = set(scripts_by_env())
    assert named == {path.name for path in ENVS}
