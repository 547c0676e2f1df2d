"""Write the page of the papers' experiments from its table."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.files import read_table, write_text
    from latentree.reproduction.page import reproduction_page

    write_text(
        reproduction_page(read_table(snakemake.input.summary), quick=snakemake.params.quick),
        snakemake.output[0],
    )
