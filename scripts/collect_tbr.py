"""Put the scores of all estimators into one table."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    import pandas as pd

    from latentree.files import read_table, write_table

    table = pd.concat([read_table(file) for file in snakemake.input])
    table = table.sort_values(
        ["estimator", "n_latents", "n_changes", "seed", "metric"],
        # seeds are read as text
        key=lambda column: column.astype(int) if column.name == "seed" else column,
    )
    write_table(table, snakemake.output[0])
