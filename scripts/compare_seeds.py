"""Match the factors of different seeds and say how far they agree."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.files import write_table
    from latentree.scores import read_fit, stability_table

    write_table(
        stability_table([read_fit(Path(file).parent) for file in snakemake.input.factors]),
        snakemake.output[0],
    )
