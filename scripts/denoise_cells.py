"""Denoise the cells by MAGIC and keep at most so many of each type."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.atlas import load_atlas
    from latentree.environments import environment_cells, write_cells
    from latentree.settings import EnvironmentSettings
    from latentree.tbr_regulators import Regulators
    from latentree.tbr_variables import environment_genes

    atlas = load_atlas(snakemake.input.atlas)
    regulators = None
    for file in snakemake.input.regulators:
        regulators = Regulators.read(file, **snakemake.params.regulator_rows)
    genes = environment_genes(atlas, snakemake.params.latents, regulators)
    settings = EnvironmentSettings.model_validate(snakemake.params.environments)
    write_cells(environment_cells(atlas, settings, genes), snakemake.output[0])
