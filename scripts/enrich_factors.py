"""Test every factor's active genes for over-represented gene sets."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    import logging

    from latentree.atlas import load_atlas
    from latentree.config import DownstreamConfig
    from latentree.files import write_json, write_table
    from latentree.gene_sets import match_files
    from latentree.scores import enrichment_note, enrichment_table, read_fit

    matched = match_files(
        snakemake.input.gene_sets,
        list(load_atlas(snakemake.input.atlas).var_names),
        snakemake.params.organism,
    )
    fits = [read_fit(Path(file).parent) for file in snakemake.input.factors]
    settings = DownstreamConfig.model_validate(snakemake.params.downstream)
    notes = list(matched.notes)
    if snakemake.input.gene_sets:
        notes.append(enrichment_note(fits, matched.sets, settings))
    for note in notes:
        logging.info("note: %s", note)
    write_json(notes, snakemake.output.notes)
    write_table(enrichment_table(fits, matched.sets, settings), snakemake.output.table)
