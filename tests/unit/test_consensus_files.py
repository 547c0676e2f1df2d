"""A consensus as files: the contract of a fit, and rows of a table that hide nothing."""

import numpy as np
import pandas as pd
import pytest
from scores_fixture import N_CELLS, N_FACTORS, SPLIT, make_factors

from latentree.consensus_files import (
    CONSENSUS_COLUMNS,
    consensus_anndata,
    consensus_of,
    consensus_rows,
    consensus_summary,
    consensus_table,
)
from latentree.files import read_table, write_table
from latentree.scores import LoadedFit, metrics_table


def some_fits(n_seeds: int = 3, model: str = "sparse_vae") -> list:
    """The same factors with noise, the second seed's in another order and turned round."""
    fits = []
    for seed in range(n_seeds):
        factors = make_factors(model)
        rng = np.random.default_rng(seed)
        factors.obsm[f"X_{model}"] += (0.2 * rng.normal(size=(N_CELLS, N_FACTORS))).astype(np.float32)
        facts = {"variance_share": np.array([0.3, 0.2, 0.0 if model == "sparse_vae" else 0.1])}
        table = factors.uns["latentree"]["factors"].assign(**facts)
        if seed == 1:
            order = [1, 2, 0]
            for key in (f"X_{model}",):
                factors.obsm[key] = -factors.obsm[key][:, order]
            factors.varm[f"{model}_loadings"] = -factors.varm[f"{model}_loadings"][:, order]
            if model == "sparse_vae":
                factors.varm[f"{model}_inclusion"] = factors.varm[f"{model}_inclusion"][:, order]
            table = table.iloc[order]
        facts = {"settings_json": "{}", "versions_json": "{}", "atlas_sha256": "a" * 64, "scale": "as_found"}
        factors.uns["latentree"] |= {"seed": seed, "factors": table.reset_index(drop=True), **facts}
        fits.append(factors)
    return fits


def test_a_consensus_keeps_the_contract_of_a_fit(tmp_path):
    fits = some_fits()
    consensus = consensus_of(fits, [])
    made = consensus_anndata(fits[0], consensus)
    made.write_h5ad(tmp_path / "factors.h5ad")
    summary = consensus_summary([{"model": "sparse_vae", "seed": seed} for seed in range(3)], consensus)
    import anndata

    back = anndata.read_h5ad(tmp_path / "factors.h5ad")
    fit = LoadedFit.from_anndata(back, summary)
    assert fit.seed == "consensus"
    assert fit.latents.shape == (N_CELLS, N_FACTORS)
    assert fit.latents.dtype == np.float32
    assert fit.alive.tolist() == [True, True, False]
    assert np.corrcoef(fit.latents[:, 0], fits[0].obsm["X_sparse_vae"][:, 0])[0, 1] > 0.99
    # exact zeros where the fits have them
    assert (fit.loadings[10:, 0] == 0).all()
    assert (fit.loadings[:10, 0] > 0).all()
    uns = back.uns["latentree"]
    assert {"model", "settings_json", "seed", "versions_json", "atlas_sha256", "factors"} <= set(uns)
    assert list(uns["factors"]["seeds_found"]) == [3, 3, 0]
    assert list(uns["factors"]["stable"])[2] == "no"
    assert summary["seeds"] == [0, 1, 2]
    assert summary["members"] == [{"0": "f1", "1": "f3", "2": "f1"}, {"0": "f2", "1": "f1", "2": "f2"}]
    metrics = metrics_table("atlas", [fit])
    assert "consensus" in set(metrics["seed"].astype(str))
    assert {"accuracy", "silhouette", "hoyer", "zeros", "alive_factors"} <= set(metrics["metric"])


def test_rows_name_all_factors_and_those_beyond():
    fits = some_fits(model="pca")
    fits[2].obsm["X_pca"][:, 1] = np.random.default_rng(0).normal(size=N_CELLS)
    fits[2].varm["pca_loadings"][:, 1] = np.random.default_rng(1).normal(size=fits[2].n_vars)
    rows = consensus_rows("pca", 3, [5, 6, 7], consensus_of(fits, []))
    assert list(rows.columns) == CONSENSUS_COLUMNS
    assert rows["factor"].tolist() == ["all", "f1", "f2", "f3", "x1"]
    one = rows.set_index("factor")
    assert one.loc["x1", "note"] == "beyond n_factors, so not in factors.h5ad"
    assert one["members"].to_dict() == {
        "all": "",
        "f1": "5:f1;6:f3;7:f1",
        "f2": "5:f2;6:f1",
        "f3": "5:f3;6:f2;7:f3",
        "x1": "7:f2",
    }
    assert one.loc["x1", "stable"] == "no"
    assert one["seeds_found"].to_dict() == {"all": pytest.approx(8 / 3), "f1": 3, "f2": 2, "f3": 3, "x1": 1}
    assert one.loc["all", "stability_lowest"] == one.loc[["f1", "f2", "f3"], "stability_lowest"].min()


def test_one_seed_says_that_nothing_can_be_known(tmp_path):
    rows = consensus_rows("pca", 3, [0], consensus_of(some_fits(1, "pca"), []))
    assert set(rows.loc[rows["factor"] != "all", "stable"]) == {"unknown"}
    assert (rows["note"] == "one seed only: stability over seeds cannot be known").all()
    assert rows["stability_mean"].isna().all()
    write_table(rows, tmp_path / "rows.tsv")
    back = read_table(tmp_path / "rows.tsv")
    assert back["stability_mean"].isna().all()
    assert back["stable"].tolist() == rows["stable"].tolist()


def test_halves_are_matched_on_test_cells_by_their_names():
    fits = some_fits(2, "pca")
    rng = np.random.default_rng(3)
    halves = []
    for fit in some_fits(2, "pca"):
        kept = (SPLIT == "test") | (rng.random(N_CELLS) < 0.5)
        halves.append(fit[rng.permutation(np.flatnonzero(kept))].copy())
    stability = consensus_of(fits, [(halves[0], halves[1])]).stability
    test = SPLIT == "test"
    for k, other in enumerate((2, 0, 1)):
        a, b = (make.obsm["X_pca"][test] for make in some_fits(2, "pca"))
        of_scores = np.corrcoef(a[:, k], b[:, other])[0, 1]
        # the loadings are the same, turned round
        assert stability.halves_of_cells[k] == pytest.approx((1 + abs(of_scores)) / 2, abs=1e-4)


def test_pca_stands_beside_the_factors_by_its_own_rows():
    rows = [
        ("pca", 3, "halves", "all", 0.9),
        ("pca", 3, "halves", "f1", 0.8),
        ("pca", 3, "halves", "f2", 0.6),
    ]
    rows += [("pca", 3, "seeds", "all", 1.0), ("vae", 3, "halves", "all", 0.1)]
    stability = pd.DataFrame(rows, columns=["model", "n_factors", "comparison", "factor", "agreement"])
    parts = [
        consensus_rows(model, 3, [0, 1], consensus_of(some_fits(2, "pca"), [])) for model in ("vae", "pca")
    ]
    table = consensus_table(parts, stability)
    assert table["model"].drop_duplicates().tolist() == ["pca", "vae"]
    assert set(table.loc[table["factor"] == "all", "pca_reference"]) == {0.9}
    assert table.loc[table["factor"] != "all", "pca_reference"].to_numpy() == pytest.approx(0.7)
    without = consensus_table(parts, stability[:0])
    assert without["pca_reference"].isna().all()
    # by the measure of the rows beside it where the consensus of PCA has it
    parts[1] = parts[1].assign(halves_of_cells=[0.5, 0.4, 0.2, 0.3])
    table = consensus_table(parts, stability)
    assert set(table.loc[table["factor"] == "all", "pca_reference"]) == {0.5}
    assert table.loc[table["factor"] != "all", "pca_reference"].to_numpy() == pytest.approx(0.3)


def test_a_fit_of_the_fixture_is_judged_on_test_cells_only():
    fits = some_fits(2, "pca")
    changed = fits[0].obsm["X_pca"].copy()
    changed[SPLIT != "test"] = 0
    before = consensus_of(fits, []).stability.mean
    fits[0].obsm["X_pca"] = changed
    assert consensus_of(fits, []).stability.mean == pytest.approx(before, abs=1e-6)
