"""Questions to a fit in a notebook give what the workflow's tables give."""

import numpy as np
import pandas as pd
import pytest
from api_fixture import GENE_SETS, N_FACTORS, example_atlas, quick_fit
from scores_fixture import GENES, make_factors

import latentree as lt
from latentree.config import DownstreamConfig
from latentree.enrichment_tables import enrich
from latentree.errors import InputError
from latentree.resampling import draw_part
from latentree.scores import LoadedFit
from latentree.usage import usage_table

SETS = {"first": tuple(GENES[:10]), "last": tuple(GENES[30:]), "elsewhere": ("OTHER1", "OTHER2")}


def test_enrichment_is_that_of_the_workflow_and_names_what_was_tested(tmp_path):
    factors = make_factors()
    file = tmp_path / "sets.gmt"
    file.write_text("".join("\t".join([name, "", *genes]) + "\n" for name, genes in SETS.items()))
    settings = DownstreamConfig.model_validate({"enrichment": {"gsea": False}})
    expected = enrich([LoadedFit.from_anndata(factors, {})], SETS, settings)
    for given in (SETS, file, [file]):
        found = lt.enrich(factors, given, gsea=False)
        pd.testing.assert_frame_equal(found.table, expected.table)
        pd.testing.assert_frame_equal(found.summary, expected.summary)
        assert found.notes[-1].startswith("2 of the 2 gene sets")
    best = found.table.sort_values("p_value").groupby("factor").first()["gene_set"]
    assert best.to_dict() == {"f1": "first", "f2": "last"}


def test_enrichment_refuses_what_cannot_be_tested(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        lt.enrich(make_factors(), tmp_path / "none.gmt")
    with pytest.raises(InputError, match="organism: 'yeast'"):
        lt.enrich(make_factors(), SETS, organism="yeast")
    with pytest.raises(InputError, match="min_set_size"):
        lt.enrich(make_factors(), SETS, min_set_size=0)
    with pytest.raises(InputError, match="none of the atlas's 40 genes"):
        lt.enrich(make_factors(), {"elsewhere": SETS["elsewhere"]})


def test_usage_is_that_of_the_workflow_by_any_column():
    factors = make_factors()
    found = lt.usage_by_type(factors)
    pd.testing.assert_frame_equal(found, usage_table([LoadedFit.from_anndata(factors, {})]))
    assert set(lt.usage_by_type(factors, "split")["cell_type"]) == {"train", "validation", "test"}
    with pytest.raises(InputError, match="no obs column 'donor'; there is 'cell_type', 'split'"):
        lt.usage_by_type(factors, "donor")


def test_usage_of_projected_cells_needs_no_split():
    adata = example_atlas()
    fit = quick_fit(adata, "pca")
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(str)
    del adata.obs["split"]
    projected = lt.project(fit, adata)
    pd.testing.assert_frame_equal(lt.usage_by_type(projected), lt.usage_by_type(fit))


def test_consensus_of_seeds_and_halves_is_a_fit_with_stabilities():
    adata = example_atlas()
    fits = [quick_fit(adata, "sparse_vae", seed=seed) for seed in (0, 1)]
    halves = [quick_fit(half, "sparse_vae") for half in lt.halves_of(adata)]
    found = lt.consensus_of(fits, [(halves[0], halves[1])])
    facts = found.factors.uns["latentree"]
    assert facts["seed"] == "consensus"
    assert found.factors.obsm["X_sparse_vae"].shape == (adata.n_obs, N_FACTORS)
    assert found.factors.varm["sparse_vae_loadings"].shape == (fits[0].factors.n_vars, N_FACTORS)
    assert list(found.table["factor"][:2]) == ["all", "f1"]
    assert "pca_reference" not in found.table
    assert found.table["halves_of_cells"].notna().all()
    assert found.table["chance_95"].between(0, 1).all()
    assert len(lt.enrich(found.factors, GENE_SETS, gsea=False).table)
    assert len(lt.usage_by_type(found.factors))


def test_a_consensus_needs_no_cell_types():
    adata = example_atlas()
    del adata.obs["cell_type"], adata.obs["split"]
    found = lt.consensus_of([quick_fit(adata, "pca", seed=seed) for seed in (0, 1)])
    assert list(found.factors.obs) == ["split"]
    assert found.table["n_seeds"].eq(2).all()


def test_fits_that_cannot_be_matched_are_refused():
    first, second = make_factors("pca"), make_factors("pca", seed=1)
    with pytest.raises(InputError, match="there are none"):
        lt.consensus_of([])
    with pytest.raises(InputError, match="sparse_vae with 3 factors is there beside pca with 3"):
        lt.consensus_of([first, make_factors()])
    with pytest.raises(InputError, match="different genes"):
        lt.consensus_of([first, second[:, ::-1]])
    with pytest.raises(InputError, match="different cells"):
        lt.consensus_of([first, second[:-1]])
    with pytest.raises(InputError, match="one of them twice"):
        lt.consensus_of([first, first])
    with pytest.raises(InputError, match="lacks 40 of the 40 test cells"):
        lt.consensus_of([first, second], [(first, second[second.obs["split"] == "train"])])
    with pytest.raises(InputError, match="is no AnnData of factors"):
        lt.usage_by_type(example_atlas())


def test_halves_are_those_that_the_workflow_draws():
    adata = example_atlas()
    adata.obs["donor"] = np.resize(["d1", "d2", "d3", "d4"], adata.n_obs)
    split = adata.obs["split"].to_numpy(dtype=str)
    for donor in (None, "donor"):
        halves = lt.halves_of(adata, donor=donor, seed=3)
        known = None if donor is None else adata.obs[donor].to_numpy(dtype=str)
        for i, half in enumerate(halves):
            kept = draw_part(f"half{i}", split, 3, donors=known).kept
            assert list(half.obs_names) == list(adata.obs_names[kept])
        shared = halves[0].obs_names.intersection(halves[1].obs_names)
        assert set(shared) == set(adata.obs_names[split == "test"])
    del adata.obs["split"]
    with pytest.raises(InputError, match="no obs column 'split'"):
        lt.halves_of(adata)
