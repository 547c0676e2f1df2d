"""What `snakemake --profile slurm` would submit: no Slurm is needed to ask."""

import re
from collections import Counter

import yaml

from workflow_harness import ROOT, SMALL, Checkout


def submissions(checkout: Checkout, *arguments: str) -> Counter[str]:
    """Slurm jobs by the rule or the group that they would run."""
    output = checkout.snakemake("-n", "--profile", "slurm", *arguments).stdout
    # the jobs of a group are indented below its name
    found = re.findall(r"^(?:\[[^\]]*\] )?(?:Group job|rule) (\w+)", output, re.M)
    assert found.pop() == "all"
    return Counter(found)


def demo(**changed: object) -> dict:
    return {**yaml.safe_load((ROOT / "config/config.yaml").read_text()), **changed}


def test_the_demo_with_ten_seeds_of_five_models_is_at_most_forty_submissions(checkout: Checkout) -> None:
    config = demo(seeds=list(range(10)))
    assert len(config["models"]) == 5
    found = submissions(checkout, "--configfile", checkout.config(config))
    assert found["fit_torch_model"] + found["fit_matrix_model"] == 5
    assert found["pictures"] == 1
    assert found.total() <= 40


def test_fits_of_a_large_atlas_are_jobs_of_their_own(checkout: Checkout) -> None:
    large = checkout.root / "large.h5ad"
    with large.open("wb") as stream:
        # as large as a large atlas, but for the space it takes
        stream.truncate(300 * 2**20)
    atlas = {"path": "large.h5ad", "cell_type": "cell_type"}
    config = checkout.config({**SMALL, "atlases": {"large": atlas}, "seeds": list(range(10))})
    found = submissions(checkout, "--configfile", config)
    assert found["fit_torch_model"] == found["fit_matrix_model"] == 10


def resources(checkout: Checkout, rule: str, *arguments: str) -> dict[str, str]:
    """Resources of the first job of a rule in a plan."""
    description = checkout.planned(*arguments)[rule][0]
    (line,) = re.findall(r"resources: (.*)", description)
    return dict(item.split("=") for item in line.split(", "))


def test_requests_grow_with_the_attempt_up_to_the_limit(finished: Checkout) -> None:
    """Asked where the atlas is there, so that its size is known."""
    limited = {**SMALL, "resources": {"max_mem_mb": 3000, "max_runtime": 50}}
    first, second = (
        resources(finished, "score_fits", "-f", *arguments, "--", "results/pbmc/tables/metrics.tsv")
        for arguments in (
            ["--configfile", finished.config(SMALL, "as_it_is.yaml")],
            ["--configfile", finished.config(limited, "limited.yaml"), "--attempt", "2"],
        )
    )
    assert 2000 < int(first["mem_mb"]) < 2100
    assert int(first["runtime"]) == 30
    assert (second["mem_mb"], second["runtime"]) == ("3000", "50")


def test_a_gpu_is_asked_for_where_there_must_be_one(checkout: Checkout) -> None:
    cuda = checkout.config({**SMALL, "device": "cuda"})
    planned = checkout.planned("--configfile", cuda)
    assert all("gpu=1" in job for rule in ("fit", "refit") for job in planned[f"{rule}_torch_model"])
    assert not any("gpu=1" in job for rule in ("fit", "refit") for job in planned[f"{rule}_matrix_model"])
