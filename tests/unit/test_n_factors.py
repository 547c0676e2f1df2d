"""A number of factors is recommended by the stated rule, and not where there is nothing to choose from."""

import pandas as pd
import pytest

from latentree.config import load_config
from latentree.files import read_table, write_table
from latentree.models_config import AUTO_N_FACTORS
from latentree.n_factors import N_FACTORS_COLUMNS, n_factors_table
from latentree.plots.n_factors import draw_n_factors

NUMBERS = (4, 6, 8, 10)
# a mean per number of factors, best at 10, where 8 lacks 3% of the gain and 6 a third
FITS = {4: -200.0, 6: -150.0, 8: -104.5, 10: -100.0}


def metrics(values=FITS, model="vae", metric="log_likelihood", split="validation", sd=0.01) -> pd.DataFrame:
    rows = [
        ("a", model, k, seed, name, part, value)
        for k, mean in values.items()
        for seed in (0, 1, 2)
        for name, part, value in ((metric, split, mean + sd * (seed - 1)), ("alive_factors", "none", k - 1.0))
    ]
    rows += [("a", model, k, "consensus", "alive_factors", "none", 1.0) for k in values]
    columns = ["atlas", "model", "n_factors", "seed", "metric", "split", "value"]
    return pd.DataFrame(rows, columns=columns)


def stability(levels: dict[str, dict[int, float]]) -> pd.DataFrame:
    rows = [
        (model, k, "halves", factor, value)
        for model, by_k in levels.items()
        for k, value in by_k.items()
        for factor in ("all", "f1")
    ]
    return pd.DataFrame(rows, columns=["model", "n_factors", "comparison", "factor", "agreement"])


def consensus(numbers=NUMBERS, model="vae") -> pd.DataFrame:
    rows = [(model, k, "all", 0.9, "") for k in numbers]
    rows += [(model, k, f"f{i}", 0.9, "yes" if i <= 5 else "no") for k in numbers for i in range(1, k)]
    rows += [(model, k, "x1", 0.9, "yes") for k in numbers]
    return pd.DataFrame(rows, columns=["model", "n_factors", "factor", "half_agreement", "stable"])


def enrichment(*rows) -> pd.DataFrame:
    columns = ["model", "n_factors", "seed", "factor", "method", "q_value"]
    return pd.DataFrame(list(rows), columns=columns)


def recommended(table: pd.DataFrame) -> list[int]:
    return table.loc[table["recommended"] == "yes", "n_factors"].tolist()


def made(m=None, s=None, e=None, numbers=NUMBERS) -> pd.DataFrame:
    return n_factors_table(
        [("vae", k) for k in numbers],
        metrics() if m is None else m,
        stability({}) if s is None else s,
        consensus(),
        enrichment() if e is None else e,
    )


def test_the_smallest_within_five_percent_of_the_gain_is_recommended():
    table = made()
    assert list(table.columns) == N_FACTORS_COLUMNS
    assert recommended(table) == [8]
    assert table["score"].to_numpy() == pytest.approx([0, 0.5, 0.955, 1])
    assert set(table["fit_metric"]) == {"log_likelihood (validation)"}
    assert table["held_out_sd"].to_numpy() == pytest.approx(0.01)
    note = table.loc[2, "note"]
    assert "no refits to halves" in note
    assert "with 10 factors 9 are alive, 5 of them stable" in note


def test_one_standard_error_widens_the_tolerance():
    # 3 seeds: an error of 60 covers what 6 lacks, and not what 4 lacks
    assert recommended(made(metrics(sd=104.0))) == [6]


def test_an_unstable_number_is_no_candidate():
    level = dict.fromkeys(NUMBERS, 0.9)
    levels = {
        "vae": level | {8: 0.7},
        "pca": dict.fromkeys(NUMBERS, 0.6),
        "varimax": dict.fromkeys(NUMBERS, 0.8),
    }
    table = made(s=stability(levels))
    assert recommended(table) == [10]
    assert "the largest of the grid" in table.loc[3, "note"]
    assert set(table["reference_halves"]) == {0.8}
    # where none is as stable as the reference, held-out fit alone
    worse = made(s=stability(levels | {"vae": dict.fromkeys(NUMBERS, 0.5)}))
    assert recommended(worse) == [8]
    assert "no number of factors is as stable" in worse.loc[2, "note"]


def test_a_fit_that_does_not_gain_keeps_the_smallest():
    assert recommended(made(metrics(dict.fromkeys(NUMBERS, -3.0)))) == [4]
    assert recommended(made(metrics({4: -1.0, 6: -2.0, 8: -3.0, 10: -4.0}))) == [4]


def test_r2_and_test_cells_stand_in_where_nothing_else_is_known():
    assert set(made(metrics(metric="r2"))["fit_metric"]) == {"r2 (validation)"}
    table = made(metrics(split="test"))
    assert set(table["fit_metric"]) == {"log_likelihood (test)"}
    nothing = made(metrics(metric="accuracy"))
    assert recommended(nothing) == []
    assert "not known for every number" in nothing.loc[3, "note"]


def test_one_number_leaves_nothing_to_choose():
    table = made(numbers=(8,))
    assert recommended(table) == []
    assert "nothing to choose from" in table.loc[0, "note"]


def test_the_enriched_share_is_over_live_factors_of_all_seeds():
    rows = [("vae", 4, "0", "f1", "ora", 0.01), ("vae", 4, "0", "f1", "ora", 0.02)]
    rows += [("vae", 4, "1", "f2", "ora", 0.01), ("vae", 4, "1", "f3", "ora", 0.2)]
    rows += [("vae", 4, "consensus", "f1", "ora", 0.01), ("vae", 4, "2", "f1", "gsea", 0.01)]
    table = made(e=enrichment(*rows))
    assert table.loc[0, "enriched_share"] == pytest.approx(2 / 9)
    assert table.loc[1, "enriched_share"] == 0
    assert made()["enriched_share"].isna().all()


def test_the_table_comes_back_as_written_and_is_drawn(tmp_path):
    table = made()
    write_table(table, tmp_path / "n_factors.tsv")
    back = read_table(tmp_path / "n_factors.tsv")
    pd.testing.assert_frame_equal(back, table, check_dtype=False, rtol=1e-7)
    for name, rows in (("some.svg", back), ("none.svg", back[:1])):
        draw_n_factors(rows, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 2000


def test_auto_is_a_grid_of_numbers():
    values = {
        "atlases": {"a": {"path": "builtin:pbmc68k_reduced", "cell_type": "bulk_labels"}},
        "models": {"pca": {"n_factors": "auto"}, "nmf": {"n_factors": [3, 7]}},
    }
    config = load_config(values)
    assert config.models.pca.n_factors == AUTO_N_FACTORS
    assert config.models.nmf.n_factors == [3, 7]
    assert load_config(config.model_dump(mode="json")) == config
