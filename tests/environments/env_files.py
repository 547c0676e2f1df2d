"""What the files in envs/ have to pin: what their rules import, and all that those packages need in turn.

Run as a script (`make env-pins`), it writes the pins of every file anew; the comments above them stay.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import yaml
from packaging.requirements import Requirement

from latentree.code_hash import PACKAGE, import_closure

ROOT = Path(__file__).resolve().parents[2]
ENVS = ROOT / "envs"
GPU = "torch-gpu.yaml"
# the environments of rules that name a variable of the workflow
NAMED_BY = {"TORCH_ENV": ["torch.yaml", GPU], "DENOISE_ENV": ["atlas.yaml", "magic-impute.yaml"]}
SCRIPT_OF_ENV = {"atlas.yaml": "denoise_cells.py", "magic-impute.yaml": "denoise_cells_magic_impute.py"}
# imported only where the data or the settings ask for it, which rules of other environments never do
ONLY_IN = {
    "scanpy": {"atlas.yaml", "reproduction.yaml"},
    "scikit-misc": {"atlas.yaml", "reproduction.yaml"},
    "gseapy": {"downstream.yaml", "reproduction.yaml"},
}
# what the pins are for, so that every machine finds the same ones
PLATFORM = {
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.11.7",
    "python_version": "3.11",
    "sys_platform": "linux",
}
PIN = re.compile(r"([\w.-]+)==([\w.]+)")
HEADER = """\
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python=3.11
  - pip=25
  - pip:
"""
BROUGHT_ALONG = "      # what those need in turn\n"


def normal(name: str) -> str:
    """A distribution's name as all of its spellings have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True)
class Pin:
    """An exact version of a distribution, and what it requires."""

    name: str
    version: str
    requirements: tuple[Requirement, ...]

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"

    def needed(self, extras: Iterable[str]) -> Iterator[Requirement]:
        """Requirements that hold on the pins' platform."""
        for requirement in self.requirements:
            marker = requirement.marker
            if marker is None or any(
                marker.evaluate({**PLATFORM, "extra": extra}) for extra in ("", *extras)
            ):
                yield requirement


def pinned(lines: Iterable[str]) -> dict[str, str]:
    """Versions by normal name; lines that hold no pin are passed over."""
    return {normal(match[1]): match[2] for match in map(PIN.fullmatch, map(str.strip, lines)) if match}


@cache
def known_pins(gpu: bool) -> dict[str, Pin]:
    """The pins of the requirements, and for GPUs those of torch's CUDA libraries too."""
    lines = [line for kind in ("", "-dev") for line in (ROOT / f"requirements{kind}.txt").open()]
    pins = {}
    for match in filter(None, (PIN.fullmatch(line.strip()) for line in lines)):
        asked = tuple(Requirement(text) for text in requires(match[1]) or ())
        pins[normal(match[1])] = Pin(match[1], match[2], asked)
    if gpu:
        for pin, texts in yaml.safe_load((Path(__file__).parent / "cuda_wheels.yaml").read_text()).items():
            name, version = pin.split("==")
            before = pins[name].requirements if name in pins else ()
            pins[name] = Pin(name, version, before + tuple(map(Requirement, texts)))
    return pins


@cache
def scripts_by_env() -> dict[str, set[str]]:
    """Rule scripts by the environment file that their rules name."""
    found: dict[str, set[str]] = {}
    for file in (ROOT / "workflow" / "rules").glob("*.smk"):
        for body in re.split(r"\n\s*(?:use )?rule ", file.read_text())[1:]:
            env = re.search(r"envs/(?:([\w-]+\.yaml)|\{(\w+)\})", body)
            script = re.search(r'scripts/(\w+\.py)|code\("(\w+\.py)"\)', body)
            if env is None:
                continue
            for name in NAMED_BY[env[2]] if env[2] else [env[1]]:
                own = script[1] or script[2] if script else SCRIPT_OF_ENV[name]
                found.setdefault(name, set()).add(own)
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


@cache
def third_party(script: str) -> set[str]:
    """Distributions that a script and the library modules it reaches import."""
    files = [file for file in import_closure(ROOT / "scripts" / script) if file.suffix == ".py"]
    outside = set().union(*map(imported, files)) - set(sys.stdlib_module_names) - {PACKAGE, ""}
    return {normal(distributions()[name][0]) for name in outside}


@cache
def direct(env: str) -> set[str]:
    """Distributions that an environment's own rules import."""
    used = set().union(*map(third_party, scripts_by_env()[env]))
    return {name for name in used if env in ONLY_IN.get(name, {env})}


def closure(names: Iterable[str], known: dict[str, Pin]) -> dict[str, list[Requirement]]:
    """These distributions and all that they need, with the requirements that others have on each."""
    found: dict[str, list[Requirement]] = {name: [] for name in names}
    waiting = [(name, frozenset[str]()) for name in found]
    seen = set()
    while waiting:
        name, extras = asked = waiting.pop()
        if asked in seen:
            continue
        seen.add(asked)
        for requirement in known[name].needed(extras):
            other = normal(requirement.name)
            found.setdefault(other, []).append(requirement)
            waiting.append((other, frozenset(requirement.extras)))
    return found


@cache
def requirements_on(env: str) -> dict[str, list[Requirement]]:
    """What an environment needs, by :func:`closure`."""
    return closure(direct(env), known_pins(env == GPU))


def problems(env: str, text: str) -> list[str]:
    """What is wrong with an environment file of this name and text."""
    content = yaml.safe_load(text)
    if list(content) != ["channels", "dependencies"] or content["channels"] != ["conda-forge", "nodefaults"]:
        return ["the keys are channels (conda-forge, nodefaults) and dependencies"]
    python, pip, by_pip = content["dependencies"]
    if (python, pip, list(by_pip)) != ("python=3.11", "pip=25", ["pip"]):
        return ["the dependencies are python, pip and what pip installs"]
    lines, there = by_pip["pip"], pinned(by_pip["pip"])
    found = [f"{line} is no exact pin" for line in lines if not PIN.fullmatch(line)]
    if len(there) < len(lines) - len(found):
        found.append("a package is pinned twice")
    needed, known = requirements_on(env), known_pins(env == GPU)
    found += [f"{name} is needed and not pinned" for name in sorted(needed.keys() - there)]
    found += [f"{name} is pinned and not needed" for name in sorted(there.keys() - needed)]
    for name in there.keys() & needed:
        if there[name] != known[name].version:
            found.append(f"{name}=={there[name]} is not the tested {known[name]}")
        found += [
            f"{name}=={there[name]} is not the {requirement} that another pin requires"
            for requirement in needed[name]
            if not requirement.specifier.contains(there[name], prereleases=True)
        ]
    return found


def filled(env: str, text: str) -> str:
    """The file with the pins that it has to have, torch first; the comments above them are kept."""
    comments = text[: text.index("channels:")]
    known, own = known_pins(env == GPU), direct(env)
    rest = requirements_on(env).keys() - own

    def lines(names: Iterable[str]) -> str:
        return "".join(
            f"      - {known[name]}\n" for name in sorted(names, key=lambda name: (name != "torch", name))
        )

    return comments + HEADER + lines(own) + BROUGHT_ALONG + lines(rest)


if __name__ == "__main__":
    for path in ENVS.glob("*.yaml"):
        path.write_text(filled(path.name, path.read_text()))
