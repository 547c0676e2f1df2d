"""``latentree check``: all problems of a config and its inputs at once, else what the run takes."""

import importlib.util
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from latentree.commands.atlas_checks import AtlasChecks
from latentree.commands.estimates import Estimate, estimate, planned_jobs
from latentree.config import Config, load_config, read_yaml
from latentree.errors import InputError
from latentree.input_checks import beside, problems

ROOT = Path(__file__).resolve().parents[3]
"""Where the Snakefile is; not there in an installed library."""


def check(config_file: str, cores: int | None) -> int:
    """Print problems, a line each, and return 2; or print what the run takes and return 0.

    Raises
    ------
    InputError
        The config cannot be read as YAML.
    """
    values = read_yaml(config_file)
    locate = beside(ROOT)
    atlases = AtlasChecks(locate)
    twice = [
        InputError(
            config_file, f"key {key!r} is there twice (line {line}); YAML takes the last", "Remove one"
        )
        for key, line in repeated_keys(Path(config_file).read_text(encoding="utf-8"))
    ]
    found = twice + problems(values, locate, atlases)
    for name, facts in atlases.facts.items():
        print(f"atlas {name}: {facts.description}")
        for note in facts.notes:
            print(f"  remark: {note}")
    for remark in _remarks(values):
        print(f"remark: {remark}")
    for problem in found:
        print(f"problem: {' '.join(str(problem).split())}")
    if found:
        print(f"{len(found)} problem{'s' if len(found) > 1 else ''} in {config_file} and what it names")
        return InputError.exit_code
    config = load_config(values)
    # after all the rest, because it takes a few seconds
    jobs = planned_jobs(config_file, ROOT)
    n_jobs = None if jobs is None else sum(jobs.values())
    _report(
        config, atlases, jobs, estimate(config, atlases.facts, n_jobs, ROOT), cores or os.cpu_count() or 1
    )
    return 0


def _report(
    config: Config, atlases: AtlasChecks, jobs: Counter[str] | None, found: Estimate, cores: int
) -> None:
    if jobs is None:
        print("jobs: not counted, because Snakemake or the Snakefile is not here")
    elif not jobs:
        print("jobs: none left, all is done")
        return
    else:
        # refits and what a model brings beside its fits stand by their own names
        shown = ", ".join(f"{rule} {count}" for rule, count in jobs.most_common(6))
        print(f"jobs: {sum(jobs.values())} ({shown}{', ...' if len(jobs) > 6 else ''})")
    unseen = sorted(set(config.atlases) - set(atlases.facts))
    if unseen:
        print(f"not estimated, because they are no files here: {', '.join(unseen)}")
    if atlases.facts:
        shown = f"{cores} core{'s' if cores > 1 else ''}, idle and without a GPU"
        # the estimate is of a whole run, and some of it may be done
        begun = any(Path(config.results, name).is_dir() for name in config.atlases)
        about = "at most about" if begun else "about"
        print(f"time: {about} {_duration(found.minutes(cores))} on {shown}")
        if found.memory is not None:
            rule, mb = found.memory
            print(f"memory: at most about {mb / 1000:.1f} GB asked for by a job ({rule})")
        print(f"disk: about {_size(found.disk_mb)} in {config.results}")
    print("all well")


def _remarks(values: dict[str, Any]) -> Iterator[str]:
    """What is worth knowing and stops no run."""
    seeds = values.get("seeds")
    if isinstance(seeds, list):
        twice = sorted({str(seed) for seed in seeds if seeds.count(seed) > 1})
        if twice:
            yield f"seeds: {', '.join(twice)} stands there more than once and counts once"
    if values.get("device") == "cuda" and not Path("/dev/nvidiactl").exists():
        yield "device: cuda is asked for and this machine shows no NVIDIA GPU; a cluster's may"
    if importlib.util.find_spec("snakemake") is None:
        yield "Snakemake is not installed beside this Python"


def repeated_keys(text: str) -> list[tuple[str, int]]:
    """Keys that a YAML mapping holds twice, of which YAML silently drops one, and their lines."""
    found: list[tuple[str, int]] = []
    waiting = [yaml.compose(text, Loader=yaml.SafeLoader)]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        # an alias leads to a node again
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            keys = [key.value if isinstance(key, yaml.ScalarNode) else id(key) for key, _ in node.value]
            found += [
                (str(key.value), key.start_mark.line + 1)
                for number, (key, _) in enumerate(node.value)
                if keys[number] in keys[:number] and keys[number] != "<<"
            ]
            waiting += [value for _, value in node.value]
    return sorted(found, key=lambda entry: entry[1])


def _duration(minutes: float) -> str:
    if minutes < 90:
        return f"{max(1, round(minutes))} min"
    return f"{minutes / 60:.1f} h" if minutes < 60 * 48 else f"{minutes / 60 / 24:.1f} days"


def _size(megabytes: float) -> str:
    return f"{max(1, round(megabytes))} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"
