"""Named libraries, from a server of our own."""

import hashlib
import re

import pytest

from latentree.config import load_config
from latentree.enrichment_config import library_name
from latentree.errors import InputError
from latentree.libraries import fetch_library

# as Enrichr exports it: weights behind genes, an empty last field
CONTENT = "T cells (GO:1)\t\tCD3D,1.0\tCD3E,1.0\t\nB cells\t\tMS4A1\tCD19\t\n"


@pytest.fixture
def address(httpserver, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    return httpserver.url_for("/geneSetLibrary?mode=text&libraryName=")


def served(httpserver, **answer):
    query = {"mode": "text", "libraryName": "GO_2021.v1"}
    httpserver.expect_request("/geneSetLibrary", query_string=query).respond_with_data(**answer)


def test_a_library_is_fetched_by_its_name(httpserver, address, tmp_path):
    served(httpserver, response_data=CONTENT)
    path = tmp_path / "gene_sets" / "GO_2021.v1.gmt"
    assert fetch_library("GO_2021.v1", path, address) == hashlib.sha256(CONTENT.encode()).hexdigest()
    assert path.read_text() == CONTENT
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"response_data": "<html>no such library</html>"}, "is no GMT file: has 1 field"),
        ({"response_data": ""}, "is no GMT file: holds no gene set"),
        ({"response_data": "gone", "status": 404}, "the server answered 404"),
    ],
)
def test_an_answer_without_sets_leaves_nothing(httpserver, address, tmp_path, answer, problem):
    served(httpserver, **answer)
    with pytest.raises(InputError, match=problem) as error:
        fetch_library("GO_2021.v1", tmp_path / "x.gmt", address)
    assert error.value.where == "library:GO_2021.v1"
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_one_message_says_what_to_do(tmp_path):
    with pytest.raises(InputError) as error:
        fetch_library("GO", tmp_path / "GO.gmt", "http://localhost:1/?name=")
    assert re.fullmatch(
        r"library:GO: http://localhost:1/\?name=GO: cannot be reached \(.*\)\. "
        r"Check its name and the network; without one, fetch the file elsewhere and copy it to "
        rf"{tmp_path}/GO.gmt\.",
        str(error.value),
    )


def test_names_of_libraries_are_checked_with_the_config():
    assert library_name("library:KEGG_2019_Mouse") == "KEGG_2019_Mouse"
    assert library_name("sets.gmt") is None
    atlas = {"path": "a.h5ad", "cell_type": "t", "gene_sets": ["library:../up"]}
    with pytest.raises(InputError, match=r"gene_sets.*letters, digits"):
        load_config({"atlases": {"a": atlas}, "models": {"pca": {"n_factors": 2}}})
