"""Pages of factors: what stands on them is what the tables say, and no text meets another."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from report_fixture import ATTACK, CELL_TYPES, GENES, SETS

from latentree.plots import factor_page
from latentree.plots.factor_page import FactorPage, draw_factor_page, factor_pages
from latentree.plots.style import drawing, fitted, text_inches

K = 30
FIT = ("sparse_vae", K)
LONG = "GOBP_POSITIVE_REGULATION_OF_$TRANSCRIPTION$_BY_RNA_POLYMERASE_II_IN_RESPONSE_TO_STRESS <b>&"
TYPES = [f"{name} of the somatosensory cortex {i}" for i, name in zip(range(47), itertools.cycle(CELL_TYPES))]


def make_tables(types: list[str] = TYPES, n_sets: int = 12, n_genes: int = 40) -> dict[str, pd.DataFrame]:
    """The four tables: f17 of the consensus, and a seed's factor that no page shows."""
    rng = np.random.default_rng(0)
    fit = (*FIT, "consensus", "f17")
    columns = "model n_factors seed factor"
    genes = [(*fit, GENES[i % 40] + "x" * i, 123.4 * rng.normal(), np.nan) for i in range(n_genes)]
    sets = [
        (*fit, "ora", SETS[i % 3] if i % 2 else LONG, 123, 500, 10.0 ** (i - 15), 10.0 ** (i - 14), way, "")
        for i, way in zip(range(n_sets), itertools.cycle(["up", "down", "both"]))
    ]
    usage = [(*fit, name, 103_080, rng.normal(), rng.random()) for name in types]
    tables = {
        "genes": pd.DataFrame(genes, columns=f"{columns} gene loading inclusion".split()),
        "enrichment": pd.DataFrame(
            sets,
            columns=f"{columns} method gene_set n_overlap n_set p_value q_value direction like".split(),
        ),
        "usage": pd.DataFrame(usage, columns=f"{columns} cell_type n_cells mean_usage share_using".split()),
    }
    tables = {name: pd.concat([t, t.assign(seed="0", factor="f1")]) for name, t in tables.items()}
    names = "factor stability_mean stability_lowest seeds_found n_seeds half_agreement chance_95"
    row = ("f17", 0.93, 0.8, 2, 3, 0.85, 0.15, 0.6, 0.5, "no", "a long note of one of the factors " * 20)
    consensus = pd.DataFrame(
        [(*FIT, *row)],
        columns=f"model n_factors {names} pca_reference halves_of_cells stable note".split(),
    )
    return {**tables, "consensus": consensus}


def page_of(tables: dict[str, pd.DataFrame], place: int = 16) -> FactorPage:
    return factor_pages(**tables, fits=[FIT])[place]


@pytest.fixture
def drawn(monkeypatch):
    """Draws a page and gives its figure and its texts."""
    figures = []
    monkeypatch.setattr(factor_page, "save", lambda figure, path, dpi: figures.append(figure))

    def draw(page):
        draw_factor_page(page, "unused.svg")
        with drawing():
            figures[-1].draw_without_rendering()
        texts = texts_of(figures[-1])
        return figures[-1], texts

    return draw


def texts_of(figure: Figure) -> list[Text]:
    """All texts of a figure but the labels of ticks beyond the end of an axis, which are not drawn."""
    texts = set(figure.findobj(Text))
    for axes in figure.axes:
        low, high = axes.get_xlim()
        texts -= {
            label
            for place, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
            if not low <= place <= high
        }
        texts -= set(axes.get_yticklabels())
    return [text for text in texts if text.get_visible() and text.get_text()]


def assert_apart(figure, texts) -> None:
    """No two texts overlap, and none leaves the page."""
    boxes = [text.get_window_extent() for text in texts]
    for text, box in zip(texts, boxes, strict=True):
        assert min(box.x0, box.y0) >= 0, text
        assert box.x1 <= figure.bbox.x1, text
        assert box.y1 <= figure.bbox.y1, text
    for (one, a), (other, b) in itertools.combinations(zip(texts, boxes, strict=True), 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        down = min(a.y1, b.y1) - max(a.y0, b.y0)
        # line heights of small letters may touch
        assert across <= 0.5 or down <= 3, (one, other)


def bars(axes) -> list[float]:
    return [patch.get_width() for patch in axes.patches]


def test_a_fit_has_a_page_for_every_factor_from_the_consensus_alone():
    pages = factor_pages(**make_tables(), fits=[FIT, ("pca", 2)])
    assert [page.factor for page in pages] == [*(f"f{i}" for i in range(1, 31)), "f1", "f2"]
    assert [i for i, page in enumerate(pages) if not page.is_dead] == [16]
    assert len(pages[16].genes) == 40


def test_bars_are_as_long_as_the_tables_say(drawn):
    tables = make_tables(n_sets=3)
    figure, _ = drawn(page_of(tables))
    genes, stability, sets, usage, shares = figure.axes
    loadings = tables["genes"].query("seed == 'consensus'")["loading"]
    top = loadings.reindex(loadings.abs().sort_values(ascending=False).index)[:20]
    assert bars(genes) == pytest.approx(top.tolist())
    # the colour is the sign's
    assert len({patch.get_facecolor() for patch in genes.patches}) == 2
    assert bars(sets) == pytest.approx([14, 13, 12])
    means = tables["usage"].query("seed == 'consensus'").sort_values("mean_usage", ascending=False)
    assert bars(usage) == pytest.approx(means["mean_usage"].tolist())
    assert shares.lines[0].get_xdata() == pytest.approx(100 * means["share_using"].to_numpy())
    marks = [line.get_xdata()[0] for line in stability.lines if line.get_marker() == "o"]
    assert marks == [0.93, 0.85, 0.5]


def test_47_types_and_long_names_stay_apart(drawn):
    figure, texts = drawn(page_of(make_tables()))
    said = [text.get_text() for text in texts]
    assert sum("(103,080)" in text for text in said) == 47
    assert "Top genes (20 of the 40 in genes.tsv)" in said
    assert "Gene sets by over-representation, q < .05 (10 of 12)" in said
    assert {"sparse_vae, 30 factors: f17", "Stable: no. Found by 2 of 3 seeds."} <= set(said)
    assert any(text.startswith("$x_1$ & co of") for text in said)
    assert_apart(figure, texts)


@pytest.mark.parametrize("types", [["only"], [ATTACK, "$x_1$ & co", "日本"], list(CELL_TYPES)])
def test_a_page_with_little_on_it_says_what_is_missing(drawn, types):
    tables = make_tables(types, n_sets=1, n_genes=2)
    tables["usage"]["mean_usage"] = 0.0
    unknown = ["stability_mean", "stability_lowest", "half_agreement", "halves_of_cells", "pca_reference"]
    one_seed = {"seeds_found": 1, "n_seeds": 1, "stable": "unknown", "note": ""}
    tables["consensus"] = tables["consensus"].assign(**dict.fromkeys(unknown, np.nan), **one_seed)
    tables["enrichment"]["q_value"] = 0.2
    figure, texts = drawn(page_of(tables))
    said = {text.get_text() for text in texts}
    assert {"Stable: unknown. One seed only.", "None.", "no refits to halves"} <= said
    assert_apart(figure, texts)


def test_dead_factors_and_lacking_rows_are_said(drawn, tmp_path: Path, monkeypatch):
    tables = make_tables()
    said = {}
    monkeypatch.setattr(factor_page, "save_sentence", lambda text, path, title: said.update({title: text}))
    draw_factor_page(page_of(tables, 2), tmp_path / "f3.svg")
    assert said == {"sparse_vae, 30 factors: f3": "f3 is dead: the model leaves it unused."}
    for name in ("genes", "enrichment", "usage"):
        tables[name] = tables[name].iloc[:0]
    _, texts = drawn(page_of(tables))
    texts = {text.get_text() for text in texts}
    assert {"No gene is listed.", "No gene set was tested.", "No usage is listed."} <= texts


def test_a_page_has_the_same_bytes_twice_and_no_date(tmp_path):
    page = page_of(make_tables(["B"], n_sets=1, n_genes=2))
    for name in ("one", "two"):
        draw_factor_page(page, [tmp_path / f"{name}.svg", tmp_path / f"{name}.png"])
    for suffix in ("svg", "png"):
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()
    assert b"Matplotlib v" not in (tmp_path / "one.png").read_bytes()
    assert "dc:date" not in (tmp_path / "one.svg").read_text()


@pytest.mark.parametrize("name", ["B cell", LONG, "W" * 300, "", " a\n b "])
def test_a_fitted_name_has_its_width_and_keeps_what_comes_after(name):
    text = fitted(name, 7.0, 1.2, after=" (12)")
    assert text.endswith(" (12)")
    assert text_inches(text, 7.0) <= 1.2
    assert ("…" in text) == (len(name) > 20)
