"""What a run takes: jobs, time, memory and disk, from its config and what its atlases are."""

import importlib.util
import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from latentree.commands.atlas_checks import AtlasFacts
from latentree.config import Config
from latentree.errors import InputError
from latentree.factor_settings import TorchModelSettings
from latentree.model_settings import SparseVAESettings

_MB = 2**20
# of a fit and of a factor, as SVG and PNG
_PICTURES_MB = 2.0
_PAGE_MB = 0.2
# CPU seconds of an epoch for a cell, and for a cell and gene: docs/benchmarks.md (real cells, 20,000 x 2,000)
_RATES = {"nb": (6e-6, 5e-8), "gaussian": (1e-5, 2.2e-7), "vae": (2.2e-5, 5e-8)}
# seconds of a matrix model for a cell and gene: the same
_MATRIX_RATE = {"pca": 5e-7, "ica": 2e-6, "nmf": 5e-6}
_START = 4.0
"""Seconds that any job takes, most of them to load packages: 57 jobs of 700 cells took 286 in all."""
_SCORING = 0.5
"""Seconds to score a fit."""
_STORED_BYTES = 5
"""Bytes of a stored value of atlas.h5ad: gzipped logarithms and counts with their places."""
_RULE = re.compile(
    r"^ *(?:use rule \w+ as|rule) (\w+)(?: with)?:\n((?:.*\n)*?)(?=^ *(?:use )?rule |\Z)", re.M
)
_MEMORY = re.compile(r"mem_mb=memory\((\d+)(?:, (\d+))?\)")


@dataclass(frozen=True)
class Estimate:
    """What a run takes.

    Attributes
    ----------
    cpu_seconds
        Of all jobs together, on one core each.
    longest
        Seconds of the longest job.
    disk_mb
        Results in MB.
    memory
        Rule and MB that its first attempt asks for, the largest; None where the rules are not here.
    """

    cpu_seconds: float
    longest: float
    disk_mb: float
    memory: tuple[str, int] | None

    def minutes(self, cores: int) -> float:
        """Wall time on so many cores; no shorter than the longest job."""
        return max(self.cpu_seconds / cores, self.longest) / 60


def estimate(config: Config, facts: Mapping[str, AtlasFacts], n_jobs: int | None, root: Path) -> Estimate:
    """Estimate a whole run, from rates that were measured on one core of 2026.

    Parameters
    ----------
    facts
        Of each atlas that could be looked at; others count nothing.
    n_jobs
        Jobs that are left; None: not known.
    root
        The folder of the Snakefile, whose rules say what memory they ask for.
    """
    cpu, disk, longest = 0.0, 0.0, 0.0
    n_parts = len(config.downstream.stability.parts)
    for atlas in facts.values():
        n_train = atlas.n_cells * (
            1 - config.preprocess.test_fraction - config.preprocess.validation_fraction
        )
        reading = atlas.n_stored * 3e-7
        magic = atlas.n_cells * 1.5e-3
        cpu += 3 * reading + magic
        longest = max(longest, reading, magic)
        for model, chosen in config.models.listed().items():
            seconds = fit_seconds(model, chosen, n_train, atlas)
            longest = max(longest, seconds)
            n_fits = len(chosen.n_factors)
            cpu += n_fits * seconds * (len(config.seeds) + n_parts * config.downstream.stability.fraction)
            cpu += n_fits * len(config.seeds) * _SCORING
            if config.tbr is not None:
                cpu += 15 * len(config.seeds) * len(config.tbr.estimators)
            for k in chosen.n_factors:
                bytes_of_fit = 4 * k * (atlas.n_cells + 4 * atlas.n_modelled) + 200 * atlas.n_cells
                disk += (len(config.seeds) + n_parts) * bytes_of_fit / _MB + _PICTURES_MB + k * _PAGE_MB
        disk += atlas_mb(atlas) + cells_mb(config, atlas) + 5
    n_fits = sum(
        len(chosen.n_factors) * (len(config.seeds) + n_parts) for chosen in config.models.listed().values()
    )
    # beside the fits some twenty jobs of tables and pictures
    cpu += _START * (n_jobs if n_jobs is not None else len(facts) * (n_fits + 20))
    return Estimate(cpu, longest + _START, disk, largest_memory(config, facts, root))


def fit_seconds(model: str, chosen: TorchModelSettings, n_train: float, atlas: AtlasFacts) -> float:
    """CPU seconds of one fit."""
    if model in _MATRIX_RATE:
        return _MATRIX_RATE[model] * n_train * atlas.n_modelled
    if isinstance(chosen, SparseVAESettings):
        counts = chosen.likelihood == "nb" or (chosen.likelihood == "auto" and atlas.has_counts)
        rate = _RATES["nb" if counts else "gaussian"]
        epochs = sparse_vae_epochs(chosen, counts, int(n_train))
    else:
        rate, epochs = _RATES["vae"], chosen.max_epochs
    return epochs * n_train * (rate[0] + rate[1] * atlas.n_modelled)


def sparse_vae_epochs(chosen: SparseVAESettings, counts: bool, n_train: int) -> int:
    """Epochs where the settings leave them open: more for few cells, as models/sparse_vae_rules.py has it."""
    if chosen.max_epochs is not None:
        return chosen.max_epochs
    batch = chosen.batch_size or min(256, max(1, math.ceil(n_train / 5)))
    epochs, steps = (40, 300) if counts else (60, 1000)
    return max(epochs, math.ceil(steps / max(1, math.ceil(n_train / batch))))


def atlas_mb(atlas: AtlasFacts) -> float:
    """Size of the prepared atlas."""
    return atlas.n_stored * _STORED_BYTES / _MB * (1.0 if atlas.has_counts else 0.6)


def cells_mb(config: Config, atlas: AtlasFacts) -> float:
    """Size of the denoised cells."""
    n_cells = min(atlas.n_cells, atlas.n_types * config.environments.max_cells_per_type)
    return n_cells * atlas.n_modelled * 4 / _MB


def largest_memory(config: Config, facts: Mapping[str, AtlasFacts], root: Path) -> tuple[str, int] | None:
    """The rule that asks for most memory and how much in MB, by the rules' own formula."""
    asked = []
    for rule, (base, per_mb) in rules_memory(root).items():
        for atlas in facts.values():
            size = atlas.bytes / _MB if rule == "prepare_atlas" else atlas_mb(atlas)
            asked.append((min(base + per_mb * size, config.resources.max_mem_mb), rule))
    if not asked:
        return None
    most, rule = max(asked)
    return rule, int(most)


@cache
def rules_memory(root: Path) -> dict[str, tuple[int, int]]:
    """MB of each rule that reads an atlas, and MB per MB of its input; empty without the rules."""
    found = {}
    for file in sorted(root.glob("workflow/rules/*.smk")):
        for rule, body in _RULE.findall(file.read_text(encoding="utf-8") + "\n"):
            memory = _MEMORY.search(body)
            reads_atlas = "atlas.h5ad" in body or "atlas_source" in body
            if memory and reads_atlas:
                found[rule] = (int(memory[1]), int(memory[2] or 5))
    return found


def planned_jobs(config_file: str, root: Path) -> Counter[str] | None:
    """Jobs left to do by rule, as Snakemake itself counts them; None where it is not here to be asked.

    Raises
    ------
    InputError
        Snakemake refuses the run.
    """
    if not (root / "Snakefile").is_file() or importlib.util.find_spec("snakemake") is None:
        return None
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), "--cores", "1",
               "--configfile", config_file, "--dry-run", "--quiet", "rules", "--nolock"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise InputError(
            "snakemake --dry-run",
            f"fails: {' | '.join(said[-4:])}",
            "Run it yourself to see all that it says",
        )
    return job_counts((done.stdout + done.stderr).splitlines())


def job_counts(lines: Iterable[str]) -> Counter[str]:
    """The table of jobs that Snakemake prints: rule and number; nothing to do is an empty one."""
    counts, inside = Counter[str](), False
    for line in lines:
        words = line.split()
        if words[:2] == ["job", "count"]:
            inside = True
        elif inside and len(words) == 2 and words[1].isdigit():
            counts[words[0]] = int(words[1])
            if words[0] == "total":
                break
    # the target is no job
    del counts["total"], counts["all"]
    return counts
