"""Match the factors of fits with other seeds and on other cells, and say how far they agree."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.atlas import load_atlas, modelled_matrix
    from latentree.files import write_table
    from latentree.scores import read_fit
    from latentree.stability import gathered_refits, reference_refits, stability_table

    first_seed = snakemake.params.first_seed
    fits = [read_fit(Path(file).parent) for file in snakemake.input.factors]
    refits = [(Path(file).parent.name, read_fit(Path(file).parent)) for file in snakemake.input.refits]
    groups = gathered_refits(fits, refits, first_seed)
    if refits:
        atlas = load_atlas(snakemake.input.atlas)
        groups += reference_refits(modelled_matrix(atlas), atlas.obs_names, fits, refits)
    write_table(stability_table(fits, groups, first_seed), snakemake.output[0])
