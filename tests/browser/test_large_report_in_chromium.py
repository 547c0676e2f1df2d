"""The report of a large run: 20,000 cells, 2,000 genes, five models of 20 factors, 30 cell types."""

import shutil
import time

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from report_fixture import CONSENSUS, QC, make_config, make_stability, make_tbr

from latentree.files import write_json, write_table
from latentree.plots.conditions import draw_conditions
from latentree.plots.embedding import draw_embedding
from latentree.plots.loadings import draw_loadings
from latentree.plots.usage import draw_usage
from latentree.report import write_report

MODELS = ("sparse_vae", "vae", "nmf", "pca", "ica")
K, N_CELLS, N_GENES = 20, 20_000, 2_000
TYPES = [f"CD{i}+ cells of a kind, subset {i}" for i in range(30)]
FACTORS = [f"f{i + 1}" for i in range(K)]
GENES = np.array([f"GENE{i}" for i in range(N_GENES)], dtype=object)
MOST_MB, MOST_SECONDS = 15, 2.0


def in_fits(table: pd.DataFrame) -> pd.DataFrame:
    """The same rows for the consensus of every model."""
    return pd.concat(
        [table.assign(model=model, n_factors=K, seed=CONSENSUS) for model in MODELS], ignore_index=True
    )


def make_genes(rng) -> pd.DataFrame:
    """Half of all loadings of the Sparse VAE, far more than it keeps, and the 50 largest of the others."""
    tables = []
    for model in MODELS:
        n_active = N_GENES // 2 if model == "sparse_vae" else 50
        for factor in FACTORS:
            loadings = np.sort(rng.exponential(size=n_active))[::-1] * rng.choice([-1, 1], n_active)
            names = rng.permutation(GENES)[:n_active]
            tables.append(
                pd.DataFrame({"factor": factor, "gene": names, "loading": loadings, "model": model})
            )
    table = pd.concat(tables, ignore_index=True).assign(n_factors=K, seed=CONSENSUS)
    inclusion = rng.uniform(0.5, 1, len(table))
    return table.assign(inclusion=np.where(table["model"] == "sparse_vae", inclusion, np.nan))


def make_enrichment(rng, n_sets: int = 300) -> pd.DataFrame:
    """Of a large library: 300 sets of each factor and method at q < .05, with 12 genes each."""
    tables = []
    for factor in FACTORS:
        for method in ("ora", "gsea"):
            q_values = rng.uniform(0, 0.049, n_sets)
            names = [f"GO_BIOLOGICAL_PROCESS_REGULATION_OF_SOMETHING_{i}" for i in range(n_sets)]
            genes = [";".join(rng.choice(GENES, 12)) for _ in range(n_sets)]
            columns = {"gene_set": names, "p_value": q_values / 10, "q_value": q_values, "genes": genes}
            tables.append(pd.DataFrame(columns).assign(factor=factor, method=method))
    table = pd.concat(tables, ignore_index=True)
    numbers = {"n_overlap": 12, "n_set": 80, "n_background": N_GENES, "odds_ratio": 3.14, "nes": 1.8}
    return in_fits(table.assign(direction="up", like="", **numbers))


def make_usage(rng) -> pd.DataFrame:
    """Random usage of every type."""
    index = pd.MultiIndex.from_product([FACTORS, TYPES], names=["factor", "cell_type"])
    table = index.to_frame(index=False).assign(n_cells=N_CELLS // len(TYPES))
    values = {name: rng.random(len(table)) for name in ("mean_usage", "share_using", "specificity")}
    return in_fits(table.assign(**values))


def make_conditions(rng) -> pd.DataFrame:
    """A condition against the reference in every type."""
    index = pd.MultiIndex.from_product([FACTORS, ["all", *TYPES]], names=["factor", "cell_type"])
    table = index.to_frame(index=False).assign(effect=rng.standard_normal(len(index)))
    table = table.assign(lower=table["effect"] - 0.5, upper=table["effect"] + 0.5, note="", test="welch")
    table = table.assign(condition="stimulated", reference="control", n_samples=4, n_samples_reference=4)
    p_values = rng.random(len(table))
    return in_fits(table.assign(n_cells=300, n_cells_reference=300, p_value=p_values, q_value=p_values))


def make_consensus(rng) -> pd.DataFrame:
    """Two thirds of the factors stable."""
    rows = [
        (model, K, name, 0.95, 0.9, 3, 3, 0.95, 0.13, 0.6, rng.uniform(0.7, 1), stable, "", "0:f1;1:f2;2:f3")
        for model in MODELS
        for place, name in enumerate(["all", *FACTORS])
        for stable in ["" if name == "all" else "no" if place % 3 == 0 else "yes"]
    ]
    columns = "model n_factors factor stability_mean stability_lowest seeds_found n_seeds half_agreement"
    columns += " chance_95 pca_reference halves_of_cells stable note members"
    return pd.DataFrame(rows, columns=columns.split())


def make_numbers() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """metrics.tsv, enrichment_summary.tsv and n_factors.tsv, small whatever the atlas."""
    names = ("accuracy", "balanced_accuracy", "ari", "nmi", "r2", "hoyer", "zeros")
    metrics = pd.DataFrame(
        [
            ("large", model, K, seed, metric, "test" if metric != "zeros" else "none", 0.5 + 0.01 * seed)
            for model in MODELS
            for seed in range(3)
            for metric in names
        ],
        columns=["atlas", "model", "n_factors", "seed", "metric", "split", "value"],
    )
    summary = {"n_factors_tested": K, "n_sets_tested": 5000, "n_enriched": 300, "n_pairs_enriched": 6000}
    control = {"control_mean": 1.5, "control_max": 4, "n_permutations": 20, "ratio": 120.0}
    enrichment = in_fits(pd.DataFrame({"method": ["ora", "gsea"]}).assign(**summary, **control))
    shares = "held_out_mean held_out_sd score stability_halves reference_halves stability_seeds"
    choice = dict.fromkeys(shares.split(), 0.5)
    counts = {"n_seeds": 3, "alive_factors": 20, "stable_factors": 14, "enriched_share": 1, "note": ""}
    n_factors = in_fits(pd.DataFrame({"fit_metric": ["r2"]}).assign(recommended="", **choice, **counts))
    return metrics, enrichment, n_factors.drop(columns="seed")


def draw_all(folder, rng, usage, conditions) -> None:
    """Every picture of a fit by its own function, once, and copied for each model."""
    codes = rng.integers(len(TYPES), size=N_CELLS)
    latents = (3 * rng.standard_normal((len(TYPES), K)))[codes] + rng.standard_normal((N_CELLS, K))
    loadings = rng.standard_normal((N_GENES, K)) * (rng.random((N_GENES, K)) < 0.1)
    factors = ad.AnnData(
        obs=pd.DataFrame(
            {"cell_type": pd.Categorical.from_codes(codes, TYPES)}, index=[f"c{i}" for i in range(N_CELLS)]
        ),
        var=pd.DataFrame(index=GENES),
        obsm={"X_vae": latents.astype(np.float32)},
        varm={"vae_loadings": loadings.astype(np.float32)},
        uns={"latentree": {"model": "vae", "factors": pd.DataFrame({"alive": np.ones(K, dtype=bool)})}},
    )
    first = MODELS[0]
    # where cells lie matters for the size, not how they came there
    for kind in ("embedding", "umap"):
        path = folder / f"{kind}_{first}_k{K}.svg"
        draw_embedding(factors, "vae", path, place=lambda latents, seed: latents[:, :2])
    draw_loadings(factors, "vae", folder / f"loadings_{first}_k{K}.svg")
    draw_usage(usage[usage["model"] == first], folder / f"usage_{first}_k{K}.svg")
    draw_conditions(conditions[conditions["model"] == first], folder / f"conditions_{first}_k{K}.svg")
    for path in list(folder.iterdir()):
        for model in MODELS[1:]:
            shutil.copy(path, folder / path.name.replace(first, model))


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(0)
    metrics, enrichment_summary, n_factors = make_numbers()
    usage, conditions = make_usage(rng), make_conditions(rng)
    tables = {
        "metrics": metrics,
        "genes": make_genes(rng),
        "enrichment": make_enrichment(rng),
        "enrichment_summary": enrichment_summary,
        "usage": usage,
        "conditions": conditions,
        "consensus": make_consensus(rng),
        "n_factors": n_factors,
        "stability": make_stability((0, 1, 2)),
        "tbr": make_tbr(),
    }
    for name, table in tables.items():
        write_table(table, folder / "tables" / f"{name}.tsv")
    write_json(QC, folder / "qc.json")
    write_json(["5,000 sets are tested"], folder / "tables/enrichment_notes.json")
    (folder / "figures").mkdir()
    draw_all(folder / "figures", rng, usage, conditions)
    config = make_config((0, 1, 2), tbr=True, condition="condition")
    config["models"] = {model: {"n_factors": [K]} for model in MODELS}
    write_report(folder, "pbmc", config, folder / "report.html", {})
    return folder / "report.html"


def test_a_large_report_is_small_and_opens_at_once(browser, report, record_property):
    megabytes = report.stat().st_size / 1e6
    seconds = []
    for _ in range(3):  # the best of three: other tests keep the machine busy
        browser.get("about:blank")
        browser.get(report.as_uri())
        (entry,) = browser.execute_script(
            "return performance.getEntriesByType('navigation').map(e => [e.loadEventEnd, e.domInteractive])"
        )
        seconds.append(entry[0] / 1000)
    said = f"{megabytes:.1f} MB, loaded in {', '.join(f'{s:.2f}' for s in seconds)} s"
    record_property("report", said)
    print(said)
    assert megabytes < MOST_MB, said
    assert min(seconds) < MOST_SECONDS, said


def test_a_factor_of_a_large_report_unfolds_at_once(browser, report):
    browser.get(report.as_uri())
    began = time.monotonic()
    browser.find_element("css selector", f"#sparse_vae-k{K}-f3 > summary").click()
    browser.find_element("css selector", f"#sparse_vae-k{K}-f3 button[aria-pressed]").click()
    rows = browser.execute_script(
        "return document.querySelector(`table[data-name='${arguments[0]}']`).tBodies[0].rows.length",
        f"sparse_vae-k{K}-f3-genes",
    )
    assert rows == N_GENES // 2
    assert time.monotonic() - began < MOST_SECONDS
