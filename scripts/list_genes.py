"""List the active genes of every factor of every fit."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.files import write_table
    from latentree.scores import genes_table, read_fit

    fits = [read_fit(Path(file).parent) for file in snakemake.input.factors]
    write_table(genes_table(fits, snakemake.params.downstream["n_top_genes"]), snakemake.output[0])
