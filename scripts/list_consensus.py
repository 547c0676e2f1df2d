"""Join the stability of all consensus factors in one table, beside what PCA reaches."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.consensus_files import consensus_table
    from latentree.files import read_table, write_table

    parts = [read_table(file) for file in snakemake.input.parts]
    write_table(consensus_table(parts, read_table(snakemake.input.stability)), snakemake.output[0])
