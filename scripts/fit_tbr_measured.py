"""Fit one estimator of tree-based regularisation to a measured phenotype, with bootstrap intervals."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.attempts import one_attempt
from latentree.job import rule_script

with rule_script(snakemake, __file__) as record, one_attempt(snakemake, record):
    import anndata as ad

    from latentree.atlas import load_atlas
    from latentree.environments import write_cells
    from latentree.files import read_table, write_table
    from latentree.tbr.measured import run_measured
    from latentree.tbr.measured_inputs import takes_denoised, with_own_values
    from latentree.tbr_config import TBRConfig
    from latentree.tbr_regulators import Regulators
    from latentree.tree import Tree

    settings = TBRConfig.model_validate(snakemake.params.tbr)
    cells = ad.read_h5ad(snakemake.input.cells)
    regulators = next(iter(snakemake.input.regulators), None)
    if not takes_denoised(settings):
        cells = with_own_values(
            cells, load_atlas(snakemake.input.atlas), Regulators.asked(settings, regulators)
        )
    found = run_measured(
        cells,
        Tree.from_table(read_table(snakemake.input.tree)),
        settings,
        snakemake.params.seeds,
        snakemake.wildcards.estimator,
        threads=snakemake.threads,
        regulators=regulators,
    )
    for name in ("scores", "changes", "genes", "identifiability", "weights"):
        write_table(getattr(found, name), snakemake.output[name])
    write_cells(found.latents, snakemake.output.latents)
