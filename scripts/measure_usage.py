"""Measure how much each cell type uses each factor of every fit."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.files import write_table
    from latentree.scores import read_fit
    from latentree.usage import usage_table

    fits = [read_fit(Path(file).parent) for file in snakemake.input.factors]
    write_table(usage_table(fits), snakemake.output[0])
