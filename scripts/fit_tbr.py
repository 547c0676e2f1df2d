"""Fit one estimator of tree-based regularisation to every simulated phenotype and score it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.attempts import one_attempt
from latentree.job import rule_script

with rule_script(snakemake, __file__) as record, one_attempt(snakemake, record):
    import anndata as ad

    from latentree.environments import write_cells
    from latentree.files import read_table, write_table
    from latentree.tbr.study import run_study
    from latentree.tbr_config import TBRConfig
    from latentree.tree import Tree

    study = run_study(
        ad.read_h5ad(snakemake.input.cells),
        Tree.from_table(read_table(snakemake.input.tree)),
        TBRConfig.model_validate(snakemake.params.tbr),
        snakemake.params.seeds,
        snakemake.wildcards.estimator,
        threads=snakemake.threads,
        regulators=next(iter(snakemake.input.regulators), None),
    )
    write_table(study.scores, snakemake.output.scores)
    write_table(study.weights, snakemake.output.weights)
    write_table(study.changes, snakemake.output.changes)
    write_cells(study.latents, snakemake.output.latents)
    write_table(study.transfer, snakemake.output.transfer)
    write_table(study.identifiability, snakemake.output.identifiability)
