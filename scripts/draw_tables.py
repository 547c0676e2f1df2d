"""Draw accuracy, sparsity, stability and TBR's scores beside their references."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.files import read_table
    from latentree.plots.scores import draw_scores, draw_stability
    from latentree.plots.sparsity import draw_sparsity
    from latentree.plots.tbr import draw_tbr

    metrics = read_table(snakemake.input.metrics)
    draw_scores(metrics, snakemake.output.metrics)
    draw_sparsity(metrics, snakemake.output.sparsity)
    draw_stability(read_table(snakemake.input.stability), snakemake.output.stability)
    if snakemake.input.tbr:
        draw_tbr(read_table(snakemake.input.tbr), snakemake.output.tbr)
