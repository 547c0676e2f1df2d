"""List which factor moves which gene set, and count such pairs beside the control's."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.files import write_table
    from latentree.group_tables import summary_table, weights_table

    folders = [Path(file).parent for file in snakemake.input.factors]
    write_table(weights_table(folders), snakemake.output.weights)
    write_table(summary_table(folders), snakemake.output.summary)
