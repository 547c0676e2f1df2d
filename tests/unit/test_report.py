"""report.html: every name escaped, no address, optional parts left out."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from report_fixture import (
    CELL_TYPES,
    ENRICHMENT_NOTES,
    GENES,
    QC,
    SETS,
    K,
    make_config,
    make_consensus,
    make_enrichment,
    make_genes,
    make_tbr,
    write_results,
)

from latentree import __version__
from latentree.code_hash import import_closure
from latentree.errors import InputError
from latentree.files import write_json, write_table, write_text
from latentree.report import TEMPLATES, write_report
from latentree.report.inputs import read_inputs
from latentree.report.svg import data_uri

VERSIONS = {"python": "3.11", "torch": "2.13.0"}
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Text, tags and attributes of a page; an unbalanced tag is an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] == "script":
            self.scripts.append(data)
        elif self._open and self._open[-1] not in ("style", "title"):
            self.text += data

    def attributes(self, name: str) -> list[str]:
        return [value for _, attributes in self.tags if (value := attributes.get(name)) is not None]


def write_page(folder, seeds=(0, 1, 2), tbr=True, **options) -> str:
    write_results(folder, seeds=seeds, tbr=tbr, **options)
    write_report(
        folder, "pbmc", make_config(seeds, tbr), folder / "report.html", VERSIONS, {"commit": "abc<1>"}
    )
    return (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def html(tmp_path_factory) -> str:
    return write_page(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


def test_page_is_well_formed_and_its_ids_are_unique(page):
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    targets = [link[1:] for link in page.attributes("href") if link.startswith("#")]
    assert set(targets) <= set(ids)
    assert set(page.attributes("aria-labelledby")) <= set(ids)


def test_page_fetches_nothing(html, page):
    addresses = page.attributes("src") + [a for a in page.attributes("href") if not a.startswith("#")]
    assert addresses
    assert all(address.startswith("data:") for address in addresses)
    outside_pictures = re.sub(r'src="data:image/svg\+xml,[^"]+"', "", html)
    assert "http:" not in outside_pictures
    assert "https:" not in outside_pictures
    assert "url(" not in outside_pictures
    assert not {"iframe", "object", "form"} & {tag for tag, _ in page.tags}


def test_the_policy_lets_one_script_run_and_it_is_the_pages_own(page):
    kinds = [attributes.get("type") for tag, attributes in page.tags if tag == "script"]
    assert kinds.count(None) == 1
    assert set(kinds) == {None, "application/json"}
    own = page.scripts[kinds.index(None)]
    assert own == (TEMPLATES / "report.js").read_text()
    digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
    (policy,) = [a["content"] for _, a in page.tags if "http-equiv" in a]
    assert f"default-src 'none'; script-src 'sha256-{digest}'; " in policy
    assert policy.count("unsafe") == policy.count("style-src 'unsafe-inline'") == 1


def test_every_picture_is_whole_and_described(page):
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 3 + 3  # embedding, loadings and training of one model; pictures of three tables
    for image in images:
        ElementTree.fromstring(unquote(image["src"].removeprefix("data:image/svg+xml,")))
        assert image["alt"]


def test_pictures_lose_digits_that_no_eye_sees_and_nothing_else():
    svg = """<?xml version="1.0"?>
    <svg xmlns="http://www.w3.org/2000/svg"><!-- a name: <i> -->
     <g transform="translate(10.123456 -3.5) scale(0.015625 -0.015625)" style="stroke: #1f77b4">
      <path d="M 1.234567 2
    L -0.001234 1e-5" id="50%"/></g></svg>"""
    small = (
        '<svg xmlns="http://www.w3.org/2000/svg"> <g transform="translate(10.12 -3.5)'
        ' scale(0.015625 -0.015625)" style="stroke: #1f77b4">'
        ' <path d="M 1.23 2 L -0 1e-5" id="50%"/></g></svg>'
    )
    for given, kept in (
        (svg, small.replace('"', "'")),
        (svg.replace("50%", "50'"), small.replace("50%", "50'")),
    ):
        uri = data_uri(given)
        assert not set('"<>#\n&') & set(uri)
        assert unquote(uri.removeprefix("data:image/svg+xml,")) == kept


def test_names_stand_as_text(html, page):
    assert "<script>alert" not in html
    assert "</script><b>" not in html
    assert "<b>rare" not in html
    assert "<img src=x" not in html
    for name in (*CELL_TYPES, *SETS[:2], *GENES[:4], "<b>rare</b>", "abc<1>"):
        assert name in page.text, name


def test_every_decision_and_setting_is_shown(page):
    def leaves(value):
        if isinstance(value, dict):
            return [leaf for inner in value.values() for leaf in leaves(inner)]
        if isinstance(value, list):
            return [leaf for inner in value for leaf in leaves(inner)]
        return [str(value)] if value is not None else []

    shown = page.text.split("Decisions on the way")[1]
    assert [leaf for leaf in leaves(QC) if leaf not in shown] == []
    assert "recipe: robust" in page.text
    assert "2.13.0" in page.text


def test_page_has_the_same_bytes_twice(tmp_path):
    assert write_page(tmp_path / "one", figures=False) == write_page(tmp_path / "two", figures=False)


def test_every_row_is_in_the_page_as_data(page):
    blocks = [json.loads(text) for text in page.scripts if text.startswith("{")]
    loadings = [block for block in blocks if block["columns"][0] == ["gene", "text"]]
    listed = make_genes(())
    assert sum(len(block["rows"]) for block in loadings) == len(listed)
    assert {row[0] for block in loadings for row in block["rows"]} == set(listed["gene"])
    assert {"<i>G0</i>", *GENES[-2:]} <= set(listed["gene"])
    # as in the table, whatever the page shows
    first = listed[(listed["model"] == "sparse_vae") & (listed["factor"] == "f1")]
    largest = first.loc[first["loading"].abs().idxmax()]
    assert loadings[0]["rows"][0][:2] == [largest["gene"], float(f"{largest['loading']:.9g}")]


def test_captions_names_and_headers_of_every_table(page):
    tables = [attributes for tag, attributes in page.tags if tag == "table"]
    names = [attributes["data-name"] for attributes in tables]
    assert len(names) == len(set(names))
    assert {"programs", "types", "scores", "consensus", "n_factors", "enrichment", "tbr"} <= set(names)
    assert {f"sparse_vae-k{K}-f1-{kind}" for kind in ("genes", "sets", "usage")} <= set(names)
    records = [attributes for attributes in tables if attributes.get("class") == "records"]
    assert [tag for tag, _ in page.tags].count("caption") == len(tables) - len(records)
    assert all(a.get("scope") in ("col", "row") for tag, a in page.tags if tag == "th")


@pytest.mark.parametrize("missing", ["tbr", "enrichment", "figures", "seeds", "conditions"])
def test_page_without_an_optional_part(tmp_path, missing):
    options = {
        "tbr": {"tbr": False},
        "enrichment": {"enrichment": False},
        "figures": {"figures": False},
        "seeds": {"seeds": (5,)},
        "conditions": {},
    }[missing]
    text = Page(write_page(tmp_path, **{"figures": False, **options})).text
    assert ("Tree-based regularisation" in text) == (missing != "tbr")
    assert ("No tested gene set shares a gene with any factor: 3 of the 5" in text) == (
        missing == "enrichment"
    )
    assert "No gene set at q < 0.05." in text  # of f3 in any case
    assert ("GO: response to" in text) == (missing != "enrichment")
    assert ("Agreement between seeds is not known" in text) == (missing == "seeds")
    assert ("Whether factors would come back is not known" in text) == (missing == "seeds")
    assert "differences between conditions" not in text
    assert ("Dots are seeds" in text) is False


def test_why_factors_have_no_gene_set_is_said(tmp_path):
    write_results(tmp_path, figures=False)
    weak = make_enrichment((0, 1, 2)).assign(q_value=0.2)
    write_table(weak, tmp_path / "tables" / "enrichment.tsv")
    texts = []
    for given in (True, False):
        config = make_config((0, 1, 2), True, gene_sets=given)
        write_report(tmp_path, "pbmc", config, tmp_path / "report.html", VERSIONS)
        texts.append(Page((tmp_path / "report.html").read_text()).text)
    assert "Gene sets were tested, but no factor has one at q < 0.05." in texts[0]
    assert "No gene sets were given" not in texts[0]
    assert "the config gives none for this atlas" in texts[1]
    assert "No gene sets were given" in texts[1]
    assert "No gene set at q" not in texts[1]


def test_notes_of_the_gene_sets_are_shown(page):
    for note in ENRICHMENT_NOTES:
        assert note in page.text


def test_only_pictures_of_the_config_are_shown(tmp_path):
    write_results(tmp_path, figures=False)
    of_fits = (f"embedding_pca_k{K}", f"embedding_vae_k{K}", f"loadings_pca_k{K + 1}")
    for name in ("tbr", "sparsity", "stability", *of_fits):
        write_text(f"<svg>{name}</svg>", tmp_path / "figures" / f"{name}.svg")
    config = make_config((0, 1, 2), tbr=False)
    assert set(read_inputs(tmp_path, "pbmc", config).pictures) == {
        f"embedding_pca_k{K}.svg",
        "stability.svg",
        "sparsity.svg",
    }
    with_tbr = read_inputs(tmp_path, "pbmc", make_config((0, 1, 2), tbr=True))
    assert "tbr.svg" in with_tbr.pictures


def test_versions_are_those_of_the_fits_too(page):
    shown = page.text.split("Versions")[-1]
    assert "scipy1.17.1" in "".join(shown.split())
    assert f"latentree{__version__}" in "".join(shown.split())
    assert f"by latentree {__version__}" in page.text


def test_a_table_of_an_earlier_run_is_not_shown(tmp_path):
    write_results(tmp_path, tbr=True, figures=False)
    write_report(tmp_path, "pbmc", make_config((0, 1, 2), tbr=False), tmp_path / "report.html", VERSIONS)
    assert "TBR" not in (tmp_path / "report.html").read_text()


def test_fits_of_an_earlier_config_are_not_shown(tmp_path):
    write_results(tmp_path, figures=False)
    write_json({"notes": ["stale"]}, tmp_path / "fits/pca/k99/seed0/fit.json")
    write_json({"converged": False}, tmp_path / f"fits/pca/k{K}/seed9/fit.json")
    write_report(tmp_path, "pbmc", make_config((0, 1, 2), True), tmp_path / "report.html", VERSIONS)
    text = Page((tmp_path / "report.html").read_text()).text
    assert "k = 99" not in text
    assert "stale" not in text
    assert "Not converged" not in text


def test_models_come_in_the_order_of_the_config(page):
    found = re.findall(r"Factors of (\w+), k", page.text)
    assert found == [name for name, settings in make_config((0,), True)["models"].items() if settings]


def test_a_missing_table_is_named_and_no_page_is_left(tmp_path):
    write_results(tmp_path, figures=False)
    (tmp_path / "tables" / "genes.tsv").unlink()
    with pytest.raises(InputError, match=r"genes\.tsv: no such file"):
        write_report(tmp_path, "pbmc", make_config((0,), True), tmp_path / "report.html", VERSIONS)
    assert not (tmp_path / "report.html").exists()


def test_notes_of_fits_and_tables_are_shown(tmp_path):
    write_results(tmp_path, figures=False)
    write_json({"converged": False, "notes": ["slow & steady"]}, tmp_path / f"fits/nmf/k{K}/seed0/fit.json")
    write_table(make_tbr().assign(note="leaky: MAGIC on all cells"), tmp_path / "tables/tbr.tsv")
    write_report(tmp_path, "pbmc", make_config((0, 1, 2), True), tmp_path / "report.html", VERSIONS)
    text = Page((tmp_path / "report.html").read_text()).text
    assert "slow & steady" in text
    assert "Not converged within its epochs or iterations: seed 0." in text
    assert text.count("leaky: MAGIC on all cells") == 1


def test_a_fit_whose_factors_all_died_has_a_section(tmp_path):
    write_results(tmp_path, figures=False)
    for name, table in {"genes": make_genes(()), "consensus": make_consensus((0, 1, 2))}.items():
        write_table(table[table["model"] != "nmf"], tmp_path / f"tables/{name}.tsv")
    write_report(tmp_path, "pbmc", make_config((0, 1, 2), True), tmp_path / "report.html", VERSIONS)
    text = Page((tmp_path / "report.html").read_text()).text
    assert f"Factors of nmf, k = {K}" in text
    assert f"All {K} factors are dead: no gene has weight." in text
    assert text.count(f"1 of {K} are dead: no gene has weight.") == 2


def test_templates_are_where_the_workflow_looks():
    page = ["report", "overview", "factors", "tbr", "glossary", "macros"]
    names = {f"{name}.html.j2" for name in page} | {"style.css.j2", "report.js"}
    assert {path.name for path in TEMPLATES.iterdir()} == names
    # so that a change of one rewrites the page
    assert names <= {path.name for path in import_closure(TEMPLATES.parents[2] / "write_report.py")}
