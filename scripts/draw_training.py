"""Draw the training curves of one fit."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.files import read_table
    from latentree.plots.curves import draw_training
    from latentree.plots.style import fit_title

    chosen = snakemake.wildcards
    title = f"{fit_title(chosen.model, int(chosen.k))}: training"
    draw_training(read_table(snakemake.input[0]), snakemake.output, title=title)
