"""Draw the tree of cell types."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.files import read_table
    from latentree.plots.tree import draw_tree
    from latentree.tree import Tree

    table = read_table(snakemake.input[0])
    draw_tree(
        Tree.from_table(table),
        snakemake.output,
        n_cells=dict(zip(table["node"], table["n_cells"], strict=True)),
    )
