"""The bars of oi-VAE, and how its experiment judges and summarises."""

import anndata
import numpy as np
import pandas as pd
import pytest
from models_fixture import log_counts

from latentree.reproduction.oi import (
    EMPTY,
    LOG_LIKELIHOOD,
    NAME,
    ONE_TO_ONE,
    bars,
    fit_bars,
    one_to_one,
    summarise,
    with_few_cells,
)
from latentree.reproduction.records import Measurement


def test_bars_have_one_row_on():
    rows = bars(0, 500).reshape(500, 8, 8).mean(axis=2)
    assert ((rows > 0.25).sum(axis=1) == 1).all()
    assert np.bincount(rows.argmax(axis=1)).min() > 30


def test_one_to_one_allows_spare_latents_only():
    eye = np.eye(8)
    assert one_to_one(eye)
    assert one_to_one(np.c_[eye, np.zeros((8, 3))])
    assert not one_to_one(np.c_[eye, eye[:, :1]])
    assert not one_to_one(eye[:, :7])


def test_each_latent_finds_its_row_and_the_spare_ones_are_exactly_empty():
    weights = fit_bars(0, 12, 1.0, n_images=1024, max_epochs=40)
    assert one_to_one(weights)
    assert (weights == 0).all(axis=0).sum() == 4


def test_few_cells_leave_the_test_cells_as_they_are():
    cells = anndata.AnnData(log_counts())
    cells.obs["split"] = np.array(["train", "validation", "test", "train"] * 30)
    few = with_few_cells(cells, 40, 0)
    assert few.obs["split"].value_counts().to_dict() == {"train": 36, "validation": 4, "test": 30}
    assert set(cells.obs_names[cells.obs["split"] == "test"]) == set(
        few.obs_names[few.obs["split"] == "test"]
    )


def _measured(setting, values):
    return [
        Measurement(NAME, setting, model, metric, seed, value)
        for (model, metric), every in values.items()
        for seed, value in enumerate(every)
    ]


def test_summary_says_which_claims_hold():
    measured = _measured(
        "bars, 16 latents",
        {
            ("lambda 1", ONE_TO_ONE): [1.0] * 10,
            ("lambda 1", EMPTY): [8.0] * 10,
            ("lambda 0", ONE_TO_ONE): [0.0] * 10,
        },
    )
    measured += _measured(
        "100 cells",
        {
            ("vae", LOG_LIKELIHOOD): [-10.0, -11.0, -12.0],
            ("oi_vae", LOG_LIKELIHOOD): [-12.0, -13.1, -14.0],
            ("oi_vae, permuted sets", LOG_LIKELIHOOD): [-12.5, -13.5, -14.4],
        },
    )
    rows = {row.setting: row for row in summarise(pd.DataFrame(measured))}
    assert rows["bars, 16 latents: lambda 0"].agrees == "yes"
    assert rows["100 cells: oi_vae - vae"].agrees == "no"
    assert rows["100 cells: oi_vae - vae"].explanation
    assert rows["100 cells: oi_vae - oi_vae, permuted sets"].ours_mean == pytest.approx(1.3 / 3)
    assert summarise(pd.DataFrame(measured).iloc[:0]) == []
