"""Denoise the cells by MAGIC and keep at most so many of each type."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.atlas import load_atlas
    from latentree.config import TBRConfig
    from latentree.environments import environment_cells, environment_genes, write_cells
    from latentree.settings import EnvironmentSettings
    from latentree.tbr_variables import genes_needed

    atlas = load_atlas(snakemake.input.atlas)
    further = []
    if snakemake.params.tbr is not None:
        tbr = TBRConfig.model_validate(snakemake.params.tbr)
        further = genes_needed(atlas.var_names, tbr, next(iter(snakemake.input.regulators), None))
    settings = EnvironmentSettings.model_validate(snakemake.params.environments)
    write_cells(environment_cells(atlas, settings, environment_genes(atlas, further)), snakemake.output[0])
