"""Latents, inputs and a simulated phenotype on cells: choice of genes, scores and their references."""

import gzip
import itertools

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from tbr_cells_fixture import LATENTS, make_cells

from latentree.atlas import prepare_atlas
from latentree.config import AtlasSettings
from latentree.environments import environment_cells
from latentree.errors import InputError
from latentree.settings import EnvironmentSettings, PreprocessSettings
from latentree.simulate import balanced_tree
from latentree.tbr.simulated import simulate_phenotype
from latentree.tbr.study import COLUMNS, run_study
from latentree.tbr_config import TBRConfig
from latentree.tbr_regulators import Regulators
from latentree.tbr_variables import choose_variables, environment_genes, genes_needed, subset
from latentree.tree import Tree

WHOLE_GZIP = gzip.compress(b"tf\ttarget\n")


@pytest.fixture
def tree():
    return balanced_tree(2)


@pytest.fixture
def cells(tree):
    return make_cells(tree)


@pytest.fixture
def table(tmp_path):
    """Regulators by target: G0..G9 regulate L1 and L2, G10..G19 L3 and L4; L1 regulates L2."""
    rows = [(f"G{i}", target, "x") for i in range(20) for target in (LATENTS[:2] if i < 10 else LATENTS[2:])]
    path = tmp_path / "pairs.tsv.gz"
    with gzip.open(path, "wt") as stream:
        stream.write("tf\ttarget\tsource\n")
        stream.writelines("\t".join(row) + "\n" for row in [*rows, ("L1", "L2", "x"), ("absent", "L1", "x")])
    return path


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "factors.txt"
    path.write_text("# factors\nG0\nG1 \n\n# more\n" + "\n".join(f"G{i}" for i in range(2, 12)) + "\nL1\n")
    return path


def config(**keys):
    quick = {"n_steps": 200, "n_finetune_steps": 50, "held_out": {"n_types": 0}}
    return TBRConfig(**{"latents": LATENTS, "n_latents": 2, **quick, **keys})


# ---- regulators and genes


def test_a_plain_list_regulates_everything_and_a_table_its_targets(plain, table):
    assert Regulators.read(plain).of(["anything"]) == {*(f"G{i}" for i in range(12)), "L1"}
    known = Regulators.read(table)
    assert known.of(["L3"]) == {f"G{i}" for i in range(10, 20)}
    assert known.of(["L2", "nobody"]) == {*(f"G{i}" for i in range(10)), "L1"}
    assert known.of([]) == set()


EVIDENCE = """tf,target,source,confidence
A,L1,chip;motif,A
B,L1,"chip, text",B
C,L2,text,A
D,L3,,E
"""


@pytest.fixture
def evidence(tmp_path):
    path = tmp_path / "evidence.csv"
    path.write_text(EVIDENCE)
    return path


@pytest.mark.parametrize(
    ("sources", "confidence", "expected"),
    [
        (None, None, "ABCD"),
        (["chip"], None, "AB"),
        (["text"], None, "BC"),
        (["motif", "text"], None, "ABC"),
        (None, ["A"], "AC"),
        (["text"], ["A", "E"], "C"),
    ],
)
def test_rows_are_chosen_by_source_and_confidence(evidence, sources, confidence, expected):
    known = Regulators.read(evidence, sources, confidence)
    assert set(known.targets) == set(expected)
    settings = config(regulators=str(evidence), regulator_sources=sources, regulator_confidence=confidence)
    assert Regulators.asked(settings) == known
    assert Regulators.asked(config()) is None


@pytest.mark.parametrize(
    ("sources", "confidence", "message"),
    [
        (
            ["chips"],
            None,
            r"tbr\.regulator_sources: 'chips' does not occur in .*nearest: 'chip'.*'motif', 'text'",
        ),
        (["chip;motif"], None, "does not occur"),
        (None, ["C"], r"tbr\.regulator_confidence: 'C' does not occur in .*Use some of 'A', 'B', 'E'"),
        (["motif"], ["B"], "regulator_sources and tbr.regulator_confidence: leave none of the 4 rows"),
    ],
)
def test_rows_that_there_are_not_are_refused(evidence, sources, confidence, message):
    with pytest.raises(InputError, match=message):
        Regulators.read(evidence, sources, confidence)


def test_rows_cannot_be_chosen_without_their_column(table, plain):
    with pytest.raises(InputError, match=r"has no column confidence, which tbr\.regulator_confidence needs"):
        Regulators.read(table, confidence=["A"])
    with pytest.raises(
        InputError, match=r"tbr\.regulator_sources: chooses rows of a table, but .*plain list"
    ):
        Regulators.read(plain, sources=["x"])
    with pytest.raises(
        ValueError, match="regulator_sources chooses rows of a table, but regulators names none"
    ):
        config(regulator_sources=["x"])


def test_chosen_rows_decide_which_genes_are_inputs_and_it_is_said(cells, tmp_path):
    rows = [f"G{i}\tL{j}\t{'chip' if i < 10 else 'text'}" for i in range(20) for j in range(1, 5)]
    path = tmp_path / "pairs.tsv"
    path.write_text("tf\ttarget\tsource\n" + "\n".join(rows) + "\n")
    v = choose_variables(cells, config(regulator_sources=["text"], regulators=str(path)), 0)
    assert v.inputs == tuple(f"G{i}" for i in range(10, 20))
    assert v.input_source == "10 regulators (source text)"


def test_real_tables_are_filtered(shared_data):
    nine = TBRConfig().latents
    chip = Regulators.read(shared_data / "housekeeping9_tf_regulators.tsv", ["ENCODE_chipseq", "TRRUST"])
    every = Regulators.read(shared_data / "housekeeping9_tf_regulators.tsv")
    assert 5 < len(chip.of(nine)) < 0.2 * len(every.of(nine))
    sure = Regulators.read(shared_data / "dorothea_hs_v1.tsv.gz", confidence=["A", "B", "C"])
    # as many transcription factors as the file has with these levels, counted by awk
    assert len(sure.targets) == 271


@pytest.mark.parametrize(("n", "size"), [(9, 3), (12, 1), (5, 5), (7, 6)])
def test_each_seed_has_a_subset_of_its_own_while_there_are_any(n, size):
    every = set(itertools.combinations(range(n), size))
    drawn = [tuple(subset(n, size, seed).tolist()) for seed in range(len(every))]
    assert set(drawn) == every
    assert np.array_equal(subset(n, size, len(every)), drawn[0])
    assert len(subset(3000, 40, 11)) == 40


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tf\ttarget\n", "has no row"),
        ("a\tb\n1\t2\n", "columns 'a', 'b', but not tf and target"),
        ("", "cannot be read as regulators"),
    ],
)
def test_strange_files_are_refused(tmp_path, text, message):
    path = tmp_path / "strange.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        Regulators.read(path)
    with pytest.raises(InputError, match="no_such"):
        Regulators.read(tmp_path / "no_such.tsv")


# block type 3 of deflate does not exist
@pytest.mark.parametrize(
    "content",
    [WHOLE_GZIP[:-9], WHOLE_GZIP[:10] + b"\x07" * 30, b"no gzip"],
    ids=["cut", "damaged", "no gzip"],
)
def test_a_broken_gzip_is_named(tmp_path, content):
    path = tmp_path / "tf.tsv.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as regulators") as error:
        Regulators.read(path)
    assert error.value.where == str(path)


def test_environments_hold_the_modelled_genes_and_those_of_tbr(table):
    atlas = ad.AnnData(
        var=pd.DataFrame({"modelled": [False, True, False, True, False]}, ["L4", "m", "x", "L1", "G3"])
    )
    assert environment_genes(atlas, None) == ["m", "L1"]
    assert environment_genes(atlas, LATENTS) == ["L4", "m", "L1"]
    assert environment_genes(atlas, LATENTS, Regulators.read(table)) == ["L4", "m", "L1", "G3"]
    assert atlas.var["modelled"].sum() == 2
    del atlas.var["modelled"]
    assert environment_genes(atlas, None) == list(atlas.var_names)


def test_genes_needed_are_listed_latents_and_their_regulators_in_the_atlas_s_order(table, plain):
    names = ["G15", "L4", "G3", "other", "L1"]
    pairs = Regulators.read(table)
    assert genes_needed(names, LATENTS, pairs) == ["G15", "L4", "G3", "L1"]
    assert genes_needed(names, ["L4"], pairs) == ["G15", "L4"]
    assert genes_needed(names, LATENTS) == ["L4", "L1"]
    # a measured phenotype lists no latents: any regulator may count
    assert genes_needed([*names, "G16"], [], pairs) == ["G15", "G3", "L1", "G16"]
    assert genes_needed(["G3", "G99"], LATENTS, Regulators.read(plain)) == ["G3"]


# ---- latents and inputs


def test_listed_genes_and_their_regulators_are_taken(cells, table):
    drawn = set()
    for seed in range(12):
        v = choose_variables(cells, config(), seed, table)
        assert set(v.latents) <= set(LATENTS)
        assert not set(v.latents) & set(v.inputs)
        assert set(v.inputs) <= Regulators.read(table).of(v.latents)
        assert np.array_equal(v.X, cells[:, list(v.inputs)].X)
        assert (v.latent_source, v.note) == ("listed genes", "")
        assert v.input_source == f"{len(v.inputs)} regulators"
        train = cells.obs["split"] == "train"
        assert v.Z[train].mean(axis=0) == pytest.approx(np.zeros(2), abs=1e-4)
        assert v.Z[train].std(axis=0) == pytest.approx(np.ones(2), abs=1e-4)
        drawn.add(v.latents)
    assert len(drawn) > 3
    assert (
        choose_variables(cells, config(), 3, table).latents
        == choose_variables(cells, config(), 3, table).latents
    )


def test_random_genes_and_components_stand_in_and_it_is_said(cells, tmp_path):
    v = choose_variables(cells, config(latents=["CD3E", "L1"]), 0)
    assert (v.latent_source, len(v.latents)) == ("random expressed genes", 2)
    assert "1 of 2 listed latent genes are usable, 2 are needed" in v.note
    assert v.input_source == f"{v.X.shape[1]} principal components of {cells.n_vars - 2} other genes"
    assert v.inputs[0] == "PC1"
    # components of the other genes alone, by scikit-learn
    from sklearn.decomposition import PCA

    others = [name for name in cells.var_names if name not in v.latents]
    train = (cells.obs["split"] == "train").to_numpy()
    expected = PCA(3, svd_solver="full").fit(cells[train, others].X).transform(cells[:, others].X)
    assert np.abs(np.diag(np.corrcoef(v.X[:, :3].T, expected.T)[:3, 3:])) == pytest.approx(
        np.ones(3), abs=1e-3
    )
    few = tmp_path / "few.txt"
    few.write_text("G0\nG1\nG2\nelsewhere\n")
    v = choose_variables(cells, config(), 0, few)
    assert v.latent_source == "listed genes"
    assert "principal components" in v.input_source
    assert v.note == "3 usable regulators of 2 latents among the genes"


def test_constant_genes_are_neither_latents_nor_inputs(cells, plain):
    cells.X[:, [0, 1, 4]] = 2.0  # L1, L2, G0
    v = choose_variables(cells, config(), 0, plain)
    assert v.latents == ("L3", "L4")
    assert "G0" not in v.inputs
    cells.X[:, 3:] = 1.0
    with pytest.raises(InputError, match=r"tbr\.n_latents: 2 latents, but only 1 genes vary"):
        choose_variables(cells, config(), 0, plain)


# ---- phenotype and scores


def test_the_phenotype_s_effects_change_along_the_tree(tree):
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(4000, 3))
    names = rng.choice(tree.leaves, 4000)
    p = simulate_phenotype(Z, names, tree, 1, 0.1, seed=5)
    assert p.signal == pytest.approx((p.weights * Z).sum(axis=1))
    assert (p.y - p.signal).std() == pytest.approx(0.1, rel=0.1)
    a, b = (p.weights[names == leaf][0] for leaf in tree.leaves[:2])
    assert 1 <= np.count_nonzero(a - b) <= 2
    same = simulate_phenotype(Z, names, tree, 0, 0.1, seed=5)
    assert np.ptp(same.weights, axis=0) == pytest.approx(np.zeros(3))


def study(cells, tree, estimator, regulators, **keys):
    settings = config(phenotype={"n_changes": [0, 1]}, **keys)
    return run_study(cells, tree, settings, [0, 1], estimator, regulators=regulators)


def test_scores_carry_their_references(cells, tree, plain):
    tree_fit = study(cells, tree, "two_stage", plain)
    base = study(cells, tree, "baseline", plain)
    assert list(tree_fit.scores.columns) == COLUMNS
    wide, base_wide = (
        s.scores.pivot_table(index=["n_changes", "seed"], columns="metric", values="value")
        for s in (tree_fit, base)
    )
    # the same phenotypes for every estimator, and the baseline's error in each one's rows
    assert wide["nmse_floor"].equals(base_wide["nmse_floor"])
    assert wide["nmse_baseline"].equals(base_wide["nmse"])
    assert (wide["mcc_chance"] < wide["mcc_chance_95"]).all()
    assert (wide["nmse"] >= wide["nmse_floor"] * 0.8).all()
    assert (wide.loc[1, "nmse"] < 0.5 * wide.loc[1, "nmse_baseline"]).all()
    assert (wide["span_r2"] <= wide["span_r2_ridge"] + 0.05).all()
    assert (wide.loc[0, "weights_rank"] == 1).all()
    notes = tree_fit.scores.groupby("n_changes")["note"].unique()
    assert notes[0].tolist() == ["no effect changes: the true weights have rank 1 and MCC means nothing"]
    assert notes[1].tolist() == [""]


def test_what_is_saved_is_complete(cells, tree, plain):
    result = study(cells, tree, "two_stage", plain)
    assert result.latents.obs_names.equals(cells.obs_names)
    assert result.latents.obsm["X_tbr_seed1_changes0"].shape == (cells.n_obs, 2)
    assert len(result.latents.obsm) == 4
    assert len(result.transfer) == 0
    one = result.weights.query("seed == 0 and n_changes == 1")
    assert set(one["environment"]) == set(tree.leaves)
    assert len(one) == 2 * len(tree.leaves)
    assert len(result.changes) == 4 * 2 * (tree.n_nodes - 1)
    assert set(result.changes["gene"]) <= set(LATENTS)
    assert (result.changes["change"] == 0).any()


def test_leaks_and_missing_splits_are_told(tree, plain):
    cells = make_cells(tree, n_cells=20, leaky=True)
    settings = config(phenotype={"n_changes": [1]})
    scores = run_study(cells, tree, settings, [0], "baseline", regulators=plain).scores
    assert scores["note"].unique().tolist() == ["leaky: the MAGIC graph saw held-out cells"]
    cells.obs["split"] = "train"
    with pytest.raises(InputError, match="0 test cells"):
        run_study(cells, tree, settings, [0], "baseline", regulators=plain)
    del cells.obs["split"]
    with pytest.raises(InputError, match="no obs column 'split'"):
        run_study(cells, tree, settings, [0], "baseline", regulators=plain)


def test_real_cells_two_stage_halves_the_baseline_s_error(shared_data):
    described = AtlasSettings(path=str(shared_data / "zheng2017_sorted_pbmc.h5ad"), cell_type="cell_type")
    atlas, _ = prepare_atlas(described, PreprocessSettings(n_genes=300), 5)
    settings = TBRConfig(
        regulators=str(shared_data / "housekeeping9_tf_regulators.tsv"), held_out={"n_types": 0}, phi="linear"
    )
    genes = environment_genes(atlas, settings.latents, Regulators.asked(settings))
    cells = environment_cells(atlas, EnvironmentSettings(max_cells_per_type=200), genes)
    tree = Tree.from_dendrogram(atlas, "cell_type")
    scores = run_study(cells, tree, settings, [1, 2], "two_stage").scores
    drawn = scores.groupby("seed")["latent_source"].unique()
    assert all(text.startswith("listed genes: ") for (text,) in drawn)
    assert drawn[1][0] != drawn[2][0]
    wide = scores.pivot_table(index="seed", columns="metric", values="value")
    assert (wide["nmse"] < 0.5 * wide["nmse_baseline"]).all()
    assert wide["nmse"].mean() < 4 * wide["nmse_ridge"].mean()
