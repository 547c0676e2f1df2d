"""Refits on other cells where an atlas has donors."""

import anndata as ad
import numpy as np
import pandas as pd

from latentree.files import read_json


def test_halves_are_of_whole_donors_and_resamples_of_cells(checkout):
    counts = np.random.default_rng(0).poisson(1.0, size=(160, 30)).astype(np.float32)
    obs = pd.DataFrame(
        {"type": ["B", "T"] * 80, "donor": np.repeat([f"d{i}" for i in range(8)], 20)},
        index=[f"c{i}" for i in range(160)],
    )
    atlas = ad.AnnData(counts, obs, pd.DataFrame(index=[f"G{i}" for i in range(30)]))
    atlas.write_h5ad(checkout.root / "a.h5ad")
    config = {
        "atlases": {"a": {"path": "a.h5ad", "cell_type": "type", "split_by": "donor"}},
        "models": {"pca": {"n_factors": 2}},
    }
    files = [f"results/a/resamples/pca/k2/{part}/factors.h5ad" for part in ("half0", "half1", "r0")]
    checkout.snakemake(*files, "--configfile", checkout.config(config))
    *halves, resample = [ad.read_h5ad(checkout.root / file).obs for file in files]
    donors = [set(obs["donor"][half.index[half["split"] == "train"]]) for half in halves]
    assert donors[0].isdisjoint(donors[1])
    assert min(len(each) for each in donors) >= 1
    summary = read_json(checkout.root / "results/a/resamples/pca/k2/half0/fit.json")
    assert summary["refit"]["how"] == "disjoint halves of whole donors"
    assert summary["n_cells"]["test"] == sum(halves[1]["split"] == "test")
    n_train = sum(sum(half["split"] == "train") for half in halves)
    assert sum(resample["split"] == "train") == round(0.8 * n_train)
