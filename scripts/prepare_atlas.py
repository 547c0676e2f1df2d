"""Validate, normalise and split an atlas, and choose its modelled genes."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.atlas import prepare_atlas, write_atlas
    from latentree.config import AtlasSettings
    from latentree.files import write_json
    from latentree.settings import PreprocessSettings

    atlas, qc = prepare_atlas(
        AtlasSettings.model_validate(snakemake.params.atlas),
        PreprocessSettings.model_validate(snakemake.params.preprocess),
        snakemake.params.min_cells_per_type,
        name=snakemake.wildcards.atlas,
        # a downloaded file, or one that lies beside the Snakefile; a built-in atlas has none
        path=next(iter(snakemake.input), None),
    )
    write_atlas(atlas, snakemake.output.atlas)
    write_json(qc, snakemake.output.qc)
