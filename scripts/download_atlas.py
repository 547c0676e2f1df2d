"""Fetch an atlas from its address and check its SHA-256."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.download import download

    download(snakemake.params.url, snakemake.output[0], snakemake.params.sha256)
