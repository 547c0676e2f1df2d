"""Fit one model with one seed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.api import fit
    from latentree.atlas import load_atlas
    from latentree.files import sha256_of

    folder = Path(snakemake.output.factors).parent
    result = fit(
        load_atlas(snakemake.input.atlas),
        snakemake.wildcards.model,
        n_factors=int(snakemake.wildcards.k),
        seed=int(snakemake.wildcards.seed),
        settings=snakemake.params.settings,
        device=snakemake.params.device,
        threads=snakemake.threads,
        checkpoint=folder / "checkpoint",
        atlas_sha256=sha256_of(snakemake.input.atlas),
    )
    result.save(folder)
