"""Denoise the cells by the original magic-impute (GPL-2, in an environment of its own)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    import magic
    import numpy as np
    from scipy import sparse

    from latentree.atlas import load_atlas
    from latentree.environments import environment_cells, write_cells
    from latentree.settings import EnvironmentSettings
    from latentree.tbr_regulators import Regulators
    from latentree.tbr_variables import environment_genes

    atlas = load_atlas(snakemake.input.atlas)
    regulators = None
    for file in snakemake.input.regulators:
        regulators = Regulators.read(file, **snakemake.params.regulator_rows)
    genes = environment_genes(atlas, snakemake.params.latents, regulators)
    settings = EnvironmentSettings.model_validate(snakemake.params.environments)

    def denoise(values: sparse.csr_matrix, chosen: np.ndarray) -> np.ndarray:
        """The original on the whole atlas; it sees all cells (``fit_on: all``)."""
        given = settings.magic
        operator = magic.MAGIC(
            knn=given.knn,
            knn_max=given.knn_max,
            decay=given.decay,
            t=given.t,
            n_pca=given.n_pca,
            random_state=given.seed,
            n_jobs=snakemake.threads,
            verbose=0,
        )
        # it knows scipy's matrices and not its arrays, and wants genes by position
        return operator.fit_transform(sparse.csr_matrix(values), genes=list(chosen))

    write_cells(environment_cells(atlas, settings, genes, denoise), snakemake.output[0])
