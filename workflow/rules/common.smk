# The checked config, and the functions that the rules share.
import hashlib
import os
import shutil
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import yaml
from snakemake.utils import update_config

# not workflow.basedir, which is another workflow's folder where this one is its module
ROOT = Path(
    os.path.abspath(workflow.current_basedir.get_path_or_uri(secret_free=True))
).parents[1]
IS_MODULE = not workflow.modifier.is_main_snakefile()
if not ROOT.is_dir():
    raise WorkflowError(
        "latentree works as a module from a local checkout only: clone it, and name the clone's Snakefile"
    )
sys.path.insert(0, str(ROOT / "scripts"))

from latentree import provenance
from latentree.code_hash import code_hash
from latentree.config import load_config
from latentree.factor_settings import TorchModelSettings
from latentree.enrichment_config import library_name
from latentree.input_checks import (
    beside,
    in_words,
    own_gmt_files,
    problems,
    regulator_rows,
)
from latentree.reproduction.registry import EXPERIMENTS
from latentree.reproduction.sources import MOVIELENS
from latentree.model_settings import MODEL_SETTINGS

# a config of your own (--configfile, or a module's) replaces the demo's instead of being merged into it
DEMO = ROOT / "config/config.yaml"
if IS_MODULE and not workflow.modifier.skip_configfile:
    # not by `configfile:`, which would mix in what the command line says to the other workflow
    config = yaml.safe_load(DEMO.read_text())
elif not workflow.overwrite_configfiles:

    configfile: str(DEMO)


def checked_config():
    """The config with its defaults, its problems said before any job starts."""
    if not IS_MODULE:
        given = {
            key: retyped(value)
            for key, value in workflow.config_settings.config.items()
            if key in config
        }
        update_config(config, given)
    # a job that parses this again has nothing to tell that the run did not, and tables of regulons are large
    found = problems(config, located) if workflow.is_main_process else []
    if found:
        raise WorkflowError(f"latentree: error: {in_words(found)}")
    return load_config(config)


def retyped(value):
    """Numbers and nulls inside a value of --config, which Snakemake hands on as text."""
    if isinstance(value, dict):
        return {key: retyped(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [retyped(inner) for inner in value]
    return yaml.safe_load(value) if isinstance(value, str) else value


def tbr_latents():
    """Genes that may be TBR's latents: none for a measured phenotype; None where TBR does not run."""
    if CONFIG.tbr is None:
        return None
    return CONFIG.tbr.latents if CONFIG.tbr.phenotype.kind == "simulated" else []


def located(file):
    """A file as named, or beside the Snakefile: the demo's resources are found from any folder."""
    found = beside(ROOT)(file)
    # a module's `prefix:` is for what its rules write
    return os.path.abspath(found) if IS_MODULE else found


def gene_set_file(entry):
    """Where the gene sets of an entry of `gene_sets` are."""
    name = library_name(entry)
    return located(entry) if name is None else f"<results>/gene_sets/{name}.gmt"


CONFIG = checked_config()
# jobs see the defaults too, and where the results are; a new dictionary, because the old one may be another
# workflow's
config = CONFIG.model_dump(mode="json")
RUN = os.environ.setdefault(provenance.RUN_VARIABLE, provenance.new_run_id())
REPRODUCTION = "reproduction_quick" if CONFIG.reproduction.quick else "reproduction"
# a GPU is asked for where there must be one; with device: auto a profile may grant it (docs/cluster.md)
GPUS = 1 if CONFIG.device == "cuda" else 0
TORCH_ENV = "torch-gpu.yaml" if CONFIG.device == "cuda" else "torch.yaml"
# an atlas of this size takes minutes to fit, longer than a cluster takes to start a job
SMALL_ATLAS_MB = 200
TORCH_MODELS = [
    name
    for name in CONFIG.models.listed()
    if issubclass(MODEL_SETTINGS[name], TorchModelSettings)
]


pathvars:
    results=CONFIG.results,
    logs="<results>/logs",
    benchmarks="<results>/benchmarks",


# where rules write, for the records: a module's `pathvars:` and `prefix:` move it
config["results"] = workflow.modifier.path_modifier.replace_prefix(
    workflow.pathvars.apply("<results>")
)


wildcard_constraints:
    atlas="|".join(CONFIG.atlases),
    model="|".join(CONFIG.models.listed()),
    k=r"\d+",
    seed=r"\d+",
    part=r"(r|half)\d+",
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
    """What the atlas stage depends on; gene sets and conditions are the downstream tables'."""
    later = {"gene_sets", "regulon_confidence", "condition", "sample", "reference"}
    return settings(CONFIG.atlases[wildcards.atlas], exclude=later)


def atlas_source(wildcards):
    """The file that an atlas is read from; none for a built-in one."""
    atlas = CONFIG.atlases[wildcards.atlas]
    if atlas.is_address:
        return f"<results>/{wildcards.atlas}/source.h5ad"
    return located(atlas.path) if atlas.is_file else []


def model_settings(wildcards):
    """What a fit depends on, without the wildcard n_factors; checkpoints change no number."""
    chosen = settings(
        CONFIG.models.listed()[wildcards.model],
        exclude={"n_factors", "checkpoint_every"},
    )
    if "batch" in chosen and chosen["batch"] is None:
        chosen["batch"] = CONFIG.atlases[wildcards.atlas].batch
    if group_files(wildcards):
        chosen["gene_sets"] = group_files(wildcards)
    return chosen


def group_files(wildcards):
    """GMT files that a model's groups of genes are made of; none for models without groups."""
    chosen = CONFIG.models.listed()[wildcards.model]
    sets = getattr(chosen, "gene_sets", ())
    if sets is None:
        sets = own_gmt_files(CONFIG.atlases[wildcards.atlas], located)
    if isinstance(sets, dict):
        return []
    return [located(file) for file in ([sets] if isinstance(sets, str) else sets)]


def draw_settings(wildcards):
    """What the cells of a refit depend on; how many refits there are changes none of them."""
    stability = settings(CONFIG.downstream.stability, include={"fraction", "seed"})
    if wildcards.part.startswith("half"):
        return {
            "seed": stability["seed"],
            "split_by": CONFIG.atlases[wildcards.atlas].split_by,
        }
    return stability


def one_of(names):
    """A wildcard's constraint; no name at all matches nothing."""
    return "|".join(names) or "(?!)"


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


def picture(name, caption):
    """The two files of a picture: an SVG for the report, a PNG for slides."""
    path = f"<results>/{{atlas}}/figures/{name}"
    shown = report(
        f"{path}.svg", caption=f"../report/{caption}.rst", category="{atlas}"
    )
    return [shown, f"{path}.png"]


def pictures(kind, suffix="svg"):
    """A picture of every model's consensus; {atlas} stays a wildcard."""
    return fits(
        f"<results>/{{{{atlas}}}}/figures/{kind}_{{model}}_k{{k}}.{suffix}",
        CONFIG.seeds[:1],
    )


def factor_pages(suffix):
    """The pages of all factors of every model, f1 first; {atlas} stays a wildcard."""
    return [
        f"<results>/{{atlas}}/figures/factors/{model}_k{k}/f{i}.{suffix}"
        for model, chosen in CONFIG.models.listed().items()
        for k in chosen.n_factors
        for i in range(1, k + 1)
    ]


def condition_pictures(wildcards):
    """Pictures of the conditions, for an atlas that names them."""
    named = CONFIG.atlases[wildcards.atlas].condition is not None
    return pictures("conditions") if named else []


def condition_table(wildcards):
    """The table of the conditions, for an atlas that names them."""
    named = CONFIG.atlases[wildcards.atlas].condition is not None
    return "<results>/{atlas}/tables/conditions.tsv" if named else []


def consensus_files(file):
    """One file of every model's consensus over seeds; {atlas} stays a wildcard."""
    return fits(
        f"<results>/{{atlas}}/fits/{{model}}/k{{k}}/consensus/{file}",
        seeds=CONFIG.seeds[:1],
    )


def described_files(file):
    """One file of everything that tables describe: the fit of every seed, and what the seeds agree on."""
    return fit_files(file) + consensus_files(file)


def refit_files(file):
    """One file of every refit of the models on other cells; {atlas} stays a wildcard."""
    return [
        f"<results>/{{atlas}}/resamples/{model}/k{k}/{part}/{file}"
        for model, chosen in CONFIG.models.listed().items()
        for k in chosen.n_factors
        for part in CONFIG.downstream.stability.parts
    ]


def memory(base_mb, per_input_mb=5):
    """Memory in MB that grows with the input's size and with the attempt, up to the config's limit."""

    def mem_mb(wildcards, input, attempt):
        wanted = attempt * (base_mb + per_input_mb * input.size_mb)
        return min(int(wanted), CONFIG.resources.max_mem_mb)

    return mem_mb


def minutes(base, per_input_gb=60):
    """Run time in minutes that grows with the input's size and with the attempt, up to the config's limit."""

    def runtime(wildcards, input, attempt):
        wanted = attempt * (base + per_input_gb * input.size_mb / 1024)
        return min(int(wanted), CONFIG.resources.max_runtime)

    return runtime


def small_fits(name):
    """A rule's group: fits of a small atlas share a job of the cluster, where the profile says how many."""

    def group(wildcards):
        # inside the cluster's job, where Snakemake hands on no such setting and this is asked before any
        # job runs: a fit that fails leaves the others of its group alone
        if workflow.remote_exec:
            workflow.execution_settings.keep_going = True
        source = atlas_source(wildcards)
        small = not source or (
            Path(source).is_file()
            and Path(source).stat().st_size <= SMALL_ATLAS_MB * 2**20
        )
        return name if small else None

    return group


def experiment_files(file):
    """One file of every part of every experiment."""
    return [
        f"<results>/{REPRODUCTION}/parts/{name}/{part}.{file}"
        for name, experiment in EXPERIMENTS.items()
        for part in experiment.part_names(CONFIG.reproduction.quick)
    ]


def experiment_data(wildcards):
    """The data files of a part that are there; a part that lacks one says so in its table."""
    places = CONFIG.reproduction
    wanted = [
        (
            places.movielens
            if name == MOVIELENS
            else places.data and f"{places.data}/{name}"
        )
        for name in EXPERIMENTS[wildcards.experiment].part(wildcards.part).needs
    ]
    return [file for file in wanted if file and Path(file).is_file()]


def experiment_settings(wildcards):
    """The section of the config as far as a part reads it: where others' data lie reruns nothing."""
    needs = EXPERIMENTS[wildcards.experiment].part(wildcards.part).needs
    given = settings(CONFIG.reproduction)
    return {
        "quick": given["quick"],
        "data": given["data"] if set(needs) - {MOVIELENS} else None,
        "movielens": given["movielens"] if MOVIELENS in needs else None,
    }


def experiment_code(wildcards):
    """Hash of one experiment alone, so that work on one does not rerun the others."""
    library = ROOT / "scripts"
    folder = library / "latentree/reproduction"
    experiment = code_hash(folder / f"{wildcards.experiment}.py", library)
    # by its bytes alone: through the registry it imports every experiment
    running = (folder / "running.py").read_bytes()
    return hashlib.sha256(experiment.encode() + running).hexdigest()


def planned_stages():
    """Jobs that this run has to do, by the file of their rule and by rule; asked when it starts."""
    left = Counter(job.rule.name for job in workflow.dag.needrun_jobs())
    stages = {}
    # rules come in the order in which the Snakefile includes them
    for known in workflow.rules:
        if left[known.name] and known.name != "all":
            stage = stages.setdefault(Path(known.snakefile).stem, {})
            stage[known.name] = left[known.name]
    return stages
