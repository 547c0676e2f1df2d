"""Draw one fit: its cells in two dimensions and its loadings."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    import anndata as ad

    from latentree.plots.embedding import draw_embedding
    from latentree.plots.loadings import draw_loadings

    factors = ad.read_h5ad(snakemake.input.factors)
    draw_embedding(factors, snakemake.wildcards.model, snakemake.output.embedding)
    draw_loadings(factors, snakemake.wildcards.model, snakemake.output.loadings)
