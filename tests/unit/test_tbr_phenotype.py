"""A measured phenotype from an obs column: kinds, values, what is left out, cautions, bad columns."""

import numpy as np
import pandas as pd
import pytest

from latentree.errors import InputError
from latentree.obs_columns import obs_columns, require_obs_column
from latentree.tbr_config import PhenotypeConfig, TBRConfig
from latentree.tbr_phenotype import by_cell_type, cautions, donors_by_value, measured_phenotype


def obs(**columns) -> pd.DataFrame:
    """Eight cells of two types, columns given."""
    table = pd.DataFrame(columns, index=[f"c{i}" for i in range(8)])
    table["cell_type"] = ["B", "T"] * 4
    table["split"] = ["train", "train", "train", "train", "train", "validation", "test", "test"]
    return table


def read(table, column="y", **settings):
    return measured_phenotype(table, PhenotypeConfig(column=column, **settings))


@pytest.mark.parametrize(
    ("values", "labels", "expected"),
    [
        (["ctrl", "stim"] * 4, ("ctrl", "stim"), [0, 1] * 4),
        ([True, False] * 4, ("False", "True"), [1, 0] * 4),
        ([0, 1] * 4, ("0", "1"), [0, 1] * 4),
        ([2.0, 10.0] * 4, ("2.0", "10.0"), [0, 1] * 4),
        (pd.Categorical(["b", "a"] * 4, categories=["b", "a", "unused"]), ("a", "b"), [1, 0] * 4),
    ],
)
def test_two_values_are_binary_and_the_last_in_order_counts_as_1(values, labels, expected):
    found = read(obs(y=values))
    assert found.kind == "binary"
    assert [float(v) if v[0].isdigit() else v for v in found.values] == [
        float(v) if v[0].isdigit() else v for v in labels
    ]
    assert found.y.tolist() == expected
    assert "the last in order" in found.notes[0]


def test_positive_names_the_value_that_counts_as_1():
    found = read(obs(y=["ctrl", "stim"] * 4), positive="ctrl")
    assert found.y.tolist() == [1, 0] * 4
    assert found.description == "y (1: 'ctrl', 0: 'stim')"
    assert "the last in order" not in found.notes[0]


def test_more_than_two_numbers_are_continuous():
    found = read(obs(y=np.arange(8) / 2))
    assert (found.kind, found.values, found.description) == ("continuous", (), "y")
    assert found.y.tolist() == (np.arange(8) / 2).tolist()


def test_cells_without_a_value_or_a_donor_are_left_out_and_counted():
    values = [1.0, np.nan, 3.0, np.inf, 5.0, 6.0, 7.0, 8.0]
    donors = ["d1"] * 5 + [None] + ["d2"] * 2
    found = read(obs(y=values, donor=donors), donor="donor")
    assert found.rows.tolist() == [0, 2, 4, 6, 7]
    assert found.y.tolist() == [1, 3, 5, 7, 8]
    assert found.donors.tolist() == ["d1", "d1", "d1", "d2", "d2"]
    assert "2 of 8 cells have no value of y" in found.notes[0]
    assert "1 cells have no donor" in found.notes[1]


@pytest.mark.parametrize(
    ("columns", "settings", "words"),
    [
        ({"condition": ["a", "b"] * 4}, {"column": "conditon"}, "nearest: 'condition'"),
        ({"y": ["a", "b", "c", "d"] * 2}, {}, "4 values that are no numbers: 'a', 'b', 'c', 'd'"),
        ({"y": ["a"] * 8}, {}, "holds 'a' only (8 cells)"),
        ({"y": [None] * 8}, {}, "holds no value at all"),
        ({"y": [1.5] * 8}, {}, "(8 cells)"),
        ({"y": ["ctrl", "stim"] * 4}, {"positive": "stm"}, "nearest: 'stim'"),
        ({"y": np.arange(8.0)}, {"positive": "1"}, "8 different numbers"),
        ({"y": ["a", "b"] * 4}, {"donor": "donr"}, "tbr.phenotype.donor"),
    ],
)
def test_unusable_columns_are_refused(columns, settings, words):
    with pytest.raises(InputError) as error:
        read(obs(**columns), **settings)
    assert words in str(error.value)


def test_counts_by_cell_type():
    table = obs(y=["a", "b", "a", "a", "b", "b", "b", "a"], donor=["d1", "d2"] * 4)
    types = by_cell_type(read(table, donor="donor"), table).set_index("cell_type")
    # training cells: B has a, a, b and T has b, a
    assert types.loc["B", ["n_cells", "n_train", "n_donors", "n_smallest"]].tolist() == [4, 3, 1, 1]
    assert types.loc["B", "mean"] == pytest.approx(1 / 3)
    assert types.loc["T", "mean"] == pytest.approx(1 / 2)
    assert (types["note"] == "").all()


def test_a_type_whose_phenotype_never_varies_is_a_caution():
    table = obs(y=["a", "a", "b", "a", "a", "a", "b", "b"])
    found = read(table)
    types = by_cell_type(found, table)
    assert types.set_index("cell_type").loc["T", "note"].startswith("the phenotype is constant")
    said = cautions(found, types, table)
    assert "constant in 1 cell type(s) ('T')" in said[0]
    assert "too narrow" in said[1]


def test_a_phenotype_that_is_the_cell_type_is_a_caution():
    table = obs(y=["a", "b"] * 4)
    found = read(table)
    assert "never varies within a cell type" in cautions(found, by_cell_type(found, table), table)[0]


def test_few_donors_and_donors_on_both_sides_are_cautions():
    table = obs(y=["a", "a", "b", "b"] * 2, donor=["d1", "d2", "d3", "d4"] * 2)
    found = read(table, donor="donor")
    said = cautions(found, by_cell_type(found, table), table)
    assert "4 donors with training cells, 2 with one of the values: below 4" in said[0]
    assert "Test cells come from donors that were trained on" in said[1]


def test_only_donors_that_were_trained_on_count():
    donors = ["d1", "d2", "d3", "d1", "d2", "d4", "d5", "d6"]
    table = obs(y=np.arange(8.0), donor=donors)
    found = read(table, donor="donor")
    said = cautions(found, by_cell_type(found, table), table)
    assert len(said) == 1
    assert said[0].startswith("3 donors with training cells: below 4")


def test_one_donor_of_a_value_is_a_caution_because_it_cannot_be_drawn():
    table = obs(y=["a", "a", "b", "b"] * 2, donor=["d1", "d2", "d3", "d3"] * 2)
    found = read(table, donor="donor")
    said = cautions(found, by_cell_type(found, table), table)
    assert "3 donors with training cells, 1 with one of the values" in said[0]
    assert "intervals draw single cells" in said[1]


@pytest.mark.parametrize("more", [{"positive": "b"}, {"donor": "d"}, {"denoised": True}])
def test_keys_of_a_measured_phenotype_want_a_column(more):
    with pytest.raises(ValueError, match="is for a measured phenotype, but column names none"):
        PhenotypeConfig.model_validate(more)


def test_donors_are_drawn_within_values_only_where_each_has_one():
    y = np.array([0, 0, 1, 1.0])
    assert donors_by_value(y, np.array(["a", "b", "c", "d"]), "binary") == [["a", "b"], ["c", "d"]]
    assert donors_by_value(y, np.array(["a", "b", "a", "d"]), "binary") == [["a", "b", "d"]]
    assert donors_by_value(y, np.array(["a", "b", "c", "d"]), "continuous") == [["a", "b", "c", "d"]]


def test_a_column_makes_the_phenotype_measured_with_intercepts_for_types():
    settings = TBRConfig.model_validate({"phenotype": {"column": "condition"}})
    assert settings.phenotype.kind == "measured"
    assert settings.intercept == "environment"


def test_columns_of_a_file_are_known_without_its_data(tmp_path):
    ad = pytest.importorskip("anndata")
    ad.AnnData(np.zeros((8, 2)), obs=obs(score=range(8))).write_h5ad(tmp_path / "a.h5ad")
    assert obs_columns(tmp_path / "a.h5ad") == ["score", "cell_type", "split"]
    require_obs_column(tmp_path / "a.h5ad", "score", "k")
    require_obs_column(tmp_path / "a.h5ad", "library_size", "k")
    with pytest.raises(InputError, match=r"k: .* has no obs column 'cel_typ' \(nearest: 'cell_type'\)"):
        require_obs_column(tmp_path / "a.h5ad", "cel_typ", "k")
    (tmp_path / "b.h5ad").write_text("no hdf5")
    require_obs_column(tmp_path / "b.h5ad", "x", "k")
