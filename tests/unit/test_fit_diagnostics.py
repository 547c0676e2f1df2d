"""What a Sparse VAE says about itself, on its way to factors.h5ad, fit.json, metrics.tsv and the page."""

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import latentree as lt
from latentree.files import read_json
from latentree.report.facts import diagnostic_sentences
from latentree.scores import metrics_table, read_fit

SIZES = (6, 4, 9)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit of three programs of 6, 4 and 9 genes, the second the strongest, and three genes of two each."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((300, 3))
    used = np.vstack([np.repeat(np.eye(3), SIZES, axis=0), [[1, 1, 0], [0, 1, 1], [1, 0, 1]]])
    x = z @ (used * [1, 3, 1.5]).T + 0.4 * rng.standard_normal((300, len(used))) + 5
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(np.resize(["a", "b"], 300)),
            "split": np.resize(["train"] * 6 + ["validation", "test"], 300),
        },
        index=[f"cell{i}" for i in range(300)],
    )
    atlas = ad.AnnData(x.astype(np.float32), obs, pd.DataFrame(index=[f"GENE{i}" for i in range(len(used))]))
    atlas.uns["latentree"] = {"scale": "as_found"}
    folder = tmp_path_factory.mktemp("fit")
    lt.fit(atlas, "sparse_vae", 3, settings={"max_epochs": 30}, progress=False).save(folder)
    return folder


def test_anchor_genes_are_counted_in_the_order_in_which_factors_are_shown(saved: Path) -> None:
    factors = ad.read_h5ad(saved / "factors.h5ad")
    facts = factors.uns["latentree"]
    used = factors.varm["sparse_vae_loadings"] != 0
    own = used & (used.sum(1, keepdims=True) == 1)
    assert facts["factors"]["n_anchor_genes"].tolist() == own.sum(0).tolist()
    assert sorted(own.sum(0)) == sorted(SIZES)
    # the model's own order is another, and no swap of two
    fit = lt.load(saved)
    order = fit.arrangement.order
    assert not np.array_equal(order, np.argsort(order))
    arranged = fit.model.diagnostics()
    assert arranged is not None
    assert list(arranged.n_anchors) != own.sum(0).tolist()
    diagnostics = json.loads(facts["diagnostics_json"])
    assert diagnostics["n_anchors"] == own.sum(0).tolist()
    assert diagnostics == read_json(saved / "fit.json")["diagnostics"]


def test_start_and_curves_are_told_in_fit_json_and_scored(saved: Path) -> None:
    summary = read_json(saved / "fit.json")
    told = summary["diagnostics"]
    assert told["start"] == summary["resolved"]["start"] == "anchors"
    assert summary["settings"]["start"] == "auto"
    assert set(told["start_explained"]) == {"anchors", "varimax"}
    assert all(0 < share < 1 for share in told["start_explained"].values())
    # the truth has no curves
    assert told["curve_gain"] == pytest.approx(0, abs=0.05)
    table = metrics_table("toy", [read_fit(saved)]).set_index("metric")
    for metric in ("genes_without_factor", "anchored_factors", "covariance_ratio", "curve_gain"):
        assert table.at[metric, "value"] == pytest.approx(told[metric])
        assert table.at[metric, "split"] == ("validation" if metric == "curve_gain" else "none")


def test_the_page_says_how_a_fit_was_made(saved: Path) -> None:
    summary = read_json(saved / "fit.json")
    made, conditions, curves = diagnostic_sentences(summary)
    explained = summary["diagnostics"]["start_explained"]
    assert made == (
        "Likelihood normal, mlp decoder, input log, posterior mean linear, start anchors (of a feature they "
        f"explain without it: anchors {explained['anchors']:.0%}, varimax {explained['varimax']:.0%})."
    )
    assert conditions.startswith("3 of 3 living factors have two or more genes of their own")
    assert curves.startswith(f"The decoder's curves save {summary['diagnostics']['curve_gain']:.1%}")


def test_the_page_leaves_out_what_an_earlier_version_did_not_say(saved: Path) -> None:
    summary = read_json(saved / "fit.json")
    for nothing in ({}, {"diagnostics": None}, {"diagnostics": {}}, {"diagnostics": {"n_factors": 3}}):
        assert diagnostic_sentences(nothing) == ()
    told = {k: v for k, v in summary["diagnostics"].items() if k not in ("start_explained", "curve_gain")}
    made, conditions = diagnostic_sentences({**summary, "diagnostics": told})
    assert made.endswith("posterior mean linear, start anchors.")
    assert conditions == diagnostic_sentences(summary)[1]
    # neither what was resolved nor the start
    del told["start"]
    assert diagnostic_sentences({"diagnostics": told}) == (conditions,)
    # a start that was given was compared with nothing, and a line has no curves
    given = {**summary["diagnostics"], "start": "varimax", "start_explained": {}, "curve_gain": None}
    made, _ = diagnostic_sentences({**summary, "diagnostics": given})
    assert made.endswith("start varimax.")
