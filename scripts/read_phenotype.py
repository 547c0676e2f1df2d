"""Check a measured phenotype before anything is fitted, and count what each cell type can tell of it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    import h5py
    from anndata.io import read_elem

    from latentree.files import write_table
    from latentree.tbr_config import PhenotypeConfig
    from latentree.tbr_phenotype import by_cell_type, measured_phenotype

    # the table of cells alone: the matrix is not needed
    with h5py.File(snakemake.input.atlas) as file:
        obs = read_elem(file["obs"])
    phenotype = measured_phenotype(obs, PhenotypeConfig.model_validate(snakemake.params.phenotype))
    write_table(by_cell_type(phenotype, obs), snakemake.output[0])
