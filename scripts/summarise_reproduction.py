"""Set the papers' figures beside ours."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.files import write_table
    from latentree.reproduction.summary import read_measurements, summarise

    write_table(summarise(read_measurements(snakemake.input)), snakemake.output[0])
