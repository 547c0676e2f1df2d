"""Draw which gene sets the factors of one fit move, beside the control."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.files import read_table
    from latentree.plots.groups import draw_groups

    table = read_table(snakemake.input[0])
    chosen = (table["model"] == snakemake.wildcards.model) & (
        table["n_factors"].astype(int) == int(snakemake.wildcards.k)
    )
    chosen &= table["seed"].astype(str) == str(snakemake.params.seed)
    draw_groups(table[chosen], snakemake.output)
