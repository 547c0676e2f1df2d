"""Files are written whole or not at all."""

import csv
import hashlib
import stat

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentree.files import atomic_path, read_table, sha256_of, write_json, write_table, write_text


def test_an_error_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "table.tsv"
    write_text("old", path)

    def fail_half_way():
        with atomic_path(path) as temporary:
            temporary.write_text("half of the n")
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        fail_half_way()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_can_be_read_by_others(tmp_path):
    write_json({"a": 1}, tmp_path / "deep" / "a.json")
    assert stat.S_IMODE((tmp_path / "deep" / "a.json").stat().st_mode) & stat.S_IRUSR


def test_the_suffix_stays_so_that_writers_know_the_format(tmp_path):
    with atomic_path(tmp_path / "figure.svg") as temporary:
        assert temporary.suffix == ".svg"
        temporary.write_text("<svg/>")


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_tables_give_float32_back_exactly(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("t") / "t.tsv"
    write_table(pd.DataFrame({"value": np.array(values, dtype=np.float32)}), path)
    assert np.array_equal(read_table(path)["value"].to_numpy(np.float32), np.array(values, dtype=np.float32))


@pytest.mark.parametrize(
    "name",
    [
        "NA",
        "None",
        "nan",
        "007",
        "1e3",
        "CD4+/CD25 T Reg",
        "a;b",
        "<script>",
        'quo"te',
        "tab\there",
        "",
        "B\r",
    ],
)
def test_names_stay_verbatim(tmp_path, name):
    write_table(pd.DataFrame({"gene": [name, "8"], "value": [1.0, 2.0]}), tmp_path / "t.tsv")
    assert list(read_table(tmp_path / "t.tsv")["gene"]) == [name, "8"]


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")) | st.text(
    "\r\n\t\"'\\ ;#N1"
)


@given(st.lists(NAMES, min_size=1))
def test_any_name_stays_verbatim_here_and_for_other_readers(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("t") / "t.tsv"
    table = pd.DataFrame({"cell_type": names, "n": range(len(names)), "value": 0.5, "leaf": True})
    write_table(table, path)
    pd.testing.assert_frame_equal(read_table(path), table)
    with open(path, encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream, delimiter="\t"))
    assert [row[0] for row in rows[1:]] == names


# columns of text of each table that is written (docs/outputs.md)
TEXTS = {
    "metrics": ["atlas", "model", "seed", "metric", "split"],
    "genes": ["model", "seed", "factor", "gene"],
    "enrichment": ["model", "seed", "factor", "method", "gene_set", "genes"],
    "stability": ["model", "comparison", "factor"],
    "tbr": ["estimator", "phenotype", "seed", "metric", "latent_source", "input_source", "note"],
    "tbr_transfer": ["estimator", "seed", "held_out", "nearest", "method", "note"],
    "weights": ["environment", "latent", "gene"],
    "changes": ["branch", "latent", "gene"],
    "tree": ["node", "parent"],
}


@pytest.mark.parametrize("texts", TEXTS.values(), ids=TEXTS)
def test_every_column_of_text_stays_text(tmp_path, texts):
    table = pd.DataFrame({column: ["007", "NA", ""] for column in texts} | {"value": [1.0, 2.0, np.nan]})
    write_table(table, tmp_path / "t.tsv")
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.tsv"), table)


@pytest.mark.parametrize("column", ["value", "weight", "change", "branch_length", "inclusion", "agreement"])
def test_numbers_that_are_not_known_are_nan(tmp_path, column):
    table = pd.DataFrame({"gene": ["a", "b"], column: [np.nan, 2.5]})
    write_table(table, tmp_path / "t.tsv")
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.tsv"), table)


def test_an_empty_table_keeps_its_header(tmp_path):
    write_table(pd.DataFrame(columns=["a", "b"]), tmp_path / "t.tsv")
    assert (tmp_path / "t.tsv").read_text() == "a\tb\n"


def test_sha256_is_that_of_hashlib(tmp_path):
    (tmp_path / "x").write_bytes(b"x" * 100_000)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(b"x" * 100_000).hexdigest()
