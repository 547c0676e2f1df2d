"""Gather what speaks for each number of factors, and recommend one by a stated rule."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.files import read_table, write_table
    from latentree.n_factors import n_factors_table

    names = ("metrics", "stability", "consensus", "enrichment")
    tables = {name: read_table(snakemake.input[name]) for name in names}
    write_table(n_factors_table(snakemake.params.fits, **tables), snakemake.output[0])
