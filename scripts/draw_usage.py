"""Draw how much the cell types use the factors of every model's consensus."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.files import read_table
    from latentree.plots.usage import draw_usage
    from latentree.seeds import CONSENSUS

    table = read_table(snakemake.input[0])
    drawn = zip(snakemake.params.fits, snakemake.output.svg, snakemake.output.png, strict=True)
    for (model, n_factors), *files in drawn:
        of_fit = (table["model"] == model) & (table["n_factors"] == n_factors) & (table["seed"] == CONSENSUS)
        draw_usage(table[of_fit], files)
