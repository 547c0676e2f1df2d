"""Tables, picture and sentences of gene sets as groups, from saved fits of small data."""

import anndata
import numpy as np
import pandas as pd
import pytest
from models_fixture import QUICK, log_counts

from latentree import api
from latentree.config import load_config
from latentree.errors import InputError
from latentree.files import read_table, write_table
from latentree.group_tables import summary_table, weights_table
from latentree.plots.groups import draw_groups, effects
from latentree.report.group_sentences import group_sentences

SETS = {"first": [f"G{j}" for j in range(5)], "second": [f"G{j}" for j in range(5, 11)]}


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    """Folders of a fit and of its control."""
    adata = anndata.AnnData(log_counts())
    adata.var_names = [f"G{j}" for j in range(15)]
    adata.obs["split"] = np.array(["train", "validation", "test", "train"] * 30)
    folders = []
    for permuted in (False, True):
        settings = {**QUICK["vae"], "gene_sets": SETS, "permuted": permuted, "lam": 1.0}
        folders.append(tmp_path_factory.mktemp("fits") / str(permuted))
        api.fit(adata, "oi_vae", 3, settings=settings, progress=False).save(folders[-1])
    return folders


def test_weights_and_effects_are_those_of_the_fit(fits):
    table = weights_table(fits)
    assert table["sets"].value_counts().to_dict() == {"given": 6, "permuted": 6}
    fit = api.load(fits[0])
    weights = fit.model.group_weights().weights[:, fit.arrangement.order]
    moved = fit.loadings.to_numpy() * fit.latents.std(axis=0)
    for row in table[table["sets"] == "given"].itertuples():
        place, factor = list(SETS).index(row.gene_set), int(row.factor[1:]) - 1
        genes = [int(gene[1:]) for gene in SETS[row.gene_set]]
        assert row.n_genes == len(genes)
        assert row.weight == pytest.approx(weights[place, factor])
        assert row.effect == pytest.approx(np.sqrt((moved[genes, factor] ** 2).mean()), rel=1e-5)
        assert (row.weight == 0) == (row.effect == 0)


def test_summary_counts_pairs_and_the_report_says_them(fits, tmp_path):
    table = summary_table(fits)
    given = table.iloc[0]
    fit = api.load(fits[0])
    assert given["pairs"] == 6
    assert given["pairs_left"] == (fit.model.group_weights().weights != 0).sum()
    assert given["r2_test"] == pytest.approx(fit.summary["r2"]["test"])
    write_table(table, tmp_path / "t.tsv")
    said = group_sentences(read_table(tmp_path / "t.tsv"), "oi_vae", 3, 0)
    assert said[0].startswith("11 genes are in 2 gene sets")
    assert f"{given['pairs_left']} of 6 pairs" in said[0]
    assert "random genes" in said[1]
    assert group_sentences(table, "vae", 3, 0) == ()
    assert group_sentences(None, "vae", 3, 0) == ()


def test_top_sets_are_shown_once_and_untouched_ones_never():
    table = pd.DataFrame(
        [
            ("f1", "a", 2.0),
            ("f1", "b", 1.0),
            ("f1", "c", 0.0),
            ("f2", "a", 0.5),
            ("f2", "b", 0.0),
            ("f2", "c", 0.0),
        ],
        columns=["factor", "gene_set", "effect"],
    )
    shown = effects(table, max_sets=4)
    assert list(shown.index) == ["a", "b"]
    assert shown.to_numpy().tolist() == [[1, 1], [0.5, 0]]


def test_picture_is_drawn_even_where_nothing_is_left(fits, tmp_path):
    table = weights_table(fits)
    for name, weights in {"some": table, "none": table.assign(weight=0.0, effect=0.0)}.items():
        draw_groups(weights, tmp_path / f"{name}.svg")
        assert "<svg" in (tmp_path / f"{name}.svg").read_text()


def test_a_config_without_gene_sets_is_refused_where_oi_vae_is_listed():
    atlas = {"path": "builtin:pbmc68k_reduced", "cell_type": "bulk_labels"}
    with pytest.raises(InputError, match=r"models\.oi_vae groups genes by gene sets, and atlas 'blood'"):
        load_config({"atlases": {"blood": atlas}, "models": {"oi_vae": {}}})
    load_config({"atlases": {"blood": {**atlas, "gene_sets": ["a.gmt"]}}, "models": {"oi_vae": {}}})
    load_config({"atlases": {"blood": atlas}, "models": {"oi_vae": {"gene_sets": "a.gmt"}}})
