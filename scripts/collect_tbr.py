"""Put the scores of all estimators into one table."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    import pandas as pd

    from latentree.files import read_table, write_table

    write_table(pd.concat([read_table(file) for file in snakemake.input]), snakemake.output[0])
