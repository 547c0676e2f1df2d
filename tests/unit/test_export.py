"""Fits in other tools: MuData as gene_network_evaluation reads it, and scanpy's pictures."""

import sys

import anndata as ad
import mudata
import numpy as np
import pytest
from scores_fixture import GENES, N_CELLS, make_factors

from latentree.errors import InputError
from latentree.export import to_mudata, write_mudata


@pytest.fixture
def atlas() -> ad.AnnData:
    """More cells and genes than the fits have, in another order."""
    names = [f"cell{i}" for i in range(N_CELLS + 5)][::-1]
    genes = ["OTHER", *GENES[::-1]]
    x = np.random.default_rng(0).poisson(1.0, (len(names), len(genes))).astype(np.float32)
    made = ad.AnnData(x)
    made.obs_names, made.var_names = names, genes
    made.obs["batch"] = np.resize(["a", "b"], len(names))
    return made


def test_programs_come_as_gene_network_evaluation_reads_them(atlas, tmp_path):
    factors = make_factors()
    write_mudata(atlas, [factors, make_factors("pca"), make_factors("pca", seed=1)], tmp_path / "p.h5mu")
    found = mudata.read_h5mu(tmp_path / "p.h5mu")
    assert list(found.mod) == ["rna", "sparse_vae", "pca_k3_seed0", "pca_k3_seed1"]
    rna, programs = found["rna"], found["sparse_vae"]
    # what its enrichment and explained variance rely on
    assert programs.varm["loadings"].shape == (2, rna.n_vars)
    assert list(programs.uns["var_names"]) == list(rna.var_names) == GENES
    assert list(programs.var_names) == ["sparse_vae_f1", "sparse_vae_f2"]
    np.testing.assert_array_equal(programs.varm["loadings"], factors.varm["sparse_vae_loadings"][:, :2].T)
    np.testing.assert_array_equal(programs[:, "sparse_vae_f2"].X[:, 0], factors.obsm["X_sparse_vae"][:, 1])
    np.testing.assert_array_equal(rna.X, atlas[factors.obs_names, GENES].X)
    assert list(programs.obs["batch"]) == list(atlas.obs.loc[factors.obs_names, "batch"])


def test_a_fit_can_have_the_key_under_which_gene_network_evaluation_looks(atlas):
    made = to_mudata(atlas, {"prog": make_factors()})
    assert list(made.mod) == ["rna", "prog"]
    # as its get_program_gene_loadings and compute_explained_variance_ratio look at one program
    one = made["prog"][:, "prog_f2"].varm["loadings"].flatten()
    np.testing.assert_array_equal(one, make_factors().varm["sparse_vae_loadings"][:, 1])
    assert len(made["prog"].uns["var_names"]) == made["rna"].n_vars == len(one)
    with pytest.raises(InputError, match="rna is there twice"):
        to_mudata(atlas, {"rna": make_factors()})


def test_fits_of_other_cells_are_refused(atlas):
    factors = make_factors()
    for given, problem in (
        ([], "there are none"),
        ([factors, make_factors("pca")[:-1]], "different cells"),
        ([factors, factors], "is there twice"),
    ):
        with pytest.raises(InputError, match=problem):
            to_mudata(atlas, given)
    with pytest.raises(InputError, match="lacks 1 genes of the fit: 'GENE0'"):
        to_mudata(atlas[:, atlas.var_names != "GENE0"], [factors])


def test_without_mudata_the_message_names_the_remedy(atlas, monkeypatch):
    monkeypatch.setitem(sys.modules, "mudata", None)
    with pytest.raises(InputError, match="pip install mudata"):
        to_mudata(atlas, [make_factors()])


@pytest.mark.parametrize("basis", ["X_sparse_vae", "sparse_vae"])
def test_factors_open_in_scanpy_without_conversion(tmp_path, basis):
    import matplotlib as mpl

    mpl.use("Agg")
    import scanpy as sc
    from matplotlib.figure import Figure

    make_factors().write_h5ad(tmp_path / "factors.h5ad")
    factors = ad.read_h5ad(tmp_path / "factors.h5ad")
    drawn = sc.pl.embedding(factors, basis, color="cell_type", return_fig=True, show=False)
    assert isinstance(drawn, Figure)
    points = np.concatenate([c.get_offsets() for c in drawn.axes[0].collections])
    assert len(points) >= N_CELLS
