"""A measured phenotype from cells to tables: contracts, references, inputs, what is left out, warnings."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from latentree.errors import InputError
from latentree.files import join_names
from latentree.simulate import balanced_tree
from latentree.tbr.measured import run_measured
from latentree.tbr.measured_inputs import measured_inputs, takes_denoised, with_own_values
from latentree.tbr.measured_scores import scores, type_means
from latentree.tbr.measured_tables import cell_types_below
from latentree.tbr.study import COLUMNS
from latentree.tbr_config import TBRConfig
from latentree.tree import Tree

N_GENES = 30
PROGRAM = ["G0", "G1", "G2"]


@pytest.fixture(scope="module")
def tree():
    return balanced_tree(2)


@pytest.fixture(scope="module")
def cells(tree):
    """Cells of four types; the genes of one program stand for a treatment, and for a score besides."""
    rng = np.random.default_rng(0)
    types = np.repeat(list(tree.leaves), 90)
    treated = rng.random(len(types)) < 0.5
    X = rng.normal(size=(len(types), N_GENES)) + 3
    X[:, :3] += 2.5 * treated[:, None]
    X += 2 * rng.normal(size=(4, N_GENES))[np.repeat(np.arange(4), 90)]
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(types),
            "condition": pd.Categorical(np.where(treated, "stim", "ctrl")),
            "score": X[:, :3].sum(axis=1) + 0.1 * rng.normal(size=len(types)),
            "donor": [f"d{i}" for i in rng.integers(0, 3, len(types)) + 3 * treated],
            "split": pd.Categorical(
                rng.choice(["train", "validation", "test"], len(types), p=[0.6, 0.2, 0.2])
            ),
        },
        index=[f"c{i}" for i in range(len(types))],
    )
    cells = ad.AnnData(
        X.astype(np.float32), obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(N_GENES)])
    )
    cells.var["modelled"] = np.arange(N_GENES) < 25
    return cells


def config(column="condition", n_bootstrap=6, n_latents=1, **more) -> TBRConfig:
    phenotype = {"column": column, "n_bootstrap": n_bootstrap} | more.pop("phenotype", {})
    steps = {"n_steps": 400, "n_finetune_steps": 100, "phi": "linear"}
    return TBRConfig.model_validate({"phenotype": phenotype, "n_latents": n_latents, **steps, **more})


@pytest.fixture(scope="module")
def found(cells, tree):
    return run_measured(cells, tree, config(phenotype={"donor": "donor"}), [0, 1], "two_stage")


def metrics(result, seed=0) -> dict[str, float]:
    mine = result.scores[result.scores["seed"] == seed]
    return dict(zip(mine["metric"], mine["value"], strict=True))


def test_a_binary_phenotype_is_predicted_beside_its_references(found):
    table = metrics(found)
    assert table["accuracy"] > 0.9
    assert table["auroc"] > 0.95
    assert table["log_loss"] < 0.5 * table["log_loss_types"]
    assert table["log_loss_baseline"] < 0.5 * table["log_loss_constant"]
    assert table["accuracy_constant"] < 0.65
    assert 0.95 < metrics(found, 1)["latents_agreement"] <= 1
    assert "latents_agreement" not in table


def test_a_continuous_phenotype_is_predicted_beside_its_references(cells, tree):
    result = run_measured(cells, tree, config("score", n_bootstrap=0), [0], "joint")
    table = metrics(result)
    assert table["r2"] > 0.9
    assert table["nmse"] == pytest.approx(1 - table["r2"])
    assert table["nmse_types"] > 3 * table["nmse"]
    assert table["nmse_constant"] == pytest.approx(1, abs=0.1)
    assert result.changes["lower"].isna().all()
    assert (result.changes["bootstrap_unit"] == "").all()


def test_the_tables_keep_their_contract(found, tree):
    assert list(found.scores.columns) == COLUMNS
    assert set(found.scores["phenotype"]) == {"condition (1: 'stim', 0: 'ctrl')"}
    assert set(found.scores["n_changes"]) == {""}
    assert list(found.changes.columns) == [
        *("estimator", "seed", "branch", "cell_types_below", "latent", "change", "lower", "upper"),
        *("share_nonzero", "bootstrap_unit", "n_units", "carried_by", "note"),
    ]
    assert len(found.changes) == 2 * len(tree.arcs)
    assert set(found.changes["bootstrap_unit"]) == {"donors"}
    assert set(found.changes["n_units"]) == {6}
    assert (found.changes["lower"] <= found.changes["upper"]).all()
    assert list(found.genes.columns) == [
        "estimator",
        "seed",
        "latent",
        "gene",
        "weight",
        "importance",
        "rank",
    ]
    assert set(found.weights["latent"]) == {"latent1", "intercept"}
    assert set(found.latents.obsm) == {"X_tbr_seed0", "X_tbr_seed1"}
    assert found.latents.obsm["X_tbr_seed0"].dtype == np.float32
    assert set(found.latents.obs["tbr_phenotype"]) == {0.0, 1.0}


def test_the_program_s_genes_lead_and_not_those_that_tell_types_apart(found):
    first = found.genes[(found.genes["seed"] == 0) & (found.genes["rank"] <= 3)]
    assert set(first["gene"]) == set(PROGRAM)
    # latents are turned to a positive mean weight, and the program's genes are high in stimulated cells
    assert (first["weight"] > 0).all()


def test_warnings_are_rows_beside_the_quantities(found):
    said = found.identifiability[found.identifiability["quantity"] == "warning"]["note"]
    assert said.str.contains("6 donors with training cells, 3 with one of the values").any()
    assert said.str.contains("another network would have found is not in them").any()
    assert (found.identifiability["quantity"] != "warning").any()


def test_the_same_seed_gives_the_same_tables(cells, tree, found):
    again = run_measured(cells, tree, config(phenotype={"donor": "donor"}), [0], "two_stage")
    for name in ("scores", "changes", "genes"):
        first = getattr(found, name)
        pd.testing.assert_frame_equal(first[first["seed"] == 0].reset_index(drop=True), getattr(again, name))


def test_the_baseline_has_no_intervals(cells, tree):
    result = run_measured(cells, tree, config(), [0], "baseline")
    assert (result.changes["change"] == 0).all()
    assert result.changes["lower"].isna().all()
    table = metrics(result)
    assert table["log_loss"] == table["log_loss_baseline"]


def test_cells_are_drawn_where_one_donor_has_all_of_a_value(cells, tree):
    lonely = cells.copy()
    lonely.obs["donor"] = np.where(lonely.obs["condition"] == "stim", "d3", lonely.obs["donor"])
    result = run_measured(lonely, tree, config(phenotype={"donor": "donor"}), [0], "two_stage")
    assert set(result.changes["bootstrap_unit"]) == {"cells"}
    said = result.identifiability["note"]
    assert said.str.contains("donors cannot be drawn: intervals draw single cells").any()
    # the fit finds no change here, so that no draw can have one
    assert said.str.contains("intervals of 0 to 0 do not say").any() == (result.changes["change"] == 0).all()


def test_cells_without_a_value_are_left_out_everywhere(cells, tree):
    gaps = cells.copy()
    gaps.obs.loc[gaps.obs_names[:40], "score"] = np.nan
    result = run_measured(gaps, tree, config("score", n_bootstrap=0), [0], "baseline")
    assert result.latents.n_obs == cells.n_obs - 40
    assert result.scores["note"].str.contains("40 of 360 cells have no value of score").all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda obs: obs.assign(split="train"), "0 test cells"),
        (
            lambda obs: obs.assign(condition=np.where(obs["split"] == "train", "a", "b")),
            "is constant over the",
        ),
        (lambda obs: obs.drop(columns="split"), "no obs column 'split'"),
        (lambda obs: obs.drop(columns="condition"), "no obs column 'condition'"),
    ],
)
def test_cells_that_cannot_be_fitted_are_refused(cells, tree, change, words):
    bad = ad.AnnData(cells.X, obs=change(cells.obs.copy()), var=cells.var)
    with pytest.raises(InputError, match=words):
        run_measured(bad, tree, config(), [0], "baseline")


# ---- inputs


def test_components_are_of_modelled_genes_and_training_cells(cells):
    train = np.flatnonzero(cells.obs["split"] == "train")
    inputs = measured_inputs(cells, config(), train)
    assert inputs.source == "25 principal components of 25 genes, the cells' own log values"
    assert inputs.names == tuple(f"G{i}" for i in range(25))
    centred = inputs.genes - inputs.genes[train].mean(axis=0)
    np.testing.assert_allclose(inputs.X, centred @ inputs.axes, atol=1e-3)
    assert abs(np.corrcoef(inputs.X[train, 0], inputs.X[train, 1])[0, 1]) < 1e-3


def test_listed_regulators_are_inputs_themselves_where_there_are_enough(cells, tmp_path):
    (tmp_path / "tf.txt").write_text("G1\nG7\nG29\nabsent\n")
    train = np.arange(100)
    settings = config(regulators=str(tmp_path / "tf.txt"))
    inputs = measured_inputs(cells, settings, train)
    assert inputs.names == ("G1", "G7", "G29")
    assert inputs.axes is None
    assert inputs.source == "3 regulators, denoised values"
    few = measured_inputs(cells, config(regulators=str(tmp_path / "tf.txt"), n_latents=2), train)
    assert few.axes is not None
    assert "3 usable regulators among the genes, 4 are needed" in few.note


def test_values_are_the_cells_own_unless_regulators_or_the_config_ask_for_denoised_ones(cells):
    assert not takes_denoised(config())
    assert takes_denoised(config(phenotype={"denoised": True}))
    assert takes_denoised(config(regulators="tf.txt"))
    assert not takes_denoised(config(regulators="tf.txt", phenotype={"denoised": False}))
    denoised = cells[::-2].copy()
    denoised.X[:] = 0
    own = with_own_values(denoised, cells)
    assert own.obs_names.equals(denoised.obs_names)
    assert list(own.var_names) == [f"G{i}" for i in range(25)]
    np.testing.assert_array_equal(own.X, cells[::-2, :25].X)
    with pytest.raises(InputError, match="180 of 180 cells are not in the atlas"):
        with_own_values(denoised, cells[:0])


# ---- scores and tables


def test_scores_against_values_by_hand():
    y = np.array([0.0, 0, 1, 1])
    table = scores(y, {"": np.array([0.1, 0.6, 0.7, 0.9]), "_c": np.full(4, 0.5)}, binary=True)
    assert table["log_loss"] == pytest.approx(-np.log([0.9, 0.4, 0.7, 0.9]).mean())
    assert table["accuracy"] == 0.75
    assert table["auroc"] == 1.0
    assert table["log_loss_c"] == pytest.approx(np.log(2))
    assert table["auroc_c"] == 0.5
    assert np.isnan(scores(y[:2], {"": y[:2]}, binary=True)["auroc"])
    assert scores(y, {"": y + 0.5}, binary=False) == {"nmse": 1.0, "r2": 0.0}


def test_what_the_type_alone_says():
    y, train = np.array([0.0, 1, 1, 5, 9, 7]), np.arange(4)
    types = np.array(["a", "a", "a", "b", "b", "new"])
    assert type_means(y, types, train, binary=False).tolist() == pytest.approx([2 / 3] * 3 + [5, 5, 7 / 4])
    assert type_means(y[:3], types[:3], train[:3], binary=True).tolist() == pytest.approx([0.6] * 3)


def test_cell_types_below_a_branch_with_any_names(found):
    tree = Tree.from_table([("r", None), ("n", "r"), ("a;b", "n"), ("c\\", "n"), ("d", "r")])

    class Fit:
        pass

    fit = Fit()
    fit.tree = tree
    below = cell_types_below(fit, ["a;b", "c\\", "n", "d"])
    assert below["n"] == ["n", "a;b", "c\\"]
    assert join_names(below["n"]) == "n;a\\;b;c\\\\"
