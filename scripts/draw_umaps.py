"""Draw the cells of every model's consensus by UMAP."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    import anndata as ad

    from latentree.plots.umap import draw_umap

    drawn = zip(
        snakemake.input, snakemake.params.fits, snakemake.output.svg, snakemake.output.png, strict=True
    )
    for file, (model, _), *files in drawn:
        factors = ad.read_h5ad(file)
        draw_umap(factors, model, files)
