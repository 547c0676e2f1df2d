"""The downstream tables, on fits whose scores are known by construction."""

import numpy as np
import pandas as pd
import pytest
from scores_fixture import GENES, SPLIT, TYPES, make_factors, make_fit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from latentree.errors import InputError
from latentree.files import read_table, write_json, write_table
from latentree.scores import (
    GENES_COLUMNS,
    METRICS_COLUMNS,
    LoadedFit,
    genes_table,
    metrics_table,
    read_fit,
)


def value(table: pd.DataFrame, model: str, metric: str, split: str) -> float:
    rows = table[(table["model"] == model) & (table["metric"] == metric) & (table["split"] == split)]
    assert len(rows) == 1
    return rows["value"].item()


def test_a_fit_comes_back_from_its_folder(tmp_path):
    make_factors().write_h5ad(tmp_path / "factors.h5ad")
    write_json({"r2": {"test": 0.4}}, tmp_path / "fit.json")
    fit, expected = read_fit(tmp_path), make_fit()
    assert (fit.model, fit.seed, fit.genes, fit.summary) == (
        "sparse_vae",
        0,
        tuple(GENES),
        {"r2": {"test": 0.4}},
    )
    for name in ("cells", "cell_types", "split", "latents", "loadings", "inclusion", "alive"):
        assert np.array_equal(getattr(fit, name), getattr(expected, name))


def test_accuracy_is_that_of_test_cells_by_a_probe_of_training_cells():
    fit = make_fit()
    table = metrics_table("pbmc", [fit])
    train, test = SPLIT == "train", SPLIT == "test"
    # standardising factors of unit noise changes no prediction here; the dead factor is constant
    z = (fit.latents - fit.latents[train].mean(0)) / (fit.latents[train].std(0) + (~fit.alive))
    oracle = LogisticRegression(max_iter=2000).fit(z[train], TYPES[train])
    assert value(table, "sparse_vae", "accuracy", "test") == oracle.score(z[test], TYPES[test])
    balanced = balanced_accuracy_score(TYPES[test], oracle.predict(z[test]))
    assert value(table, "sparse_vae", "balanced_accuracy", "test") == pytest.approx(balanced)
    assert value(table, "sparse_vae", "ari", "test") > 0.8
    assert value(table, "sparse_vae", "nmi", "test") > 0.8


def test_loadings_and_recorded_scores_have_their_rows():
    table = metrics_table("pbmc", [make_fit()])
    assert list(table.columns) == METRICS_COLUMNS
    assert value(table, "sparse_vae", "r2", "train") == 0.5
    assert value(table, "sparse_vae", "r2_scaled", "test") == 0.3
    assert value(table, "sparse_vae", "zeros", "none") == pytest.approx((30 + 30 + 40) / 120)
    assert value(table, "sparse_vae", "active_genes", "none") == 10
    assert value(table, "sparse_vae", "alive_factors", "none") == 2
    assert 0.4 < value(table, "sparse_vae", "hoyer", "none") < 1
    assert set(table["atlas"]) == {"pbmc"}


def test_guessing_has_rows_of_its_own():
    table = metrics_table("pbmc", [make_fit(), make_fit(seed=1)])
    assert value(table, "majority", "balanced_accuracy", "test") == pytest.approx(1 / 3)
    assert value(table, "chance", "accuracy", "test") == pytest.approx(1 / 3, abs=0.01)
    assert set(table.loc[table["model"] == "chance", "seed"]) == {"none"}


def test_references_are_fitted_only_where_they_are_missing():
    asked = []

    def reference(model: str, n_factors: int, seed: int) -> LoadedFit:
        asked.append((model, n_factors, seed))
        if model == "nmf" and n_factors == 4:
            raise InputError("nmf", "negative values", "Use another model")
        return make_fit(model, seed, n_factors)

    fits = [make_fit(), make_fit("pca"), make_fit(seed=1), make_fit(n_factors=4), make_fit(seed="consensus")]
    table = metrics_table("pbmc", fits, reference)
    assert asked == [("nmf", 3, 0), ("pca", 3, 1), ("nmf", 3, 1), ("pca", 4, 0), ("nmf", 4, 0)]
    assert not table.duplicated(["model", "n_factors", "seed", "metric", "split"]).any()
    accuracies = table[table["metric"] == "accuracy"]
    assert accuracies.groupby("model").size().to_dict() == {
        "chance": 1,
        "majority": 1,
        "nmf": 2,
        "pca": 3,
        "sparse_vae": 4,
    }


def test_metrics_are_sorted_whatever_the_order_of_the_fits():
    fits = [make_fit(seed=10), make_fit(seed=2), make_fit("pca", 2), make_fit(seed="consensus")]
    table = metrics_table("pbmc", fits)
    assert table.equals(metrics_table("pbmc", fits[::-1]))
    seeds = table.loc[table["model"] == "sparse_vae", "seed"].drop_duplicates().tolist()
    assert seeds == [2, 10, "consensus"]


def test_without_test_cells_there_are_no_accuracies():
    factors = make_factors()
    factors.obs["split"] = "train"
    table = metrics_table("pbmc", [LoadedFit.from_anndata(factors, {})])
    assert set(table["metric"]) == {"zeros", "alive_factors", "hoyer", "active_genes"}


def test_types_that_only_one_split_has_are_scored():
    factors = make_factors()
    types = factors.obs["cell_type"].astype(str)
    types[SPLIT == "test"] = "only in test"
    factors.obs["cell_type"] = types
    table = metrics_table("pbmc", [LoadedFit.from_anndata(factors, {})])
    assert value(table, "sparse_vae", "accuracy", "test") == 0
    assert value(table, "chance", "balanced_accuracy", "test") == 0


def test_genes_of_sparse_and_dense_models():
    sparse, dense = make_fit(), make_fit("pca")
    table = genes_table([sparse, dense], n_top_genes=7)
    assert list(table.columns) == GENES_COLUMNS
    assert table.groupby(["model", "factor"]).size().to_dict() == {
        ("pca", "f1"): 7,
        ("pca", "f2"): 7,
        ("pca", "f3"): 7,
        ("sparse_vae", "f1"): 10,
        ("sparse_vae", "f2"): 10,
    }
    first = table[(table["model"] == "pca") & (table["factor"] == "f2")]
    largest = np.argsort(-np.abs(dense.loadings[:, 1]))[:7]
    assert first["gene"].tolist() == [GENES[i] for i in largest]
    assert first["loading"].tolist() == dense.loadings[largest, 1].tolist()
    assert table.loc[table["model"] == "pca", "inclusion"].isna().all()
    assert table.loc[table["model"] == "sparse_vae", "inclusion"].to_numpy() == pytest.approx(0.9)


def test_factors_are_sorted_by_number():
    table = genes_table([make_fit("pca", n_factors=11)], n_top_genes=1)
    assert table["factor"].tolist() == [f"f{i}" for i in range(1, 12)]


def test_tables_survive_being_written(tmp_path):
    fits = [make_fit(), make_fit("pca")]
    for table in (metrics_table("pbmc", fits), genes_table(fits[:1])):
        write_table(table, tmp_path / "table.tsv")
        back = read_table(tmp_path / "table.tsv")
        assert list(back.columns) == list(table.columns)
        assert len(back) == len(table)
        if "value" in table:
            assert back["value"].to_numpy() == pytest.approx(table["value"].to_numpy(), rel=1e-8)
