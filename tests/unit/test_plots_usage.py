"""Pictures of usage, of conditions and by UMAP: same bytes on every run, readable with many types."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from report_fixture import ATTACK, make_factors

from latentree.plots.conditions import draw_conditions
from latentree.plots.umap import draw_umap, embed_by_umap
from latentree.plots.usage import draw_usage, type_order

TYPES = [f"type {i}" for i in range(46)] + [ATTACK]


def usage(types: list[str], n_factors: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        ("pca", n_factors, "0", f"f{j + 1}", name, 1234, rng.normal(), rng.random(), 0.5)
        for j in range(n_factors)
        for name in types
    ]
    names = "model n_factors seed factor cell_type n_cells mean_usage share_using specificity"
    return pd.DataFrame(rows, columns=names.split())


def conditions(types: list[str], others: tuple[str, ...] = ("stim",), tested: bool = True) -> pd.DataFrame:
    rows = [
        ("pca", 2, "0", f"f{j + 1}", name, other, "ctrl", 0.4 * j - 0.2, q, "few samples (2 and 2)")
        for j, q in enumerate([0.01, 0.5])
        for name in ["all", *types]
        for other in others
    ]
    names = "model n_factors seed factor cell_type condition reference effect q_value note"
    table = pd.DataFrame(rows, columns=names.split())
    table = table.assign(lower=table["effect"] - 0.3, upper=table["effect"] + 9.0)
    return table if tested else table.assign(lower=np.nan, upper=np.nan, q_value=np.nan)


def texts(path: Path) -> set[str]:
    """What matplotlib writes as a comment before each text's outlines."""
    return {text.strip() for text in re.findall(r"<!--(.*?)-->", path.read_text(), flags=re.DOTALL)}


def test_pictures_have_the_same_bytes_twice(tmp_path):
    for name in ("one", "two"):
        draw_usage(usage(["B"], 1), tmp_path / f"u_{name}.svg")
        draw_conditions(conditions(["B"]), tmp_path / f"c_{name}.svg")
    for kind in "uc":
        assert (tmp_path / f"{kind}_one.svg").read_bytes() == (tmp_path / f"{kind}_two.svg").read_bytes()


def test_pictures_name_all_of_47_types(tmp_path):
    draw_usage(usage(TYPES, 2), tmp_path / "u.svg")
    draw_conditions(conditions(TYPES), tmp_path / "c.svg")
    for name, count in (("u.svg", " (1,234)"), ("c.svg", "")):
        assert {f"type {i}{count}" for i in range(46)} | {"f1", "f2"} <= texts(tmp_path / name)
    said = texts(tmp_path / "c.svg")
    assert "stim − ctrl, sd" in said
    assert any("few samples (2 and 2)" in text for text in said)


def test_many_conditions_and_untested_ones_are_drawn_and_said(tmp_path):
    draw_conditions(conditions(["B"], ("a", "b", "c", "d", "e")), tmp_path / "many.svg")
    assert any("(4 of 5)" in text for text in texts(tmp_path / "many.svg"))
    untested = conditions(["B"], tested=False)
    untested.loc[untested["cell_type"] == "B", "effect"] = np.nan
    draw_conditions(untested, tmp_path / "none.svg")
    assert any("cells only" in text for text in texts(tmp_path / "none.svg"))


@pytest.mark.parametrize("draw", [draw_usage, draw_conditions])
def test_a_fit_without_live_factors_is_said(draw, tmp_path):
    draw(usage([]), tmp_path / "empty.svg")
    assert any("No factor is alive" in text for text in texts(tmp_path / "empty.svg"))


def test_types_follow_the_factor_that_they_use_most():
    means = pd.DataFrame([[0.1, 2], [1, 0], [3, 0], [0, 5]], index=list("abcd"), columns=["f1", "f2"])
    assert type_order(means) == ["c", "b", "d", "a"]


def test_umap_starts_from_principal_components(tmp_path, monkeypatch):
    asked = {}

    class Stub:
        def __init__(self, **options):
            asked.update(options)

        def fit_transform(self, latents):
            return np.asarray(asked["init"]) * 2

    # umap itself takes 20 seconds to compile
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Stub))
    draw_umap(make_factors(n_cells=12), "sparse_vae", tmp_path / "u.svg", seed=3)
    assert (asked["random_state"], asked["n_neighbors"], asked["init"].shape) == (3, 11, (12, 2))
    assert {"UMAP 1", "UMAP 2", "sparse_vae, 4 factors: UMAP of 12 cells"} <= texts(tmp_path / "u.svg")
    assert embed_by_umap(np.eye(3, dtype=np.float32), 0).shape == (3, 2)
