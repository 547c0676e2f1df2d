"""Cells of the environments: what is kept, denoised from what, refused; and the picture of the tree."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from scipy import sparse

from latentree.environments import environment_cells, write_cells
from latentree.errors import InputError
from latentree.magic import MagicGraph
from latentree.plots.tree import draw_tree
from latentree.settings import EnvironmentSettings, MagicSettings
from latentree.tree import Tree

SIZES = {"CD4+/CD25 T Reg": 90, "a;b": 40, "<script>": 7}
AWKWARD = "('CD4+/CD25 T Reg','<script>alert(1)</script>',('it''s $x$ --> &')mid,'$','a\nb');"


def atlas(with_split: bool = True) -> ad.AnnData:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(list(SIZES), list(SIZES.values())))
    profiles = dict(zip(SIZES, rng.gamma(0.7, size=(3, 60)), strict=True))
    x = np.log1p(rng.poisson([profiles[label] for label in labels])).astype(np.float32)
    adata = ad.AnnData(sparse.csr_matrix(x))
    adata.var_names = [f"g{i}" for i in range(60)]
    adata.obs["cell_type"] = pd.Categorical(labels)
    adata.obs["donor"] = rng.integers(3, size=len(labels))
    adata.var["modelled"] = np.arange(60) % 2 == 0
    if with_split:
        adata.obs["split"] = pd.Categorical(
            rng.choice(["train", "validation", "test"], len(labels), p=[0.7, 0.1, 0.2])
        )
    adata.uns["latentree"] = {"scale": "log1p_cp10k", "qc_json": "{}"}
    return adata


def environments(at_most: int = 30, seed: int = 0, **magic: object) -> EnvironmentSettings:
    return EnvironmentSettings(magic=MagicSettings(n_pca=10, **magic), max_cells_per_type=at_most, seed=seed)


def test_at_most_so_many_of_each_type_with_their_columns() -> None:
    adata = atlas()
    cells = environment_cells(adata, environments())
    assert cells.obs["cell_type"].value_counts().to_dict() == {
        "CD4+/CD25 T Reg": 30,
        "a;b": 30,
        "<script>": 7,
    }
    assert list(cells.var_names) == [f"g{i}" for i in range(0, 60, 2)]
    assert cells.X.dtype == np.float32
    pd.testing.assert_frame_equal(cells.obs, adata.obs.loc[cells.obs_names])
    assert list(cells.obs_names) == [name for name in adata.obs_names if name in set(cells.obs_names)]
    facts = cells.uns["latentree"]
    assert (facts["engine"], facts["fit_on"], facts["leaky"]) == ("latentree", "train", False)
    assert facts["scale"] == "log1p_cp10k"
    assert json.loads(facts["counts_json"]) == [
        {"cell_type": "<script>", "n_cells": 7, "n_kept": 7},
        {"cell_type": "CD4+/CD25 T Reg", "n_cells": 90, "n_kept": 30},
        {"cell_type": "a;b", "n_cells": 40, "n_kept": 30},
    ]
    assert "tree" not in json.loads(facts["settings_json"])


def test_the_draw_follows_the_seed_and_a_type_s_own_cells() -> None:
    adata = atlas()
    first = environment_cells(adata, environments())
    again = environment_cells(adata, environments())
    np.testing.assert_array_equal(first.X, again.X)
    other = environment_cells(adata, environments(seed=1))
    assert set(other.obs_names) != set(first.obs_names)
    without = environment_cells(adata[adata.obs["cell_type"] != "a;b"].copy(), environments())
    # fewer types in the atlas: cells of the others have new row numbers, yet the same are drawn
    same = first.obs_names[first.obs["cell_type"] == "CD4+/CD25 T Reg"]
    assert set(same) == set(without.obs_names[without.obs["cell_type"] == "CD4+/CD25 T Reg"])


def test_values_are_denoised_on_the_whole_matrix_before_the_draw() -> None:
    adata = atlas(with_split=False)
    settings = environments(at_most=5)
    cells = environment_cells(adata, settings, genes=["g7", "g2"])
    whole = MagicGraph.fit(adata.X, settings.magic).denoise(adata.X)
    rows = adata.obs_names.get_indexer(cells.obs_names)
    np.testing.assert_array_equal(cells.X, whole[rows][:, [7, 2]])
    assert not cells.uns["latentree"]["leaky"]


def test_held_out_cells_do_not_shape_the_training_cells() -> None:
    adata = atlas()
    settings = environments(at_most=1000)
    train = (adata.obs["split"] == "train").to_numpy()
    before = environment_cells(adata, settings)
    changed = adata.copy()
    X = changed.X.tolil()
    X[~train] = X[~train].toarray()[::-1]
    changed.X = X.tocsr()
    after = environment_cells(changed, settings)
    np.testing.assert_array_equal(after.X[train], before.X[train])
    assert (after.X[~train] != before.X[~train]).any()
    graph = MagicGraph.fit(adata.X[train], settings.magic)
    genes = np.arange(0, 60, 2)
    new = adata.X[~train]
    np.testing.assert_array_equal(
        before.X[~train], graph.extend(new, new[:, genes], adata.X[train][:, genes])
    )

    leaky = environment_cells(adata, environments(at_most=1000, fit_on="all"))
    assert leaky.uns["latentree"]["leaky"]
    np.testing.assert_array_equal(leaky.X, MagicGraph.fit(adata.X, settings.magic).denoise(adata.X[:, genes]))


def test_another_engine_is_called_on_all_cells_for_the_chosen_genes() -> None:
    adata = atlas()
    settings = environments(engine="magic-impute", fit_on="all")
    cells = environment_cells(adata, settings, ["g3"], denoise=lambda x, genes: x[:, genes].toarray() + 1.0)
    np.testing.assert_array_equal(cells.X, adata[cells.obs_names, ["g3"]].X.toarray() + 1)
    assert cells.X.dtype == np.float32
    assert cells.uns["latentree"]["engine"] == "magic-impute"
    with pytest.raises(InputError, match="denoiser returned shape"):
        environment_cells(adata, settings, ["g3"], denoise=lambda x, genes: np.zeros((3, 1)))
    with pytest.raises(InputError, match="'magic-impute' with no other denoiser given"):
        environment_cells(adata, settings)
    with pytest.raises(InputError, match="'latentree' with another denoiser given"):
        environment_cells(adata, environments(), denoise=lambda x, genes: x)


def test_t_0_keeps_the_values() -> None:
    adata = atlas()
    cells = environment_cells(adata, environments(t=0, fit_on="all"))
    np.testing.assert_array_equal(cells.X, adata[cells.obs_names, cells.var_names].X.toarray())
    assert not cells.uns["latentree"]["leaky"]


def test_genes_and_types_that_are_not_there() -> None:
    adata = atlas()
    with pytest.raises(InputError, match=r"genes: 1 of 2 are not in the atlas: 'G1'.*nearest"):
        environment_cells(adata, environments(), ["g1", "G1"])
    with pytest.raises(InputError, match="2 names, 1 of them different"):
        environment_cells(adata, environments(), ["g1", "g1"])
    with pytest.raises(InputError, match="0 names"):
        environment_cells(adata, environments(), [])
    del adata.obs["cell_type"]
    with pytest.raises(InputError, match="no obs column 'cell_type'"):
        environment_cells(adata, environments())


def test_cells_without_a_type_are_not_drawn_and_dense_atlases_work() -> None:
    adata = atlas()
    adata.obs.loc[adata.obs["cell_type"] == "<script>", "cell_type"] = np.nan
    cells = environment_cells(adata, environments())
    assert cells.n_obs == 60
    adata.X = adata.X.toarray()
    np.testing.assert_allclose(environment_cells(adata, environments()).X, cells.X, atol=1e-5)


def test_the_file_gives_the_cells_back(tmp_path: Path) -> None:
    cells = environment_cells(atlas(), environments())
    write_cells(cells, tmp_path / "cells.h5ad")
    back = ad.read_h5ad(tmp_path / "cells.h5ad")
    np.testing.assert_array_equal(back.X, cells.X)
    assert {key: str(value) for key, value in back.uns["latentree"].items()} == {
        key: str(value) for key, value in cells.uns["latentree"].items()
    }


# ---- the picture


@pytest.mark.parametrize("text", [AWKWARD, "(A:1,(B:2,C:0)x:0.5)r;", "(A:0,B:0);", "A;"])
def test_pictures_are_whole_xml_and_the_same_each_time(text: str, tmp_path: Path) -> None:
    tree = Tree.from_newick(text)
    for name in ("one.svg", "two.svg"):
        draw_tree(tree, tmp_path / name, n_cells={"A": 1200, "mid": 3}, title="<i>&")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    root = ElementTree.parse(tmp_path / "one.svg").getroot()
    assert {element.tag.split("}")[-1] for element in root.iter() if isinstance(element.tag, str)}.isdisjoint(
        {"script", "image"}
    )


def test_names_are_neither_cut_nor_on_top_of_each_other(tmp_path: Path) -> None:
    short = Tree.from_newick("(A:1,B:2);")
    long = Tree.from_table([("r", None), ("B", "r"), ("wide cell type " * 12, "r")])
    many = Tree.from_table([("r", None), *((f"type {i}", "r") for i in range(47))])
    shapes = []
    for number, tree in enumerate((short, long, many)):
        path = tmp_path / f"{number}.png"
        draw_tree(tree, path)
        picture = imread(path)[..., :3].min(axis=2)
        shapes.append(picture.shape)
        # ink at the border would be a name cut off
        assert picture[:, -3:].min() == 1
        assert picture[-3:].min() == 1
    assert shapes[1][1] > 2 * shapes[0][1]
    assert shapes[2][0] > 47 * 0.2 * 200  # at least 0.2 inches for each leaf at 200 dots per inch
