"""The config: defaults, presets, and errors that name key, value and remedy."""

import json
import re
from pathlib import Path

import pytest
import yaml

from latentree.config import Config, json_schema, load_config, model_settings
from latentree.config_keys import config_page
from latentree.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


def minimal(**changes):
    return {"atlases": {"a": {"path": "a.h5ad", "cell_type": "t"}}, "models": {"pca": {}}, **changes}


def test_defaults_are_filled_in():
    config = load_config(minimal())
    assert config.results == "results"
    assert config.seeds == [0, 1, 2]
    assert config.tbr is None
    assert config.models.listed()["pca"].n_factors == [10]


def test_a_model_with_nothing_behind_it_gets_its_defaults():
    assert list(load_config(minimal(models={"pca": None, "nmf": None})).models.listed()) == ["nmf", "pca"]


def test_one_number_of_factors_is_a_list():
    assert load_config(minimal(models={"pca": {"n_factors": 4}})).models.pca.n_factors == [4]


def test_what_is_named_twice_counts_once():
    config = load_config(
        minimal(
            seeds=[1, 1, 0],
            models={"pca": {"n_factors": [3, 3]}},
            tbr={"estimators": ["joint", "joint"], "phenotype": {"n_changes": [1, 0, 1]}},
        )
    )
    assert config.seeds == [1, 0]
    assert config.models.pca.n_factors == [3]
    assert config.tbr.estimators == ["joint"]
    assert config.tbr.phenotype.n_changes == [1, 0]


def test_parts_of_the_cells_for_refits():
    assert load_config(minimal()).downstream.stability.parts == ["r0", "r1", "r2", "half0", "half1"]
    off = load_config(minimal(downstream={"stability": {"n_resamples": 0, "n_halves": 0}}))
    assert off.downstream.stability.parts == []


def test_a_recipe_is_a_preset_and_given_keys_win():
    paper = model_settings("sparse_vae", {"recipe": "paper", "hidden_decoder": 7})
    assert (paper.start, paper.prior, paper.residual, paper.hidden_decoder) == (
        "random",
        "identity",
        False,
        7,
    )
    robust = model_settings("sparse_vae", {})
    assert (robust.start, robust.prior, robust.residual, robust.hidden_decoder) == (
        "auto",
        "learned",
        True,
        None,
    )


def test_a_spike_below_the_slab_that_nobody_gave_is_the_slabs_business():
    assert model_settings("sparse_vae", {"lambda0": 0.01}).lambda1 is None


def test_what_config_resolves_to_is_a_config_again():
    resolved = load_config(yaml.safe_load((ROOT / "config" / "config.yaml").read_text())).model_dump(
        mode="json"
    )
    assert load_config(json.loads(json.dumps(resolved))).model_dump(mode="json") == resolved


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seed": [1]}, "unknown key 'seed' (nearest: 'seeds')"),
        ({"models": {"pca": {"n_factor": 3}}}, "unknown key 'models.pca.n_factor' (nearest: 'n_factors')"),
        ({"models": {"sparsevae": {}}}, "unknown key 'models.sparsevae' (nearest: 'sparse_vae')"),
        ({"models": {}}, "no model is listed"),
        ({"models": {"pca": {"n_factors": "ten"}}}, "models.pca.n_factors"),
        ({"models": {"pca": {"n_factors": [0]}}}, "(got 0)"),
        ({"seeds": []}, "'seeds'"),
        ({"seeds": [-1]}, "(got -1)"),
        ({"device": "gpu"}, "'cpu' or 'cuda' (got 'gpu')"),
        ({"atlases": {"a": {"path": "a.h5ad"}}}, "'atlases.a.cell_type' is missing"),
        ({"atlases": {"a": {"path": "https://x/a.h5ad", "cell_type": "t"}}}, "needs sha256"),
        ({"atlases": {"provenance": {"path": "a.h5ad", "cell_type": "t"}}}, "cannot name an atlas"),
        ({"preprocess": {"test_fraction": 0.6, "validation_fraction": 0.5}}, "no cells for training"),
        (
            {"models": {"sparse_vae": {"lambda0": 0.01, "lambda1": 0.02}}},
            "lambda0 (0.01) must not be below lambda1 (0.02)",
        ),
        ({"models": {"sparse_vae": {"lambda1": 0.5}}}, "lambda0 (0.4) must not be below lambda1 (0.5)"),
        ({"models": {"sparse_vae": {"learning_rate": float("nan")}}}, "learning_rate"),
        ({"models": {"sparse_vae": {"recipe": ["paper"]}}}, "models.sparse_vae.recipe"),
        ({"atlases": {"logs": {"path": "a.h5ad", "cell_type": "t"}}}, "cannot name an atlas"),
        ({"atlases": {"a": {"path": "builtin:nope", "cell_type": "t"}}}, "'pbmc68k_reduced'"),
        ({"atlases": {"a": {"path": "in{put}.h5ad", "cell_type": "t"}}}, "braces"),
        ({"results": "a{b}"}, "braces"),
        ({"tbr": {"latents": ["A", "B"], "n_latents": 3}}, "n_latents (3) is more than the 2 genes"),
        ({"tbr": {"phenotype": {"n_changes": [1, 5]}}}, "n_changes (5) is more than n_latents (3)"),
        ({"downstream": {"min_set_size": 50, "max_set_size": 10}}, "min_set_size (50)"),
        ({"downstream": {"stability": {"n_resamples": 1}}}, "use 0 or at least 2 (got 1)"),
        ({"downstream": {"stability": {"fraction": 1}}}, "downstream.stability.fraction"),
        ({"downstream": {"stability": {"halves": 1}}}, "(nearest: 'n_halves')"),
    ],
)
def test_errors_name_key_and_value(changes, expected):
    with pytest.raises(InputError, match=re.escape(expected)):
        load_config(minimal(**changes))


@pytest.mark.parametrize("name", ["../up", "a b", "it's", 'quo"te', "", "a/b", "ä"])
def test_an_atlas_name_is_safe_as_a_folder(name):
    with pytest.raises(InputError, match="letters, digits"):
        load_config(minimal(atlases={name: {"path": "a.h5ad", "cell_type": "t"}}))


def test_all_problems_are_told_at_once():
    with pytest.raises(InputError) as caught:
        load_config(minimal(seed=[1], device="gpu", results=3))
    assert all(key in str(caught.value) for key in ("'seed'", "'device'", "'results'"))


@pytest.mark.parametrize("text", ["a: [", "just words", "- a\n- b", "\x00"])
def test_what_is_no_config_is_an_error_that_names_the_file(tmp_path, text):
    path = tmp_path / "my.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(str(path))):
        load_config(path)


def test_a_missing_config_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_config(tmp_path / "none.yaml")


def test_unknown_models_are_named_with_the_nearest():
    with pytest.raises(InputError, match="nearest: 'sparse_vae'"):
        model_settings("sparsevae", None)


def test_the_shipped_schema_and_page_are_those_of_the_code():
    assert json.loads((ROOT / "workflow/schemas/config.schema.json").read_text()) == json_schema(), (
        "run make schema"
    )
    assert (ROOT / "config/README.md").read_text() == config_page(), "run make schema"


def test_every_key_is_explained():
    rows = [line for line in config_page().splitlines() if line.startswith("| `")]
    assert len(rows) > len(Config.model_fields)
    assert all(row.split(" | ")[-1].strip(" |") for row in rows)


@pytest.mark.parametrize(
    ("models", "problem"),
    [
        ({"oi_vae": {"permuted": True}}, "fits the control"),
        ({"dd_vae": {"prior": "clusters", "n_factors": [2, 1]}}, "do not fit in 1 factors"),
        ({"intel_vae": {"mapping": "circle", "n_factors": 1}}, "needs at least 2 factors"),
        ({"intel_vae": {"mapping": "hierarchy", "blocks": [2, 3], "n_factors": [5, 6]}}, "not to 6 factors"),
    ],
)
def test_what_a_model_has_no_room_for_is_said_before_it_is_fitted(models, problem):
    atlases = {"a": {"path": "a.h5ad", "cell_type": "t", "gene_sets": ["sets.gmt"]}}
    with pytest.raises(InputError, match=problem):
        load_config({"atlases": atlases, "models": models})


def test_no_gene_sets_mean_the_atlas_s():
    atlases = {"a": {"path": "a.h5ad", "cell_type": "t", "gene_sets": ["sets.gmt"]}}
    for given in ([], {}, None):
        config = load_config({"atlases": atlases, "models": {"oi_vae": {"gene_sets": given}}})
        assert config.models.oi_vae.gene_sets is None
