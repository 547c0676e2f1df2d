"""Data and scores of the Sparse VAE paper's experiments, against loops and closed forms."""

from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from latentree.errors import InputError
from latentree.reproduction import cells, ratings, shift, synthetic
from latentree.reproduction.held_out import (
    drawn_reconstruction,
    fit_on_cpu,
    reconstruction,
    rows_of,
    split_in_half,
    wrong_entries,
)
from latentree.reproduction.records import Scale
from latentree.reproduction.zeisel import main as convert_zeisel
from latentree.synthetic import paper_data


def test_half_of_the_cells_are_held_out():
    data = paper_data(0.4, np.random.default_rng(0), 200)
    sides = split_in_half(data, 1).obs["split"].value_counts()
    assert (sides["test"], sides["validation"], sides["train"]) == (100, 10, 90)


def test_wrong_entries_are_counted_after_matching_and_empty_codes_are_right():
    data = paper_data(0.0, np.random.default_rng(0), 200)
    codes = np.column_stack([np.zeros(200), -data.factors[:, 1], data.factors[:, 0]])
    support = np.zeros((7, 3), dtype=bool)
    support[:, 1], support[:, 2] = data.mask[:, 1], data.mask[:, 0]
    rows = np.arange(200)
    assert wrong_entries(data, codes, support, rows) == 0
    support[0, 0] = True
    support[0, 2] = False
    assert wrong_entries(data, codes, support, rows) == 2


def test_the_quick_synthetic_experiment_measures_and_summarises(monkeypatch):
    few = {name: synthetic.CONTESTANTS[name] for name in ("sparse_vae_paper", "vae")}
    monkeypatch.setattr(synthetic, "CONTESTANTS", few)
    table = pd.DataFrame([vars(one) for one in synthetic.run("rho04", Scale(quick=True))])
    assert set(table["setting"]) == {"rho 0.4"}
    assert set(table.loc[table["metric"] == "W entries wrong", "model"]) == {"sparse_vae_paper"}
    assert np.isfinite(table["value"]).all()
    rows = synthetic.summarise(table)
    # one seed tells nothing of noise
    assert {row.agrees for row in rows} == {"not comparable"}


@pytest.mark.parametrize(
    ("far", "agrees", "why"),
    [([0.5, 0.52], "yes", ""), ([0.948, 0.949], "no", "hardly falls"), ([0.1, 0.94], "no", "no difference")],
)
def test_a_fall_of_dci_must_be_certain_and_there(far, agrees, why):
    table = pd.DataFrame(
        [
            ("synthetic", f"rho {rho}", "sparse_vae", "dci", seed, value)
            for rho, values in (("0.4", [0.95, 0.951]), ("0.8", far))
            for seed, value in enumerate(values)
        ],
        columns=["experiment", "setting", "model", "metric", "seed", "value"],
    )
    (row,) = [row for row in synthetic.summarise(table) if row.setting == "sparse_vae: rho 0.8 - 0.4"]
    assert row.agrees == agrees
    assert why in row.explanation


@pytest.mark.parametrize("model", ["vae", "sparse_vae"])
def test_drawn_reconstructions_scatter_about_those_of_the_means(model):
    data = paper_data(0.0, np.random.default_rng(0), 300)
    its = split_in_half(data, 0)
    done = fit_on_cpu(its, model, 2, 0, {"max_epochs": 20})
    x = np.asarray(its.X)
    first = drawn_reconstruction(done, x, 0)
    np.testing.assert_array_equal(drawn_reconstruction(done, x, 0), first)
    drawn = np.mean([drawn_reconstruction(done, x, seed) for seed in range(200)], axis=0)
    means = reconstruction(done, x)
    # the first feature is nearly a line in one factor: draws there average to the mean's
    scatter = (first - means)[:, 0].std()
    assert scatter > 0
    assert np.abs(drawn - means)[:, 0].mean() < 0.3 * scatter


@pytest.mark.parametrize("noise", shift.COPY_NOISE.values())
def test_copies_keep_every_factors_values_and_correlate_as_told(noise):
    rng = np.random.default_rng(0)
    usage = rng.standard_normal((20_000, 4))
    copied = shift.with_copies(usage, noise, rng)
    np.testing.assert_allclose(np.sort(copied, axis=0), np.sort(usage, axis=0))
    np.testing.assert_array_equal(copied[:, :2], usage[:, :2])
    for original, copy in ((0, 2), (1, 3)):
        found = np.corrcoef(copied[:, original], copied[:, copy])[0, 1]
        assert found == pytest.approx(1 / np.sqrt(1 + noise**2), abs=0.02)
    assert abs(np.corrcoef(copied[:, 2], copied[:, 3])[0, 1]) < 0.03


def test_training_cells_are_shifted_and_test_cells_are_not():
    rng = np.random.default_rng(0)
    usage, loadings = rng.gamma(1.0, 1.0, (1600, 4)), np.kron(np.eye(4), np.ones(5))
    simulated = shift.simulated(loadings, usage, 0.5, rng)
    x, unshifted = np.asarray(simulated.X), simulated.obs["unshifted"].to_numpy()

    def correlation(rows):
        # genes 0 and 10 belong to the first factor and to its copy
        return np.corrcoef(x[rows, 0], x[rows, 10])[0, 1]

    test = rows_of(simulated, "test")
    assert correlation(rows_of(simulated, "train")) > 0.4
    assert correlation(test[unshifted[test]]) > 0.4
    assert abs(correlation(test[~unshifted[test]])) < 0.15
    assert unshifted[rows_of(simulated, "validation")].all()


def test_losses_are_errors_in_training_sds():
    rng = np.random.default_rng(0)
    simulated = shift.simulated(np.kron(np.eye(2), np.ones(5)), rng.gamma(1.0, 1.0, (400, 2)), 1.0, rng)
    x = np.asarray(simulated.X)
    found = shift.losses(simulated, np.zeros_like(x))
    sd = x[rows_of(simulated, "train")].std(0)
    test = rows_of(simulated, "test")
    wanted = [i for i in test if not simulated.obs["unshifted"].iloc[i]]
    assert found[shift.SHIFTED] == pytest.approx(np.mean([(x[i] / sd) ** 2 for i in wanted]), rel=1e-5)
    assert shift.losses(simulated, simulated.layers["expected"])[shift.SHIFTED] < found[shift.SHIFTED]


def test_expected_logs_against_many_draws():
    rng = np.random.default_rng(0)
    means = np.array([[0.0, 0.3, 2.5, 40.0]])
    drawn = np.log1p(rng.poisson(means, (200_000, 4))).mean(0)
    np.testing.assert_allclose(shift.expected_logs(means)[0], drawn, atol=0.01)


def test_enriched_processes_are_found_and_permuted_genes_have_none():
    genes = [f"G{i}" for i in range(100)]
    sets = {f"set{k}": tuple(genes[10 * k : 10 * k + 10]) for k in range(10)}
    loadings = np.zeros((100, 2), dtype=np.float32)
    loadings[:10, 0], loadings[20:30, 1] = 1, -1
    factors = ad.AnnData(var=pd.DataFrame(index=genes), obs=pd.DataFrame(index=["c"]))
    factors.varm["m_loadings"] = loadings
    factors.varm["m_inclusion"] = np.abs(loadings)
    factors.obsm["X_m"] = np.zeros((1, 2), dtype=np.float32)
    table = pd.DataFrame({"alive": [True, True]}, index=["f1", "f2"])
    factors.uns["latentree"] = {"model": "m", "seed": 0, "factors": table}
    factors.obs["cell_type"] = "a"
    factors.obs["split"] = "test"
    found = cells.enriched(SimpleNamespace(factors=factors, summary={"r2": {}, "seed": 0}), sets, 0)
    assert found[cells.ENRICHED] == 2
    assert found[cells.CONTROL] < 1


@pytest.fixture
def u_data(tmp_path):
    """A file in the format of MovieLens-100k: two tastes, 60 users, 40 films."""
    rng = np.random.default_rng(0)
    lines = []
    for user in range(60):
        for film in rng.permutation(40)[:35]:
            liked = (film < 20) == (user % 2 == 0)
            rating = rng.choice([4, 5] if liked else [1, 2, 3, 4])
            lines.append(f"{user + 1}\t{film + 1}\t{rating}\t88125{film:04d}\n")
    # too few ratings to count
    lines.append("61\t1\t5\t881250000\n")
    path = tmp_path / "u.data"
    path.write_text("".join(lines))
    return path


def test_liked_films_are_read_from_the_file_of_movielens(u_data):
    liked = ratings.read_liked(u_data, n_films=30)
    table = pd.read_csv(u_data, sep="\t", header=None)
    counts = table[table[2] >= 4].groupby(0).size()
    assert liked.shape == (int((counts >= 20).sum()), 30)
    assert liked.sum(1).min() >= 2


def test_another_file_is_told_from_movielens(tmp_path):
    (tmp_path / "u.data").write_text("user,film\nann,Alien\n")
    with pytest.raises(InputError, match="not MovieLens"):
        ratings.read_liked(tmp_path / "u.data")
    (tmp_path / "u.data").write_text("1\t1\t5\t881250000\n")
    with pytest.raises(InputError, match="no user with 20 ratings"):
        ratings.read_liked(tmp_path / "u.data")


def test_every_user_is_held_out_once_and_only_liked_films_are_hidden(u_data):
    liked = ratings.read_liked(u_data)
    made = list(ratings.folds(liked, np.random.default_rng(0)))
    held_out = np.sum([fold.sides == "test" for fold in made], axis=0)
    np.testing.assert_array_equal(held_out, np.ones(len(liked)))
    for fold in made:
        assert not fold.hidden[~liked].any()
        assert not fold.hidden[fold.sides != "test"].any()
        left = (liked & ~fold.hidden)[fold.sides == "test"].sum(1)
        assert (left >= 1).all()
        assert (fold.hidden[fold.sides == "test"].sum(1) >= 1).all()


def test_log_loss_against_a_loop():
    rng = np.random.default_rng(0)
    means, liked = rng.random((5, 7)), rng.random((5, 7)) < 0.4
    by_hand = 0.0
    for user in range(5):
        shares = means[user] / means[user].sum()
        by_hand -= sum(np.log(shares[film]) for film in range(7) if liked[user, film])
    assert ratings.log_loss(means, liked) == pytest.approx(by_hand / 5)


def test_the_quick_ratings_experiment_measures_and_summarises(u_data, monkeypatch):
    few = {name: ratings.MODELS[name] for name in ("sparse_vae", "vae")}
    monkeypatch.setattr(ratings, "MODELS", few)
    table = pd.DataFrame([vars(one) for one in ratings.run("folds", Scale(quick=True, movielens=u_data))])
    assert np.isfinite(table["value"]).all()
    assert table.loc[table["metric"].str.startswith("Recall"), "value"].between(0, 1).all()
    published = {row.published for row in ratings.summarise(table)}
    assert {"170.9 (2.1)", "0.96 (0.001)", "below 0 (170.9 (2.1) - 175.9 (2.4))"} <= published


def test_the_public_text_file_of_zeisel_becomes_an_h5ad(tmp_path):
    lines = [
        "\ttissue\tsscortex\tca1hippocampus",
        "\tgroup #\t1\t2",
        "\ttotal mRNA mol\t21580\t18000",
        "\tcell_id\t1772071015_C02\t1772071017_G12",
        "\tlevel1class\tinterneurons\tpyramidal CA1",
        "\tlevel2class\tInt10\t(none)",
        "",
        "Tspan12\t1\t0\t3",
        'Odd"name\t1\t7\t0',
        "Fnbp1l\t1\t2\t1",
    ]
    (tmp_path / "in.txt").write_text("\n".join(lines) + "\n")
    convert_zeisel([str(tmp_path / "in.txt"), str(tmp_path / "out.h5ad")])
    made = ad.read_h5ad(tmp_path / "out.h5ad")
    assert list(made.obs_names) == ["1772071015_C02", "1772071017_G12"]
    assert list(made.var_names) == ["Tspan12", 'Odd"name', "Fnbp1l"]
    assert list(made.obs["cell_type"]) == ["interneurons", "pyramidal CA1"]
    np.testing.assert_array_equal(made.X.toarray(), [[0, 7, 2], [3, 0, 1]])
    (tmp_path / "in.txt").write_text("gene\tx\n")
    with pytest.raises(InputError, match="Zeisel"):
        convert_zeisel([str(tmp_path / "in.txt"), str(tmp_path / "out.h5ad")])
