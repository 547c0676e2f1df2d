"""Run one part of one of the papers' experiments."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    import torch

    from latentree.files import write_table
    from latentree.reproduction.records import Scale
    from latentree.reproduction.running import run_part

    # fits set their own; what experiments do beside them keeps to the rule's, too
    torch.set_num_threads(snakemake.threads)
    given = snakemake.params.reproduction
    places = {key: Path(given[key]) for key in ("data", "movielens") if given[key] is not None}
    measurements, samples = run_part(
        snakemake.wildcards.experiment, snakemake.wildcards.part, Scale(quick=given["quick"], **places)
    )
    write_table(measurements, snakemake.output.measurements)
    write_table(samples, snakemake.output.samples)
