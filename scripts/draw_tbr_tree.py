"""Draw the tree of cell types with the branches on which effects on the phenotype change."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.files import read_table
    from latentree.plots.tbr_tree import draw_tbr_tree, shown_fit
    from latentree.tree import Tree

    table = read_table(snakemake.input.tree)
    changes = read_table(snakemake.input.changes)
    draw_tbr_tree(
        Tree.from_table(table),
        shown_fit(changes),
        snakemake.output,
        n_cells=dict(zip(table["node"], table["n_cells"], strict=True)),
    )
