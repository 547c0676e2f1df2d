"""Root the tree of cell types: scanpy's dendrogram, or the user's own file."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.job import rule_script

with rule_script(snakemake, __file__):
    from latentree.atlas import load_atlas
    from latentree.files import write_table, write_text
    from latentree.settings import TreeSettings
    from latentree.tree import Tree

    settings = TreeSettings.model_validate(snakemake.params.tree)
    atlas = load_atlas(snakemake.input.atlas)
    if settings.file is None:
        tree = Tree.from_dendrogram(atlas, "cell_type", linkage=settings.linkage, n_pcs=settings.n_pcs)
    else:
        tree = Tree.from_file(snakemake.input.file[0])
        tree.require_leaves(list(atlas.obs["cell_type"].cat.categories), source=settings.file)
    counts = atlas.obs["cell_type"].value_counts()
    table = tree.to_table()
    table["n_cells"] = table["node"].map(counts).fillna(0).astype(int)
    write_text(tree.to_newick() + "\n", snakemake.output.newick)
    write_table(table, snakemake.output.table)
