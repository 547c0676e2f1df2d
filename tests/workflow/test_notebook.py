"""docs/tutorial.ipynb runs from top to bottom, and what it shows is so. No Jupyter is needed."""

import importlib.util
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import latentree as lt

DOCS = Path(__file__).resolve().parents[2] / "docs"
NOTEBOOK = json.loads((DOCS / "tutorial.ipynb").read_text())


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> dict[str, Any]:
    """All names of the notebook after its last cell, run where Jupyter would run it."""
    import matplotlib as mpl

    mpl.use("Agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(DOCS)
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("notebook")))
        for cell in NOTEBOOK["cells"]:
            needed = cell["metadata"].get("tags", [])
            if cell["cell_type"] == "code" and all(map(importlib.util.find_spec, needed)):
                exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    mpl.pyplot.close("all")
    return names


def test_it_is_a_notebook_without_outputs():
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids)
    code = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_the_program_of_the_monocytes_is_theirs(shown):
    loadings = shown["loadings"]
    active = set(loadings[loadings > 0].index)
    assert len({"S100A9", "LST1", "FCN1", "CST3", "TYROBP", "AIF1", "CFD", "LYZ"} & active) >= 5
    assert shown["monocytes"].loc[shown["program"], "specificity"] > 0.9
    named = shown["names"].query("direction == 'up'")["gene_set"]
    assert named.str.contains("MONOCYTE|MYELOID").any()


def test_enrichment_stands_beside_chance(shown):
    (summary,) = shown["found"].summary.to_dict("records")
    assert summary["n_enriched"] > 10 * (1 + summary["control_max"])
    assert set(shown["best"]["factor"]) <= set(shown["fit"].loadings.columns)


def test_some_programs_come_back_and_some_do_not(shown):
    factors = shown["consensus"].table.iloc[1:]
    assert set(factors["stable"]) == {"yes", "no"}
    stable = factors[factors["stable"] == "yes"]
    assert (stable["halves_of_cells"] > stable["chance_95"]).all()
    assert shown["program"] in set(stable["factor"])


def test_new_cells_come_where_the_fit_has_them(shown):
    fit = shown["fit"]
    rows = fit.factors.obs_names.get_indexer(shown["new"].obs_names)
    np.testing.assert_allclose(shown["projected"].obsm["X_sparse_vae"], fit.latents[rows], atol=1e-5)
    assert shown["from_fewer"].uns["latentree"]["projection"]["n_genes_missing"] == 382
    assert shown["with_all"].corrwith(shown["with_few"]).min() > 0.5
    assert shown["accuracy"] > shown["majority"] + 0.3


def test_what_was_saved_is_what_was_fitted(shown):
    fit = shown["fit"]
    np.testing.assert_array_equal(shown["loaded"].latents, fit.latents)
    np.testing.assert_array_equal(shown["opened"].varm["sparse_vae_loadings"], fit.loadings.to_numpy())
    again = lt.project(shown["loaded"], shown["new"])
    np.testing.assert_array_equal(again.obsm["X_sparse_vae"], shown["projected"].obsm["X_sparse_vae"])


def test_effects_along_the_tree_are_found_beyond_chance(shown):
    assert shown["mcc"] > shown["chance_95"] > shown["chance"] > shown["mcc_baseline"]
    assert shown["effects"].identifiability.warnings == ()
    assert 0 < (shown["changed"] == 0).sum() < len(shown["changed"])
    assert set(shown["tree"].leaves) == set(shown["adata"].obs["cell_type"])


def test_programs_are_exported_where_mudata_is_installed(shown):
    if importlib.util.find_spec("mudata") is None:
        pytest.skip("mudata is in requirements-bench.txt only")
    assert shown["mdata"]["prog"].X.shape == shown["fit"].latents.shape
    assert (shown["folder"] / "programs.h5mu").is_file()
