# The checked config, and the functions that the rules share.
import os
import sys
from functools import cache
from pathlib import Path

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT / "scripts"))

from latentree import provenance
from latentree.code_hash import code_hash
from latentree.config import load_config
from latentree.errors import InputError
from latentree.settings import MODEL_SETTINGS, TorchModelSettings


def checked_config():
    """The config with its defaults, its problems said before any job starts."""
    try:
        checked = load_config(config)
        for name, atlas in checked.atlases.items():
            for file in [atlas.path] * atlas.is_file + atlas.gene_sets:
                require_file(file, f"atlases.{name}")
        for key, file in optional_files(checked).items():
            require_file(file, key)
    except InputError as error:
        raise WorkflowError(f"latentree: error: {error}")
    return checked


def optional_files(checked):
    """Files that the config may name beside the atlases, by key."""
    files = {"environments.tree.file": checked.environments.tree.file}
    if checked.tbr is not None:
        files["tbr.regulators"] = checked.tbr.regulators
    return {key: file for key, file in files.items() if file is not None}


def located(file):
    """A file as named, or beside the Snakefile: the demo's resources are found from any folder."""
    return (
        file if Path(file).exists() or not (ROOT / file).exists() else str(ROOT / file)
    )


def require_file(file, key):
    if not Path(located(file)).is_file():
        raise InputError(
            f"config key {key}",
            f"no such file: {file}",
            "Mend the path; it is relative to the working directory",
        )


CONFIG = checked_config()
# jobs see the defaults too
config.update(CONFIG.model_dump(mode="json"))
RUN = os.environ.setdefault(provenance.RUN_VARIABLE, provenance.new_run_id())
TORCH_MODELS = [
    name
    for name, kind in MODEL_SETTINGS.items()
    if issubclass(kind, TorchModelSettings)
]


pathvars:
    results=CONFIG.results,
    logs=f"{CONFIG.results}/logs",
    benchmarks=f"{CONFIG.results}/benchmarks",


wildcard_constraints:
    atlas="[A-Za-z0-9_-]+",
    model="|".join(MODEL_SETTINGS),
    k=r"\d+",
    seed=r"\d+",
    estimator="baseline|joint|two_stage",


@cache
def code(script):
    """Hash of a script and of all library code that it reaches: a parameter of its rule."""
    return code_hash(ROOT / "scripts" / script)


def settings(kind, **only):
    """Settings as plain values for a rule's parameters."""
    return kind.model_dump(mode="json", **only)


def atlas_config(atlas):
    return settings(CONFIG.atlases[atlas])


def atlas_settings(wildcards):
    """What the atlas stage depends on; gene sets are the enrichment's."""
    return settings(CONFIG.atlases[wildcards.atlas], exclude={"gene_sets"})


def atlas_source(wildcards):
    """The file that an atlas is read from; none for a built-in one."""
    atlas = CONFIG.atlases[wildcards.atlas]
    if atlas.is_address:
        return f"{CONFIG.results}/{wildcards.atlas}/source.h5ad"
    return located(atlas.path) if atlas.is_file else []


def model_settings(wildcards):
    """One model's settings without the wildcard n_factors."""
    return settings(CONFIG.models.listed()[wildcards.model], exclude={"n_factors"})


def fits(pattern, seeds=None, models=None):
    """A path pattern (model, k, seed) for every fit of the config; {atlas} stays a wildcard."""
    return [
        pattern.format(atlas="{atlas}", model=model, k=k, seed=seed)
        for model, chosen in CONFIG.models.listed().items()
        for k in chosen.n_factors
        for seed in (CONFIG.seeds if seeds is None else seeds)
        if models is None or model in models
    ]


def fit_files(file):
    """One file of every fit."""
    return fits(f"<results>/{{atlas}}/fits/{{model}}/k{{k}}/seed{{seed}}/{file}")


def memory(base_mb, per_input_mb):
    """Memory in MB that grows with the input's size and with the attempt."""

    def mem_mb(wildcards, input, attempt):
        return int(attempt * (base_mb + per_input_mb * input.size_mb))

    return mem_mb


def minutes(base, per_input_gb=60):
    """Run time in minutes that grows with the input's size and with the attempt."""

    def runtime(wildcards, input, attempt):
        return int(attempt * (base + per_input_gb * input.size_mb / 1024))

    return runtime
