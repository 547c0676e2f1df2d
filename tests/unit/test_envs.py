"""The conda environments: all that their rules need, each package exactly as it was tested."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from environments.env_files import ENVS, GPU, filled, known_pins, pinned, problems, scripts_by_env

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.name for path in ENVS.glob("*.yaml"))


def text_of(env: str) -> str:
    return (ENVS / env).read_text()


def pins_of(env: str) -> list[str]:
    return yaml.safe_load(text_of(env))["dependencies"][-1]["pip"]


@pytest.mark.parametrize("env", NAMES)
def test_an_environment_holds_what_its_rules_need_and_nothing_floats(env):
    assert problems(env, text_of(env)) == []


@pytest.mark.parametrize("env", NAMES)
def test_make_env_pins_would_change_nothing(env):
    assert filled(env, text_of(env)) == text_of(env)


@pytest.mark.parametrize("env", NAMES)
def test_no_file_names_an_index(env):
    assert "://" not in text_of(env)
    assert "index-url" not in text_of(env)


@pytest.mark.parametrize("env", NAMES)
def test_any_pin_that_is_taken_out_is_missed(env):
    for pin in pins_of(env):
        (name,) = pinned([pin])
        without = text_of(env).replace(f"      - {pin}\n", "")
        assert without != text_of(env)
        assert f"{name} is needed and not pinned" in problems(env, without)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("numpy==2.4.6", "numpy==2.4.5", "numpy==2.4.5 is not the tested numpy==2.4.6"),
        ("numpy==2.4.6", "numpy>=2.4.6", "numpy>=2.4.6 is no exact pin"),
        ("numpy==2.4.6", "numpy==2.*", "numpy==2.* is no exact pin"),
        ("numpy==2.4.6", "numpy==1.9.0", "numpy==1.9.0 is not the numpy>="),
        ("tqdm==4.70.1", "tqdm==4.70.1\n      - tqdm==4.70.1", "a package is pinned twice"),
        ("tqdm==4.70.1", "tqdm==4.70.1\n      - snakemake==9.27.1", "snakemake is pinned and not needed"),
        ("tqdm==4.70.1", "tqdm==4.70.1\n      - --pre", "--pre is no exact pin"),
        ("nodefaults", "defaults", "the keys are channels (conda-forge, nodefaults)"),
        ("python=3.11", "python=3.12", "the dependencies are python, pip"),
        ("dependencies:", "name: torch\ndependencies:", "the keys are"),
    ],
)
def test_what_else_is_wrong_is_said(before, after, said):
    assert before in text_of("torch.yaml")
    found = problems("torch.yaml", text_of("torch.yaml").replace(before, after))
    assert any(problem.startswith(said) for problem in found), found


def test_a_cuda_library_of_another_release_than_torchs_is_refused():
    cublas = "nvidia-cublas==13.1.1.3"
    found = problems(GPU, text_of(GPU).replace(cublas, "nvidia-cublas==13.5.0.1"))
    assert any(problem.startswith(f"nvidia-cublas==13.5.0.1 is not the {cublas}.*") for problem in found), (
        found
    )


def test_the_pins_are_lines_of_the_requirements():
    lines = [line for kind in ("", "-dev") for line in (ROOT / f"requirements{kind}.txt").open()]
    cuda = {str(pin) for name, pin in known_pins(gpu=True).items() if name not in known_pins(gpu=False)}
    for env in NAMES:
        others = {f"{pin}\n" for pin in pins_of(env)} - set(lines)
        assert {pin.strip() for pin in others} == (cuda if env == GPU else set())


def test_torch_comes_first_in_the_requirements():
    lines = [
        line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")
    ]
    assert lines[0] == "torch==2.13.0"


def test_every_environment_is_some_rules():
    assert sorted(scripts_by_env()) == NAMES
    assert "fit_model.py" in scripts_by_env()["torch.yaml"] & scripts_by_env()[GPU]
    assert scripts_by_env()["magic-impute.yaml"] == {"denoise_cells_magic_impute.py"}


def test_every_rule_script_has_an_environment():
    assert set().union(*scripts_by_env().values()) == {path.name for path in (ROOT / "scripts").glob("*.py")}


def test_the_snakefile_needs_nothing_that_only_rules_have():
    rules = "\n".join(file.read_text() for file in [ROOT / "Snakefile", *ROOT.glob("workflow/rules/*.smk")])
    modules = set(re.findall(r"^from (latentree\.\S+) import", rules, re.M))
    modules |= {f"latentree.{name}" for name in re.findall(r"^from latentree import (\w+)$", rules, re.M)}
    assert "latentree.input_checks" in modules
    absent = ["pandas", "numpy", "scipy", "anndata", "h5py", "torch", "sklearn", "matplotlib", "gseapy"]
    # None makes an import fail as that of a package that is not there
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import {', '.join(sorted(modules))}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "scripts", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
