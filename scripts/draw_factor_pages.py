"""Draw one page for each factor of the consensus of every fit."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.files import read_table
    from latentree.plots.factor_page import draw_factor_page, factor_pages

    tables = [read_table(snakemake.input[name]) for name in ("genes", "enrichment", "usage", "consensus")]
    pages = factor_pages(*tables, fits=snakemake.params.fits)
    drawn = zip(pages, snakemake.output.svg, snakemake.output.png, strict=True)
    for page, *files in drawn:
        draw_factor_page(page, files)
