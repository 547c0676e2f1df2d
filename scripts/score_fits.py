"""Score all fits of an atlas on cells that they did not see."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.api import fit
    from latentree.atlas import load_atlas
    from latentree.files import write_table
    from latentree.scores import LoadedFit, metrics_table, read_fit

    atlas = load_atlas(snakemake.input.atlas)

    def reference(model: str, n_factors: int, seed: int) -> LoadedFit:
        """A model that is not in the config, fitted here to be compared with."""
        result = fit(atlas, model, n_factors=n_factors, seed=seed, threads=snakemake.threads, progress=False)
        return LoadedFit.from_anndata(result.factors, result.summary)

    fits = [read_fit(Path(file).parent) for file in snakemake.input.factors]
    column = snakemake.params.batch
    batches = atlas.obs[column] if column else None
    write_table(metrics_table(snakemake.wildcards.atlas, fits, reference, batches), snakemake.output[0])
