"""The environments stage with what users put in its place: the original MAGIC, a tree of their own."""

import copy

import anndata as ad
import pytest

from latentree.files import read_table
from latentree.tree import Tree
from workflow_harness import SMALL


def small(**environments):
    config = copy.deepcopy(SMALL)
    config["environments"] = environments
    return config


@pytest.fixture(scope="module")
def types(finished):
    atlas = ad.read_h5ad(finished.root / "results" / "pbmc" / "atlas.h5ad")
    return sorted(atlas.obs["cell_type"].cat.categories)


def test_the_original_magic_takes_the_place_of_ours_and_is_marked_leaky(checkout):
    pytest.importorskip("magic")
    config = small(magic={"engine": "magic-impute", "fit_on": "all"}, max_cells_per_type=20)
    checkout.snakemake("results/pbmc/environments/cells.h5ad", "--configfile", checkout.config(config))
    cells = ad.read_h5ad(checkout.root / "results" / "pbmc" / "environments" / "cells.h5ad")
    assert cells.uns["latentree"]["engine"] == "magic-impute"
    assert cells.uns["latentree"]["leaky"]
    assert cells.obs["cell_type"].value_counts().max() == 20


def test_a_users_newick_tree_replaces_the_dendrogram(finished, types):
    table = [(name, "blood") for name in types] + [("blood", None)]
    (finished.root / "own.nwk").write_text(Tree.from_table(table).to_newick())
    config = finished.config({**small(tree={"file": "own.nwk"}), "results": "own"}, "own.yaml")
    finished.snakemake("own/pbmc/environments/tree.tsv", "--configfile", config)
    found = read_table(finished.root / "own" / "pbmc" / "environments" / "tree.tsv")
    assert set(found["node"]) == {*types, "blood"}
    assert found["n_cells"].sum() == 700


def test_a_tree_that_lacks_a_type_and_has_a_stranger_names_both(finished, types):
    table = [(name, "root") for name in [*types[1:], "Martian"]] + [("root", None)]
    (finished.root / "bad.nwk").write_text(Tree.from_table(table).to_newick())
    # the folder of the test above, whose atlas serves again
    config = finished.config({**small(tree={"file": "bad.nwk"}), "results": "own"}, "bad.yaml")
    done = finished.snakemake("own/pbmc/environments/tree.tsv", "--configfile", config, check=False)
    assert done.returncode == 1
    log = (finished.root / "own" / "logs" / "pbmc" / "build_tree.log").read_text()
    assert types[0] in log
    assert "Martian" in log
    assert "bad.nwk" in log
    assert "Traceback" not in log
