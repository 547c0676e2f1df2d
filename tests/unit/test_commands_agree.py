"""What new writes, check takes; and what check says of an atlas is what the atlas stage makes of it."""

import logging
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from test_command_new import TYPES, cells

from latentree.atlas import prepare_atlas
from latentree.cli import main
from latentree.commands.atlas_checks import AtlasChecks
from latentree.commands.check import ROOT
from latentree.conditions import Design
from latentree.config import load_config
from latentree.input_checks import beside, problems

N = 240


def _plain() -> ad.AnnData:
    return cells(N, cell_type=np.resize(TYPES, N))


def _dense_float64() -> ad.AnnData:
    adata = _plain()
    adata.X = adata.X.toarray().astype(np.float64)
    return adata


def _by_columns() -> ad.AnnData:
    adata = _plain()
    adata.X = sparse.csc_matrix(adata.X)
    return adata


def _scaled_beside_logarithms() -> ad.AnnData:
    adata = _plain()
    adata.X = adata.X.log1p()
    adata.raw = adata
    dense = adata.X.toarray()
    adata.X = (dense - dense.mean(axis=0)) / (dense.std(axis=0) + 1e-3)
    return adata


def _no_x() -> ad.AnnData:
    adata = _plain()
    adata.layers["counts"] = adata.X.astype(np.int64)
    adata.X = None
    return adata


def _gaps_and_unused_categories() -> ad.AnnData:
    adata = _plain()
    types = adata.obs["cell_type"].astype(object).to_numpy(copy=True)
    types[:20], types[20:22] = None, "rare"
    adata.obs["cell_type"] = pd.Categorical(types, categories=[*TYPES, "rare", "unused"])
    adata.obs["batch"] = pd.Categorical(np.resize(["x", "y", None, "x", "y"], N), categories=["x", "y", "z"])
    return adata


def _numbers() -> ad.AnnData:
    return cells(N, cluster=np.where(np.arange(N) < 9, np.nan, np.arange(N) % 4))


def _truth() -> ad.AnnData:
    return cells(N, cell_type=np.arange(N) % 3 == 0)


def _donors_under_three_conditions() -> ad.AnnData:
    donors = np.resize([f"d{i}" for i in range(8)], N)
    treated = np.repeat(["high", "vehicle", "low"], N // 3)
    return cells(N, celltype=np.resize([*TYPES, "T", "NK"], N), donor=donors, treatment=treated)


def _odd_names() -> ad.AnnData:
    types = ['B: "naïve" {x}', "T\n2", "null", "<i>'a'</i>", "[mono]: 1"]
    return cells(N, **{"Cell type (v2): final": np.resize(types, N)})


def _repeated_genes() -> ad.AnnData:
    adata = _plain()
    adata.var_names = ["HES4", "HES4", "HES4-1", *adata.var_names[3:]]
    return adata


def _many_columns() -> ad.AnnData:
    columns = {f"qc_{i}": np.resize(["pass", "fail", "pass"], N) for i in range(40)}
    columns |= {f"x{i}": np.arange(N) / 7 for i in range(40)}
    return cells(N, cell_type=np.resize(TYPES, N), **columns)


@pytest.mark.filterwarnings("ignore:.*(not unique|made unique)")
@pytest.mark.parametrize(
    "make",
    [
        _plain, _dense_float64, _by_columns, _scaled_beside_logarithms, _no_x, _gaps_and_unused_categories,
        _numbers, _truth, _donors_under_three_conditions, _odd_names, _repeated_genes, _many_columns,
    ],
)  # fmt: skip
def test_new_then_check_then_the_atlas_stage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Callable[[], ad.AnnData]
) -> None:
    name = "2024 – Müller & co. (v1.2).h5ad"
    caplog.set_level(logging.ERROR)
    make().write_h5ad(tmp_path / name, compression="gzip")
    assert main(["new", str(tmp_path / name), "--output", str(tmp_path / "my.yaml")]) == 0
    config = load_config(tmp_path / "my.yaml")
    looked = AtlasChecks(beside(ROOT))
    assert problems(config.model_dump(mode="json"), beside(ROOT), looked) == []
    ((key, atlas),) = config.atlases.items()
    prepared, _ = prepare_atlas(atlas, config.preprocess, config.environments.min_cells_per_type, key)
    found = looked.facts[key]
    assert (found.n_cells, found.n_types) == (prepared.n_obs, prepared.obs["cell_type"].nunique())
    assert found.has_counts == ("counts" in prepared.layers)
    if atlas.condition is not None:
        assert Design.of(prepared.obs, atlas.condition, atlas.sample, atlas.reference).others
