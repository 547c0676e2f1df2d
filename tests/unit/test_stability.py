"""Agreement of factors between seeds, resamples and halves, beside PCA and varimax on the same cells."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from scores_fixture import N_CELLS, N_FACTORS, SPLIT, make_factors, make_fit

from latentree.files import read_table, write_table
from latentree.models.scaling import InputScaling, TrainingData
from latentree.models.starts import varimax, varimax_start
from latentree.scores import LoadedFit
from latentree.stability import (
    STABILITY_COLUMNS,
    CellScores,
    Refits,
    gathered_refits,
    reference_refits,
    stability_table,
)

TEST = SPLIT == "test"


def test_stability_of_the_same_factors_in_another_order():
    first = make_factors(seed=3)
    other = make_factors(seed=3)
    other.uns["latentree"]["seed"] = 4
    other.obsm["X_sparse_vae"] = -2 * other.obsm["X_sparse_vae"][:, [1, 2, 0]]
    other.uns["latentree"]["factors"] = pd.DataFrame({"alive": [True, False, True]})
    fits = [LoadedFit.from_anndata(factors, {}) for factors in (other, first)]
    table = stability_table(fits)
    assert list(table.columns) == STABILITY_COLUMNS
    assert table["factor"].tolist() == ["all", "f1", "f2"]
    assert table["agreement"].to_numpy() == pytest.approx(1, abs=1e-6)
    assert set(table["comparison"]) == {"seeds"}
    assert set(table["reference_seed"]) == {3}


def test_stability_is_the_mean_over_pairs_of_seeds_on_test_cells():
    fits = [make_fit("pca", seed) for seed in (0, 1, 2)]
    table = stability_table(fits).set_index("factor")

    def correlations(i: int, j: int) -> np.ndarray:
        together = np.corrcoef(fits[i].latents[TEST].T, fits[j].latents[TEST].T)
        return np.abs(together[:N_FACTORS, N_FACTORS:])

    # factors 1 and 2 are matched with themselves, so that factor 3 is, too
    pairs = {(i, j): correlations(i, j).diagonal() for i, j in ((0, 1), (0, 2), (1, 2))}
    assert table.loc["all", "agreement"] == pytest.approx(
        np.mean([r.mean() for r in pairs.values()]), rel=1e-5
    )
    assert table.loc["f1", "agreement"] == pytest.approx((pairs[0, 1][0] + pairs[0, 2][0]) / 2, rel=1e-5)
    assert table["n_pairs"].to_dict() == {"all": 3, "f1": 2, "f2": 2, "f3": 2}


def test_stability_of_one_seed_is_a_header_and_said(caplog):
    table = stability_table([make_fit(), make_fit("pca"), make_fit(seed="consensus")])
    assert list(table.columns) == STABILITY_COLUMNS
    assert len(table) == 0
    assert "pca with 3 factors was fitted with one seed only" in caplog.text


def without(fit: LoadedFit, left_out: np.ndarray) -> LoadedFit:
    """A fit as if some cells had not been given to it."""
    kept = ~left_out
    return replace(
        fit,
        cells=fit.cells[kept],
        cell_types=fit.cell_types[kept],
        split=fit.split[kept],
        latents=fit.latents[kept],
    )


def some_refits(model: str = "pca") -> list[tuple[str, LoadedFit]]:
    """Refits whose training cells differ and whose factors stand in another order."""
    rng = np.random.default_rng(1)
    found = []
    for i, part in enumerate(("r0", "r1", "r2", "half0", "half1")):
        fit = make_fit(model, seed=100 + i)
        shuffled = replace(
            fit,
            latents=fit.latents[:, [2, 0, 1]],
            alive=fit.alive[[2, 0, 1]],
            summary={"refit": {"how": f"drawn as {part[0]}"}},
        )
        found.append((part, without(shuffled, ~TEST & (rng.random(N_CELLS) < 0.3))))
    return found


def matched(a: np.ndarray, b: np.ndarray) -> tuple[int, ...]:
    """The one-to-one matching with the largest sum, by trying all."""
    strength = np.abs(np.corrcoef(a.T, b.T)[: a.shape[1], a.shape[1] :])
    return max(permutations(range(a.shape[1])), key=lambda p: sum(strength[i, j] for i, j in enumerate(p)))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return abs(np.corrcoef(a, b)[0, 1])


def test_refits_agree_as_plain_loops_say():
    fits, refits = [make_fit("pca", 0), make_fit("pca", 1)], some_refits()
    table = stability_table(fits, gathered_refits(fits, refits, 0), 0)
    scores = {part: fit.latents[fit.split == "test"] for part, fit in refits}
    full = fits[0].latents[TEST]
    pairs = {"resamples": [("r0", "r1"), ("r0", "r2"), ("r1", "r2")], "halves": [("half0", "half1")]}
    for comparison, of in pairs.items():
        mine = table[table["comparison"] == comparison].set_index("factor")
        overall = [
            np.mean(
                [
                    correlation(scores[a][:, i], scores[b][:, j])
                    for i, j in enumerate(matched(scores[a], scores[b]))
                ]
            )
            for a, b in of
        ]
        assert mine.loc["all", "agreement"] == pytest.approx(np.mean(overall), rel=1e-5)
        for factor in range(N_FACTORS):
            values = []
            for a, b in of:
                i, j = matched(full, scores[a])[factor], matched(full, scores[b])[factor]
                values.append(correlation(scores[a][:, i], scores[b][:, j]))
            assert mine.loc[f"f{factor + 1}", "agreement"] == pytest.approx(np.mean(values), rel=1e-5)
        assert set(mine["n_pairs"]) == {len(of)}
        assert set(mine["note"]) == {f"{comparison}: drawn as {of[0][0][0]}"}
    assert table["comparison"].drop_duplicates().tolist() == ["halves", "resamples", "seeds"]
    assert set(table["reference_seed"]) == {0}


def test_a_factor_that_a_half_lacks_agrees_with_nothing():
    full = make_fit("pca", 0)
    both = CellScores.of(full)
    lacks = replace(both, alive=np.array([True, False, True]))
    table = stability_table([full], [Refits("pca", 3, both, {"half0": both, "half1": lacks}, 0)])
    assert table.set_index("factor")["agreement"].round(6).to_dict() == {
        "all": pytest.approx(2 / 3, abs=1e-6),
        "f1": 1,
        "f2": 0,
        "f3": 1,
    }


def test_dead_factors_have_no_rows():
    fits, refits = [make_fit()], some_refits("sparse_vae")
    table = stability_table(fits, gathered_refits(fits, refits, 0), 0)
    assert set(table["factor"]) == {"all", "f1", "f2"}


def test_the_first_seed_names_the_factors():
    fits = [make_fit("pca", seed) for seed in (0, 1, 2)]
    table = stability_table(fits, gathered_refits(fits, some_refits(), 2), 2)
    assert set(table["reference_seed"]) == {2}
    seeds = table[table["comparison"] == "seeds"].set_index("factor")["agreement"]
    others = [correlation(fits[2].latents[TEST, 0], fits[i].latents[TEST, 0]) for i in (0, 1)]
    assert seeds["f1"] == pytest.approx(np.mean(others), rel=1e-5)


def test_cells_are_found_by_name_where_no_cell_is_a_test_cell():
    full = replace(make_fit("pca", 0), split=np.full(N_CELLS, "train"))
    parts = [without(full, np.arange(N_CELLS) % 3 == i) for i in (0, 1)]
    group = gathered_refits([full], [("r0", parts[0]), ("r1", parts[1])], 0)
    assert stability_table([full], group, 0)["agreement"].to_numpy() == pytest.approx(1)


def expression() -> np.ndarray:
    """log1p values (n_cells, 30) with three programs, one gene constant."""
    rng = np.random.default_rng(5)
    rates = rng.gamma(1, 1, (N_CELLS, 3)) @ rng.gamma(0.3, 1, (3, 30))
    x = np.log1p(rng.poisson(rates)).astype(np.float32)
    x[:, 7] = 1
    return x


@pytest.mark.parametrize("resolved", [{}, {"input": "sqrt", "gene_scaling": 0.5}])
@pytest.mark.parametrize("layout", [np.asarray, csr_matrix])
def test_references_are_fitted_to_the_same_cells_and_input(resolved, layout):
    summary = {"settings": {"input": "log", "gene_scaling": 0.0}, "resolved": resolved}
    fits = [replace(make_fit(model, 0), summary=summary) for model in ("nmf", "sparse_vae")]
    refits = some_refits("nmf")
    x = expression()
    found = {
        (group.model, group.n_factors): group
        for group in reference_refits(layout(x), fits[0].cells, fits, refits)
    }
    assert set(found) == {("pca", 3), ("varimax", 3), ("varimax_start", 3)}
    how = resolved or summary["settings"]
    for part, fit in [*refits, ("full", fits[0])]:
        train = fits[0].cells.get_indexer(fit.cells[fit.split == "train"])
        scaling = InputScaling.fit(TrainingData(x, train, train[:0]), how["input"], how["gene_scaling"])
        scaled = scaling.apply(x).astype(np.float64)
        left, lengths, right = np.linalg.svd(scaled[train], full_matrices=False)
        # standardised components times the rotation of their loadings, which are covariances with them
        components = scaled @ right[:3].T / lengths[:3] * np.sqrt(len(train))
        loadings = scaled[train].T @ left[:, :3] / np.sqrt(len(train))
        rotated = components @ varimax(loadings, 1.0)
        start = scaled @ varimax_start(np.cov(scaled[train].T, bias=True), 3).scores
        for model, expected in (("pca", components), ("varimax", rotated), ("varimax_start", start)):
            group = found[model, 3]
            scores = group.full if part == "full" else group.parts[part]
            assert list(scores.cells) == list(fits[0].cells[TEST])
            for factor in range(3):
                # a factor's direction means nothing
                assert correlation(scores.latents[:, factor], expected[TEST, factor]) == pytest.approx(
                    1, abs=1e-5
                )
    table = stability_table(fits, list(found.values()), 0)
    assert set(table["reference_seed"]) == {"none"}
    assert "input " + how["input"] in table["note"].iloc[0]


def test_a_pca_of_the_config_has_no_second_row():
    summary = {"settings": {"input": "log", "gene_scaling": 0.0}}
    fits = [replace(make_fit("pca", 0), summary=summary), replace(make_fit("pca", 0, 4), summary=summary)]
    fits.append(replace(make_fit("nmf", 0, 5), summary=summary))
    found = reference_refits(expression(), fits[0].cells, fits, some_refits())
    rotations = {(model, k) for model in ("varimax", "varimax_start") for k in (3, 4, 5)}
    assert {(group.model, group.n_factors) for group in found} == {("pca", 5), *rotations}
    assert reference_refits(expression(), fits[0].cells, fits, []) == []


def test_the_table_survives_being_written(tmp_path):
    fits = [make_fit("pca", 0), make_fit("pca", 1)]
    group = gathered_refits(fits, some_refits(), 0)
    table = stability_table(fits, [*group, replace(group[0], model="varimax", reference_seed="none")], 0)
    assert not table.duplicated(["model", "n_factors", "comparison", "factor"]).any()
    write_table(table, tmp_path / "table.tsv")
    back = read_table(tmp_path / "table.tsv")
    pd.testing.assert_frame_equal(back, table.astype({"reference_seed": str}), rtol=1e-8)
