"""A phenotype that was measured, from a column of the atlas to tables, picture and report."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from latentree.files import read_table
from outputs_page import undocumented

GENES = [f"G{i}" for i in range(40)]


def write_atlas(path) -> None:
    """Counts of three types from four donors, two of them treated; three genes answer to the treatment."""
    rng = np.random.default_rng(0)
    types = np.array(["B", "CD4 T", "CD8; T"])[rng.integers(0, 3, 300)]
    donors = rng.integers(0, 4, 300)
    rates = 4 * np.exp(0.7 * rng.normal(size=(3, 40)))[np.unique(types, return_inverse=True)[1]]
    rates[:, :3] *= 1 + 3 * (donors[:, None] >= 2)
    obs = pd.DataFrame(
        {
            "type": types,
            "donor": [f"d{i}" for i in donors],
            "condition": np.where(donors >= 2, "stim", "ctrl"),
        },
        index=[f"c{i}" for i in range(300)],
    )
    obs.loc[obs.index[:5], "condition"] = None
    ad.AnnData(rng.poisson(rates).astype(np.float32), obs, pd.DataFrame(index=GENES)).write_h5ad(path)


def config(sample: str = "donor", **phenotype) -> dict:
    return {
        "atlases": {"a": {"path": "a.h5ad", "cell_type": "type", "condition": "condition", "sample": sample}},
        "seeds": [0],
        "models": {"pca": {"n_factors": 2}},
        "downstream": {"umap": False, "stability": {"n_resamples": 0, "n_halves": 0}},
        "tbr": {
            "phenotype": {"column": "condition", "n_bootstrap": 10} | phenotype,
            "n_latents": 1,
            "estimators": ["two_stage"],
        },
    }


@pytest.fixture
def with_atlas(checkout):
    write_atlas(checkout.root / "a.h5ad")
    return checkout


def test_a_column_becomes_changes_genes_and_a_picture(with_atlas):
    with_atlas.snakemake("--configfile", with_atlas.config(config(donor="donor")))
    results = with_atlas.root / "results/a"
    tables = {
        name: read_table(results / "tables" / f"{name}.tsv")
        for name in ("tbr", "tbr_changes", "tbr_genes", "tbr_identifiability", "tbr_phenotype")
    }
    scores = tables["tbr"].set_index("metric")["value"]
    assert scores["accuracy"] > 0.9 > scores["accuracy_types"]
    assert tables["tbr"]["note"].str.contains("5 of 300 cells have no value of condition").all()
    changes = tables["tbr_changes"]
    assert set(changes["bootstrap_unit"]) == {"donors"}
    assert changes["lower"].notna().all()
    assert "CD8\\; T" in set(changes["cell_types_below"])
    assert set(tables["tbr_genes"].query("rank <= 3")["gene"]) == {"G0", "G1", "G2"}
    said = tables["tbr_identifiability"].query("quantity == 'warning'")["note"]
    assert said.str.contains("4 donors with training cells, 2 with one of the values").any()
    assert tables["tbr_phenotype"]["n_cells"].sum() == 295
    assert (results / "figures/tbr_tree.svg").is_file()
    page = (results / "report.html").read_text()
    assert "What changes where" in page
    # the same columns as an atlas's condition and samples: cells without a condition are left out
    compared = read_table(results / "tables/conditions.tsv")
    assert set(zip(compared["test"], compared["n_samples"], strict=True)) == {("welch", 2)}
    assert compared["note"].str.startswith("few samples (2 and 2)").all()
    assert compared.query("cell_type == 'all'")[["n_cells", "n_cells_reference"]].sum(axis=1).eq(295).all()
    used = read_table(results / "tables/usage.tsv")
    assert used.groupby(["seed", "factor"])["n_cells"].sum().eq(300).all()
    assert (results / "figures/conditions_pca_k2.png").is_file()
    assert "Differences of the factors of pca, k = 2 between conditions" in page
    assert "Tree of the cell types with a triangle" in page
    assert undocumented(with_atlas.root / "results") == []
    # nothing is left to do, and another column only redoes what reads it
    assert with_atlas.planned("--configfile", "my.yaml") == {}
    planned = with_atlas.planned("--configfile", with_atlas.config(config(donor="donor", positive="ctrl")))
    assert "read_phenotype" in planned
    assert not {"prepare_atlas", "denoise_cells", "build_tree", "fit_matrix_model"} & set(planned)


@pytest.mark.parametrize(
    ("phenotype", "words"),
    [
        (
            {"column": "conditon"},
            "tbr.phenotype.column: a.h5ad has no obs column 'conditon' (nearest: 'condition')",
        ),
        ({"donor": "patient"}, "tbr.phenotype.donor: a.h5ad has no obs column 'patient'"),
        ({"sample": "doner"}, "atlases.a.sample: a.h5ad has no obs column 'doner' (nearest: 'donor')"),
    ],
)
def test_a_wrong_column_is_known_before_any_job(with_atlas, phenotype, words):
    done = with_atlas.snakemake("-n", "--configfile", with_atlas.config(config(**phenotype)), check=False)
    assert done.returncode == 1
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_column_of_many_labels_is_refused_before_any_fit(with_atlas):
    wrong = with_atlas.config(config(column="donor"))
    done = with_atlas.snakemake("results/a/tables/tbr_phenotype.tsv", "--configfile", wrong, check=False)
    assert done.returncode == 1
    log = (with_atlas.root / "results/logs/a/read_phenotype.log").read_text()
    assert "has 4 values that are no numbers: 'd0', 'd1', 'd2', 'd3'" in log
    assert "Traceback" not in log
