"""Match the factors of all seeds of one model and write their consensus."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    import anndata

    from latentree.consensus_files import consensus_anndata, consensus_of, consensus_rows, consensus_summary
    from latentree.files import atomic_path, read_json, write_json, write_table
    from latentree.resampling import refit_pairs

    fits = [anndata.read_h5ad(file) for file in snakemake.input.factors]
    summaries = [read_json(file) for file in snakemake.input.summaries]
    refits = {Path(file).parent.name: anndata.read_h5ad(file) for file in snakemake.input.halves}
    halves = [(refits[a], refits[b]) for a, b in refit_pairs(refits)["halves"]]
    consensus = consensus_of(fits, halves)
    seeds = [summary["seed"] for summary in summaries]
    rows = consensus_rows(snakemake.wildcards.model, int(snakemake.wildcards.k), seeds, consensus)
    write_table(rows, snakemake.output.table)
    write_json(consensus_summary(summaries, consensus), snakemake.output.summary)
    with atomic_path(snakemake.output.factors) as temporary:
        consensus_anndata(fits[0], consensus).write_h5ad(temporary)
