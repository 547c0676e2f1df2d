"""Fetch a named library of gene sets."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    import logging

    from latentree.libraries import fetch_library

    found = fetch_library(snakemake.wildcards.library, snakemake.output[0], snakemake.params.address)
    logging.info("sha256 %s", found)
