"""GMT files read, and matched to the genes of an atlas."""

import gzip
from pathlib import Path

import pytest

from latentree.errors import InputError
from latentree.gene_sets import GeneSets, match, match_files, read_gmt

PROGRAMS = Path(__file__).resolve().parents[2] / "resources" / "gene_sets" / "immune_programs.gmt"
FACTORS = PROGRAMS.parents[1] / "immune_transcription_factors.txt"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_names_are_verbatim_and_genes_distinct(tmp_path):
    path = write(tmp_path / "a.gmt", "<i>a;b</i> 'x'\t\tCD3D\tCD3E\tCD3D\n\n π (GO:1) \tdesc\tMS4A1,1.0\t\n")
    found = read_gmt(path)
    assert found.sets == {"<i>a;b</i> 'x'": ("CD3D", "CD3E"), " π (GO:1) ": ("MS4A1",)}
    assert found.notes == ()


def test_gzip_carriage_returns_and_byte_order_mark(tmp_path):
    path = tmp_path / "a.gmt.gz"
    path.write_bytes(gzip.compress("\ufeffone\td\tCD3D\tCD3E\r\ntwo\td\tLYZ\r\n".encode()))
    assert read_gmt(path).sets == {"one": ("CD3D", "CD3E"), "two": ("LYZ",)}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("T cell CD3D CD3E", "has 1 field separated by tabs instead of at least 3"),
        ("T cell\tdescription", "has 2 fields separated by tabs instead of at least 3"),
        (" \tdescription\tCD3D", "has no set name"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, problem):
    path = write(tmp_path / "broken.gmt", f"good\td\tCD3D\n\n{line}\n")
    with pytest.raises(InputError, match=problem) as error:
        read_gmt(path)
    assert error.value.where == f"{path}, line 3"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "holds no gene set"),
        (b"\n \n", "holds no gene set"),
        (b"empty\tdescription\t\n", "holds no gene set"),
        (b"\xff\xfe\x00", "cannot be read as text"),
        (gzip.compress(b"a\tb\tc\n", mtime=0)[:-9], "cannot be read as text"),
        # block type 3 of deflate does not exist
        (gzip.compress(b"a\tb\tc\n", mtime=0)[:10] + b"\x07" * 30, "cannot be read as text"),
    ],
)
def test_a_file_without_sets_is_an_error(tmp_path, content, problem):
    path = tmp_path / "a.gmt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=problem) as error:
        read_gmt(path)
    assert error.value.where == str(path)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_gmt(tmp_path / "absent.gmt")


def test_sets_there_twice_are_kept_and_noted(tmp_path):
    text = "a\t\tG1\tG2\na\t\tG2\tG1\na\t\tG3\na\t\tG4\nb\t\t\n"
    found = read_gmt(write(tmp_path / "a.gmt", text))
    assert found.sets == {"a": ("G1", "G2"), "a [2]": ("G3",), "a [3]": ("G4",)}
    assert len(found.notes) == 3
    assert "'a [2]', 'a [3]'" in found.notes[1]
    assert "without genes, left out: 'b'" in found.notes[2]


@pytest.mark.parametrize(
    ("genes", "organism"),
    [
        (["CD3D", "C1orf43", "HLA-DRA"], "human"),
        (["Cd3d", "H2-Ab1", "Ms4a1", "0610007P14Rik"], "mouse"),
        (["CD3D", "Cd3d"], None),
        (["ENSG00000167286", "ENSG00000198851"], None),
        (["915", "916"], None),
    ],
)
def test_organism_is_told_by_the_case_of_the_symbols(genes, organism):
    assert GeneSets("x", {"set": tuple(genes)}).organism == organism


def test_same_organism_matches_exact_names_in_the_atlas_order():
    sets = GeneSets("x.gmt", {"T": ("CD3E", "CD3D", "TRAC"), "B": ("MS4A1",), "ORF": ("C1ORF43",)})
    found = match(sets, ["LYZ", "CD3D", "CD3E", "C1orf43", "trac"], "human")
    assert found.sets == {"T": ("CD3D", "CD3E"), "ORF": ("C1orf43",)}
    assert found.notes == ()


def test_mouse_symbols_are_mapped_by_upper_case_and_it_is_said():
    sets = GeneSets("x.gmt", {"T": ("CD3D", "CD3E"), "B": ("MS4A1",)})
    found = match(sets, ["Cd3d", "Cd3e", "Lyz2"], "mouse")
    assert found.sets == {"T": ("Cd3d", "Cd3e")}
    assert "the sets hold human symbols and the atlas is mouse" in found.notes[0]
    assert "upper case, 2 of the atlas's 3 genes" in found.notes[0]
    back = match(GeneSets("m.gmt", {"T": ("Cd3d", "Cd3e")}), ["CD3D", "LYZ"], "human")
    assert back.sets == {"T": ("CD3D",)}


def test_no_overlap_between_organisms_is_a_note():
    found = match(GeneSets("x.gmt", {"T": ("CD3D",)}), ["Lyz2", "Sox2"], "mouse")
    assert found.sets == {}
    assert "nothing is tested" in found.notes[-1]


def test_no_overlap_within_an_organism_is_an_error_with_examples_of_both_sides():
    with pytest.raises(InputError) as error:
        match(GeneSets("x.gmt", {"T": ("CD3D", "CD3E")}), ["LYZ", "MS4A1"], "human")
    message = str(error.value)
    assert message.startswith("x.gmt: none of the atlas's 2 genes ('LYZ', 'MS4A1')")
    assert "2 genes of the 1 sets ('CD3D', 'CD3E')" in message


def test_mouse_genes_called_human_get_the_right_remedy():
    with pytest.raises(InputError, match="set its key organism to mouse"):
        match(GeneSets("x.gmt", {"T": ("CD3D", "CD3E")}), ["Cd3d", "Cd3e"], "human")


def test_ensembl_ids_on_one_side_only_are_an_error():
    ids = ["ENSG00000167286", "ENSG00000198851.9", "ENSMUSG00000032094"]
    with pytest.raises(InputError, match=r"the atlas has Ensembl ids.*symbol_column"):
        match(GeneSets("x.gmt", {"T": ("CD3D",)}), ids, "human")
    with pytest.raises(InputError, match=r"holds Ensembl ids.*GMT file of gene symbols"):
        match(GeneSets("x.gmt", {"T": tuple(ids)}), ["CD3D", "LYZ"], "human")
    assert match(GeneSets("x.gmt", {"T": tuple(ids)}), ids, "human").sets == {"T": tuple(ids)}


def test_versions_of_ensembl_ids_do_not_matter():
    sets = GeneSets("x.gmt", {"T": ("ENSG00000167286", "ENSG00000198851.9")})
    found = match(sets, ["ENSG00000198851.4", "ENSG00000167286.1", "ENSG00000000003"], "human")
    assert found.sets == {"T": ("ENSG00000198851.4", "ENSG00000167286.1")}


def test_files_that_share_a_set_name_keep_both_sets(tmp_path):
    one = write(tmp_path / "one.gmt", "T\t\tCD3D\nB\t\tCD19\n")
    two = write(tmp_path / "two.gmt", "T\t\tCD3E\n")
    found = match_files([one, two], ["CD3D", "CD3E", "CD19"], "human")
    assert found.sets == {"T": ("CD3D",), "B": ("CD19",), "T [two.gmt]": ("CD3E",)}
    assert "'T'" in found.notes[0]


def test_no_file_is_a_note():
    found = match_files([], ["CD3D"], "human")
    assert (found.sets, found.notes) == ({}, ("no gene sets are given, so nothing is tested",))


def test_the_programs_shipped_are_sound_and_cover_the_demo_atlas():
    scanpy = pytest.importorskip("scanpy")
    found = read_gmt(PROGRAMS)
    assert found.notes == ()
    assert found.organism == "human"
    assert len(found.sets) >= 45
    assert all(8 <= len(genes) <= 40 for genes in found.sets.values())
    genes = list(scanpy.datasets.pbmc68k_reduced().raw.var_names)
    large = [name for name, members in match(found, genes, "human").sets.items() if len(members) >= 5]
    assert len(large) >= 40
    readme = (PROGRAMS.parent / "README.md").read_text(encoding="utf-8")
    assert [name for name in found.sets if name not in readme] == []


def test_the_transcription_factors_shipped_are_there_once():
    lines = FACTORS.read_text(encoding="utf-8").splitlines()
    symbols = [line for line in lines if line and not line.startswith("#")]
    assert len(symbols) == len(set(symbols)) >= 80
    assert all(symbol == symbol.strip().upper() for symbol in symbols)


def test_zeisel_mouse_symbols_match_gene_ontology(shared_data):
    anndata = pytest.importorskip("anndata")
    genes = list(anndata.read_h5ad(shared_data / "zeisel2015_200genes.h5ad", backed="r").var_names)
    path = shared_data / "GO_Biological_Process_2021.human.gmt"
    found = match_files([path], genes, "mouse")
    assert len({gene for members in found.sets.values() for gene in members}) > 100
    with pytest.raises(InputError, match="none of the atlas's 200 genes"):
        match_files([path], genes, "human")
