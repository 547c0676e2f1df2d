"""Put the tables of all estimators into one each."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    import pandas as pd

    from latentree.files import read_table, write_table

    for name in ("scores", "changes", "genes", "identifiability"):
        # estimators come sorted by name; within one, rows stand in the order of the fit
        table = pd.concat([read_table(file) for file in sorted(snakemake.input[name])])
        write_table(table, snakemake.output[name])
