"""Test every factor for enriched gene sets, and count what chance would give."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    import logging

    from latentree.atlas import load_atlas
    from latentree.config import DownstreamConfig
    from latentree.enrichment_tables import enrich, enrichment_note
    from latentree.files import sha256_of, write_json, write_table
    from latentree.gene_sets import match_files
    from latentree.scores import read_fit

    matched = match_files(
        snakemake.input.gene_sets,
        list(load_atlas(snakemake.input.atlas).var_names),
        snakemake.params.organism,
        snakemake.params.regulon_confidence,
    )
    fits = [read_fit(Path(file).parent) for file in snakemake.input.factors]
    settings = DownstreamConfig.model_validate(snakemake.params.downstream)
    found = enrich(fits, matched.sets, settings, snakemake.threads)
    files = [f"gene sets: {file}, sha256 {sha256_of(file)}" for file in snakemake.input.gene_sets]
    notes = [*files, *matched.notes, *found.notes]
    if snakemake.input.gene_sets:
        # the last one, which the report quotes
        notes.append(enrichment_note(fits, matched.sets, settings))
    for note in notes:
        logging.info("note: %s", note)
    write_json(notes, snakemake.output.notes)
    write_table(found.summary, snakemake.output.summary)
    write_table(found.table, snakemake.output.table)
