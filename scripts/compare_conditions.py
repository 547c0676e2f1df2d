"""Compare the factors of every fit between the atlas's conditions, over samples."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.atlas import load_atlas
    from latentree.conditions import Design, conditions_table
    from latentree.files import write_table
    from latentree.scores import read_fit

    obs = load_atlas(snakemake.input.atlas).obs
    design = Design.of(obs, **snakemake.params.columns)
    fits = [read_fit(Path(file).parent) for file in snakemake.input.factors]
    write_table(conditions_table(fits, obs, design), snakemake.output[0])
