"""Draw the picture of one of the papers' experiments."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.reproduction.drawing import draw_experiment

    draw_experiment(snakemake.wildcards.experiment, snakemake.input, snakemake.output[0])
