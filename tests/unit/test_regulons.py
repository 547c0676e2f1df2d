"""Tables of factors and targets as gene sets."""

import gzip

import pytest

from latentree.errors import InputError
from latentree.gene_sets import holds_regulons, match_files, read_sets

TABLE = """# from a database
tf,confidence,target,mor
SPI1,A,LYZ,1
SPI1,"A;B",CD14,1.0
SPI1,C,CD3D,-1
STAT1,B,ISG15,1
STAT1,B,ISG15,1
STAT1,D,,1

GATA1,D,HBB,
"""


@pytest.fixture(params=["csv", "tsv", "csv.gz"])
def path(request, tmp_path):
    text = TABLE if "csv" in request.param else TABLE.replace('"', "").replace(",", "\t")
    path = tmp_path / f"regulons.{request.param}"
    path.write_bytes(gzip.compress(text.encode()) if "gz" in request.param else text.encode())
    return path


def test_a_set_for_every_factor_and_for_what_it_represses(path):
    found = read_sets(path)
    assert holds_regulons(path)
    assert found.sets == {
        "SPI1": ("LYZ", "CD14"),
        "SPI1 [repressed]": ("CD3D",),
        "STAT1": ("ISG15",),
        "GATA1": ("HBB",),
    }
    assert "regulons of 3 factors, from 6 of 7 pairs" in found.notes[0]
    assert "regulon_confidence is not set" in found.notes[0]


def test_confidence_chooses_pairs(path):
    found = read_sets(path, ["B", "C"])
    assert found.sets == {"SPI1": ("CD14",), "SPI1 [repressed]": ("CD3D",), "STAT1": ("ISG15",)}
    with pytest.raises(InputError, match=r"regulon_confidence: 'a' does not occur in .*'A', 'B', 'C', 'D'"):
        read_sets(path, ["a"])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tf\ttarget\n", "has no pair"),
        ("tf\ttarget\nSPI1\t \n", "has no pair"),
        ("tf\ttarget\tmor\nSPI1\tLYZ\tup\n", "mor is 'up'"),
        ("tf\ttarget\nSPI1\tLYZ\nSPI1\tLYZ\t1\t2\n", "cannot be read as a table"),
        ("tf\ttarget\nSPI1\tLYZ\n", "has no column confidence"),
    ],
)
def test_a_broken_table_is_named(tmp_path, text, problem):
    path = tmp_path / "broken.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=problem) as error:
        read_sets(path, ["A"] if "confidence" in problem else None)
    assert error.value.where == str(path)


def test_a_gmt_file_is_none_whatever_its_name_and_confidence(tmp_path):
    path = tmp_path / "sets.tsv"
    path.write_text("tf\tabout\tCD3D\ntarget\tabout\tLYZ\n")
    assert not holds_regulons(path)
    assert read_sets(path, ["A"]).sets == {"tf": ("CD3D",), "target": ("LYZ",)}


def test_regulons_are_matched_like_other_sets(path):
    found = match_files([path], ["Lyz", "Cd3d", "Hbb"], "mouse", ["A", "C"])
    assert found.sets == {"SPI1": ("Lyz",), "SPI1 [repressed]": ("Cd3d",)}
    assert "mapped by upper case" in found.notes[1]


def test_dorothea_is_read(shared_data):
    found = read_sets(shared_data / "dorothea_hs_v1.tsv.gz", ["A"])
    assert found.organism == "human"
    assert len(found.sets) > 50
    assert "STAT1" in found.sets
