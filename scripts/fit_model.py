"""Fit one model with one seed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.attempts import one_attempt
from latentree.job import rule_script

with rule_script(snakemake, __file__) as record, one_attempt(snakemake, record):
    from latentree.api import fit
    from latentree.atlas import load_atlas
    from latentree.files import sha256_of
    from latentree.job_device import job_device

    folder = Path(snakemake.output.factors).parent
    # not among the parameters, because it changes no number and must rerun nothing
    unwatched = {"checkpoint_every"}
    configured = snakemake.config["models"][snakemake.wildcards.model]
    settings = snakemake.params.settings | {key: configured[key] for key in unwatched & configured.keys()}
    result = fit(
        load_atlas(snakemake.input.atlas),
        snakemake.wildcards.model,
        n_factors=int(snakemake.wildcards.k),
        seed=int(snakemake.wildcards.seed),
        settings=settings,
        device=job_device(snakemake.params.device, snakemake.resources),
        threads=snakemake.threads,
        checkpoint=folder / "checkpoint",
        atlas_sha256=sha256_of(snakemake.input.atlas),
    )
    result.save(folder)
