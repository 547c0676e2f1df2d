"""docs/outputs.md names what models, tables and rules write; finished runs of tests/workflow ask it, too."""

import re

import pytest
from api_fixture import MODELS, example_atlas, quick_fit

from latentree import conditions, group_tables
from outputs_page import PAGE, columns_of_tables, named, section, undocumented
from workflow_harness import ROOT


def test_what_is_not_on_the_page_is_found(tmp_path):
    for name, content in (
        ("a/tables/metrics.tsv", "atlas\tmodel\n"),
        ("a/tables/other.md", ""),
        ("a/figures/unknown.svg", ""),
        ("a/fits/pca/k2/seed0/fit.json", '{"model": "pca", "another": 1}'),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert [problem.split(":")[0] for problem in undocumented(tmp_path)] == [
        "a/figures/unknown.svg",
        "a/fits/pca/k2/seed0/fit.json",
        "a/tables/metrics.tsv",
        "a/tables/other.md",
    ]


def test_the_page_names_what_every_model_writes(tmp_path):
    adata = example_atlas()
    for model in MODELS:
        quick_fit(adata, model).save(tmp_path / "a" / "fits" / model / "k3" / "seed0")
    assert undocumented(tmp_path) == []


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("conditions.tsv", conditions.CONDITIONS_COLUMNS),
        ("group_weights.tsv", group_tables.WEIGHT_COLUMNS),
        ("group_summary.tsv", group_tables.SUMMARY_COLUMNS),
    ],
)
def test_the_page_names_columns_of_tables_that_few_runs_have(table, columns):
    assert columns_of_tables()[table] == columns


def test_the_page_names_no_table_that_no_rule_writes():
    rules = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    tables = [name for name in columns_of_tables() if "/" not in name and "history" not in name]
    assert len(tables) > 12
    for name in tables:
        stem = name.removesuffix(".tsv")
        assert f"/{name}" in rules or f'"{stem}"' in rules, name


def test_links_of_the_page_lead_somewhere():
    headings = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", PAGE, re.M)
    }
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        file, _, heading = target.partition("#")
        assert (ROOT / "docs" / file).exists(), target
        assert not heading or file or heading in headings, target
    assert named(section("Pictures"))
