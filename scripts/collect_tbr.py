"""Put each table of all estimators into one: scores, errors on held-out cell types, identifiability."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    import pandas as pd

    from latentree.files import read_table, write_table

    order = {
        "scores": ["estimator", "n_latents", "n_changes", "seed", "metric"],
        "transfer": ["estimator", "n_latents", "n_changes", "seed", "held_out", "shots", "method"],
        "identifiability": ["estimator", "n_latents", "n_changes", "seed"],
    }
    for name, columns in order.items():
        table = pd.concat([read_table(file) for file in snakemake.input[name]])
        # seeds are read as text
        table = table.sort_values(
            columns,
            key=lambda column: column.astype(int) if column.name == "seed" else column,
            kind="stable",
        )
        write_table(table, snakemake.output[name])
