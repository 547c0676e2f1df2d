"""Draw held-out fit, stability, live factors and enrichment against the number of factors."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.files import read_table
    from latentree.plots.n_factors import draw_n_factors

    draw_n_factors(read_table(snakemake.input[0]), snakemake.output)
