"""Usage of factors by cell types, against pandas and scikit-learn."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scores_fixture import TYPES, make_fit
from sklearn.metrics import roc_auc_score

from latentree.files import read_table, write_table
from latentree.usage import USAGE_COLUMNS, usage_table


def test_usage_is_what_pandas_and_scikit_learn_say():
    fit = make_fit()
    table = usage_table([fit])
    assert list(table.columns) == USAGE_COLUMNS
    # the third factor is dead
    assert table["factor"].tolist() == ["f1"] * 3 + ["f2"] * 3
    assert table["cell_type"].tolist() == sorted(set(TYPES)) * 2
    cells = pd.DataFrame(fit.latents[:, :2].astype(float), columns=["f1", "f2"])
    scaled = (cells - cells.mean()) / cells.std(ddof=0)
    for row in table.itertuples():
        mine = row.cell_type == TYPES
        values = cells[row.factor]
        assert row.n_cells == mine.sum()
        assert row.mean_usage == pytest.approx(scaled.loc[mine, row.factor].mean())
        middle = (values.quantile(0.01) + values.quantile(0.99)) / 2
        assert row.share_using == pytest.approx((values[mine] > middle).mean())
        assert row.specificity == pytest.approx(roc_auc_score(mine, values))
    by = table.set_index(["factor", "cell_type"])
    assert by.loc[("f1", "B"), "share_using"] > 0.95 > 0.05 > by.loc[("f1", "a;b"), "share_using"]


def test_ties_count_half_and_one_type_has_no_others():
    fit = make_fit("pca")
    coarse = replace(fit, latents=np.round(fit.latents[:, :1] / 4), alive=np.ones(1, bool))
    for row in usage_table([coarse]).itertuples():
        expected = roc_auc_score(row.cell_type == TYPES, coarse.latents[:, 0])
        assert row.specificity == pytest.approx(expected)
    alone = usage_table([replace(fit, cell_types=np.full(len(TYPES), "T"))])
    assert alone["specificity"].isna().all()
    np.testing.assert_allclose(alone["mean_usage"], 0, atol=1e-12)


def test_units_and_order_of_fits_do_not_matter(tmp_path):
    fits = [make_fit("pca", seed=1), make_fit(), make_fit("pca", seed=0)]
    table = usage_table(fits)
    assert table[["model", "seed"]].drop_duplicates().to_numpy().tolist() == [
        ["pca", 0],
        ["pca", 1],
        ["sparse_vae", 0],
    ]
    scaled = [replace(fit, latents=fit.latents * 7 + 3) for fit in fits[::-1]]
    other = usage_table(scaled)
    pd.testing.assert_frame_equal(table, other, rtol=1e-4, atol=1e-5)
    write_table(table, tmp_path / "usage.tsv")
    back = read_table(tmp_path / "usage.tsv")
    pd.testing.assert_frame_equal(back.astype({"seed": int}), table, check_dtype=False, rtol=1e-8)


def test_no_live_factor_gives_a_header_only():
    assert list(usage_table([replace(make_fit(), alive=np.zeros(3, bool))]).columns) == USAGE_COLUMNS
    assert usage_table([]).empty
