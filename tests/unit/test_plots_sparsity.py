"""Sparsity of loadings against the number of factors."""

import numpy as np
import pandas as pd
import pytest

from latentree.plots import sparsity
from latentree.plots.sparsity import draw_sparsity, sparsity_of_fits


def make_metrics(fits: list[tuple[str, int, str, float, float, int]]) -> pd.DataFrame:
    """Of (model, n_factors, seed, zeros, active_genes, alive_factors)."""
    rows = [
        ("atlas", model, k, seed, metric, "none", value)
        for model, k, seed, *values in fits
        for metric, value in zip(("zeros", "active_genes", "alive_factors"), values, strict=True)
    ]
    return pd.DataFrame(rows, columns=["atlas", "model", "n_factors", "seed", "metric", "split", "value"])


def test_dead_factors_make_no_model_sparse():
    # of 100 genes: a dense model with 3 of 10 factors dead, a sparse one with half of its factors dead
    fits = [("vae", 10, "0", 0.3, 100.0, 7), ("sparse_vae", 10, "0", 0.9, 20.0, 5)]
    found = sparsity_of_fits(make_metrics(fits)).set_index("model")["zeros"]
    assert found["vae"] == 0
    assert found["sparse_vae"] == pytest.approx(80)


def test_means_ranges_and_dense_models_are_drawn(monkeypatch):
    figures = []
    monkeypatch.setattr(sparsity, "save", lambda figure, path: figures.append(figure))
    fits = [("nmf", k, str(seed), 0.2 + 0.1 * seed, 80.0 - 10 * seed, k) for k in (5, 10) for seed in (0, 1)]
    fits += [("pca", 5, "0", 0.0, 100.0, 5), ("nmf", 5, "consensus", 0.9, 10.0, 5)]
    draw_sparsity(make_metrics(fits), "unused.svg")
    zeros, genes = figures[0].axes
    (line,) = [line for line in zeros.lines if line.get_label() == "nmf"]
    assert line.get_ydata() == pytest.approx([25, 25])
    ranges = zeros.collections[0].get_segments()
    assert np.array(ranges)[:, :, 1] == pytest.approx(np.array([[20, 30], [20, 30]]))
    assert list(zeros.get_xticks()) == [5, 10]
    assert 100 in [line.get_ydata()[0] for line in genes.lines if line.get_linestyle() == "--"]
    assert figures[0].legends[0].get_title().get_text() == "dashed: pca, without exact zeros"


def test_models_without_zeros_or_without_live_factors_are_said(tmp_path):
    draw_sparsity(make_metrics([("pca", 5, "0", 0.0, 9.0, 5)]), tmp_path / "dense.svg")
    assert "dashed: pca, without exact zeros" in (tmp_path / "dense.svg").read_text()
    for name, table in (("none", make_metrics([])), ("dead", make_metrics([("vae", 5, "0", 1.0, 0.0, 0)]))):
        draw_sparsity(table, [tmp_path / f"{name}.svg", tmp_path / f"{name}.png"])
        assert "No fit has a live factor." in (tmp_path / f"{name}.svg").read_text()
        assert (tmp_path / f"{name}.png").stat().st_size > 0
