"""Write the report of one atlas."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree import provenance
    from latentree.report import write_report

    write_report(
        Path(snakemake.output[0]).parent,
        snakemake.wildcards.atlas,
        snakemake.params.config,
        Path(snakemake.output[0]),
        versions=provenance.loaded_versions(),
        run={
            **provenance.run_in_words(snakemake.config["results"]),
            "commit": provenance.commit_in_words(Path(__file__).resolve().parents[1]),
            "code (SHA-256)": snakemake.params.code,
        },
    )
