"""The worked examples run by --configfile alone: counts, mouse with human gene sets, few genes."""

import json

import pytest
import yaml

from latentree.files import read_json, read_table
from workflow_harness import NO_REFITS, ROOT

EXAMPLES = sorted(path.stem for path in (ROOT / "config").glob("*20*.yaml"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_from_its_config_alone(checkout, shared_data, name):
    config = yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text())
    # the shared folder stands in for data/, and one small model for all of them
    config = json.loads(json.dumps(config).replace('"data/', f'"{shared_data}/'))
    config.update(seeds=[0], models={"pca": {"n_factors": 5}}, results="results")
    config["downstream"] = NO_REFITS
    measured = config["tbr"].get("phenotype", {}).get("column") is not None
    phenotype = config["tbr"]["phenotype"] | {"n_bootstrap": 0} if measured else {"n_changes": [1]}
    config["tbr"].update(estimators=["baseline"], n_steps=50, phenotype=phenotype)
    tables = [f"results/{name}/tables/{table}.tsv" for table in ("metrics", "enrichment", "tbr")]
    # one with conditions goes on to its pictures and report, which take as long as all before
    goals = [f"results/{name}/report.html"] if name == "kang2018" else tables
    checkout.snakemake("--configfile", checkout.config(config), "--", *goals)

    folders = {path.parent.name for path in (checkout.root / "results").glob("*/atlas.h5ad")}
    assert folders == {name}, "only the config's own atlas runs"
    atlas = checkout.root / "results" / name
    metrics = read_table(atlas / "tables" / "metrics.tsv").query(
        "metric == 'accuracy' and seed != 'consensus'"
    )
    scores = metrics.set_index("model")["value"]
    assert scores["pca"] > scores["majority"] + 0.1
    assert len(read_table(atlas / "tables" / "enrichment.tsv"))
    tbr = read_table(atlas / "tables" / "tbr.tsv")
    assert (tbr["input_source"] != "").all()
    assert "counts" in json.dumps(read_json(atlas / "qc.json"))
    assert all((checkout.root / goal).stat().st_size > 100 for goal in goals)
