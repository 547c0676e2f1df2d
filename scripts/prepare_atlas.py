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

    described = AtlasSettings.model_validate(snakemake.params.atlas)
    if snakemake.input:
        # a downloaded or relocated file: the same atlas under another path
        described = described.model_copy(update={"path": str(snakemake.input.source)})
    atlas, qc = prepare_atlas(
        described,
        PreprocessSettings.model_validate(snakemake.params.preprocess),
        snakemake.params.min_cells_per_type,
        name=snakemake.wildcards.atlas,
    )
    write_atlas(atlas, snakemake.output.atlas)
    write_json(qc, snakemake.output.qc)
