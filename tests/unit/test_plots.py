"""Pictures: same bytes on every run, no pyplot state, and hard cases drawn rather than crashed on."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_fixture import ATTACK, make_factors, make_metrics, make_stability, make_tbr

from latentree.plots import embedding, loadings
from latentree.plots.curves import draw_training
from latentree.plots.embedding import draw_embedding, embed, spread_out, standardised, stratified_rows
from latentree.plots.loadings import draw_loadings, relative, top_genes
from latentree.plots.scores import draw_scores, draw_stability
from latentree.plots.style import (
    SIGNS,
    cell_type_styles,
    drawing,
    fit_title,
    new_figure,
    save,
    series_mark,
    shortened,
)
from latentree.plots.tbr import draw_tbr

SCRIPTS = Path(embedding.__file__).parents[2]
HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3, 4],
        "reconstruction": [9.0, 5.0, 4.0, 3.5],
        "validation_loss": [8.0, 6.0, 6.5, 7.0],
        "cpu_seconds": [0.1, 0.2, 0.3, 0.4],
    }
)


def size_of(path: Path) -> tuple[float, float]:
    """Width and height of an SVG in points; it must be well-formed XML."""
    root = ElementTree.parse(path).getroot()
    return float(root.attrib["width"][:-2]), float(root.attrib["height"][:-2])


def comments_of(path: Path) -> set[str]:
    """The texts of an SVG: matplotlib writes each as a comment before its outlines."""
    return {text.strip() for text in re.findall(r"<!--(.*?)-->", path.read_text(), flags=re.DOTALL)}


def test_47_types_differ_in_colour_or_marker():
    styles = cell_type_styles([f"type {i}" for i in range(47)])
    assert len({(mark.colour, mark.marker) for mark in styles.values()}) == 47
    assert [mark.number for mark in styles.values()] == list(range(1, 48))


@pytest.mark.parametrize("kind", ["protan", "deutan"])
def test_colours_stay_apart_for_red_green_blindness(kind):
    # Machado, Oliveira, Fernandes (2009), severity 1, on linear RGB
    matrices = {
        "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
        "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    }
    colours = list(
        dict.fromkeys(mark.colour for mark in cell_type_styles([str(i) for i in range(7)]).values())
    )
    rgb = np.array([matplotlib.colors.to_rgb(colour) for colour in colours])
    seen = np.clip((rgb**2.2) @ np.array(matrices[kind]).T, 0, 1) ** (1 / 2.2)
    gaps = np.linalg.norm(seen[:, None] - seen[None], axis=2)[np.triu_indices(len(seen), 1)]
    assert gaps.min() > 0.12


def test_ten_lines_and_two_signs_stay_apart():
    assert len({series_mark(i) for i in range(49)}) == 49
    # as red-green blindness sees them, the signs differ in blue and in lightness
    below, above = (np.array(matplotlib.colors.to_rgb(colour)) for colour in SIGNS)
    assert below[2] - above[2] > 0.4
    assert fit_title("pca", 1) == "pca, 1 factor"


def test_the_numbers_of_small_types_stand_beside_their_cells():
    spread = np.random.default_rng(0).random((200, 2))
    assert (spread == embedding._label_place(spread)).all(axis=1).any()
    small = 0.5 + 0.001 * spread
    assert embedding._label_place(small)[1] - small[:, 1].max() > 0.02


def test_a_picture_is_the_same_alone_and_beside_another_file(tmp_path):
    draw_scores(make_metrics((0, 1)), tmp_path / "alone.svg")
    draw_scores(make_metrics((0, 1)), [tmp_path / "both.svg", tmp_path / "both.png"])
    assert (tmp_path / "alone.svg").read_bytes() == (tmp_path / "both.svg").read_bytes()
    assert matplotlib.image.imread(tmp_path / "both.png").shape[1] == 1000


def test_a_subsample_is_said_to_be_one(tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "embed", lambda latents, seed: latents[:, :2])
    draw_embedding(make_factors(n_cells=140), "sparse_vae", tmp_path / "e.svg", max_cells=100)
    assert any("t-SNE of 100 of 140 cells" in text for text in comments_of(tmp_path / "e.svg"))


def test_shortened_puts_names_on_one_line():
    assert shortened("a\n b\tc") == "a b c"
    assert shortened("x" * 40, 10) == "x" * 9 + "…"


def test_every_picture_has_the_same_bytes_twice(tmp_path):
    factors = make_factors()
    for folder in ("one", "two"):
        draw_embedding(factors, "sparse_vae", tmp_path / folder / "e.svg", seed=3)
        draw_loadings(factors, "sparse_vae", tmp_path / folder / "l.svg")
        draw_training(HISTORY, tmp_path / folder / "h.svg")
        draw_scores(make_metrics((0, 1)), tmp_path / folder / "s.svg")
        draw_stability(make_stability((0, 1)), tmp_path / folder / "a.svg")
        draw_tbr(make_tbr(), tmp_path / folder / "t.svg")
    files = sorted((tmp_path / "one").iterdir())
    assert [file.name for file in files] == ["a.svg", "e.svg", "h.svg", "l.svg", "s.svg", "t.svg"]
    for file in files:
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name


def test_drawing_leaves_matplotlib_as_it_was_and_ignores_the_users_settings(tmp_path):
    draw_loadings(make_factors(), "sparse_vae", tmp_path / "plain.svg")
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "none", "axes.facecolor": "red"}):
        draw_loadings(make_factors(), "sparse_vae", tmp_path / "user.svg")
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "plain.svg").read_bytes() == (tmp_path / "user.svg").read_bytes()


def test_no_picture_needs_pyplot():
    modules = ["curves", "embedding", "loadings", "scores", "style", "tbr"]
    code = "import sys; " + "; ".join(f"import latentree.plots.{name}" for name in modules)
    code += "; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, check=False).returncode == 0


def test_a_failing_picture_leaves_no_file(tmp_path):
    with drawing(), pytest.raises(ValueError):
        save(new_figure(1, 1), tmp_path / "x.nonsense")
    assert list(tmp_path.iterdir()) == []


def test_names_are_drawn_as_they_are(tmp_path):
    draw_embedding(make_factors(), "sparse_vae", tmp_path / "e.svg")
    ElementTree.parse(tmp_path / "e.svg")
    texts = {text.replace("&gt;", ">").replace("&lt;", "<") for text in comments_of(tmp_path / "e.svg")}
    # "$x_1$" is no formula, and a leading underscore does not hide a type from the legend
    assert "4  $x_1$ &amp; co" in texts or "4  $x_1$ & co" in texts
    assert "5  _hidden" in texts
    assert f"3  {ATTACK}" in texts


@pytest.mark.parametrize("n_cells", [1, 2, 4, 5, 12])
def test_few_cells_are_drawn(tmp_path, n_cells):
    draw_embedding(make_factors(n_cells=n_cells), "sparse_vae", tmp_path / "e.svg")
    assert size_of(tmp_path / "e.svg")[0] > 200


def test_one_factor_and_47_types_are_drawn(tmp_path):
    types = tuple(f"type {i} with a rather long name" for i in range(47))
    factors = make_factors(n_factors=1, n_cells=141, cell_types=types)
    draw_embedding(factors, "sparse_vae", tmp_path / "e.svg")
    draw_loadings(factors, "sparse_vae", tmp_path / "l.svg")
    width, height = size_of(tmp_path / "e.svg")
    assert width == size_of(tmp_path / "l.svg")[0] < height - 200
    assert {text.split("  ")[0] for text in comments_of(tmp_path / "e.svg") if "  type" in text} == {
        str(i + 1) for i in range(47)
    }


def test_constant_latents_are_said_to_be_constant(tmp_path):
    factors = make_factors()
    factors.obsm["X_sparse_vae"][:] = 2.5
    draw_embedding(factors, "sparse_vae", tmp_path / "e.svg")
    assert any("constant" in text for text in comments_of(tmp_path / "e.svg"))


def test_all_zero_loadings_are_said_to_be_zero(tmp_path):
    factors = make_factors()
    factors.varm["sparse_vae_loadings"][:] = 0
    draw_loadings(factors, "sparse_vae", tmp_path / "l.svg")
    assert "all loadings are zero" in comments_of(tmp_path / "l.svg")


def test_dead_factors_do_not_move_the_cells():
    latents = np.array([[1, 5, 0], [2, 5, 0], [4, 5, 0]], dtype=np.float32)
    used = standardised(latents)
    assert used.shape == (3, 1)
    np.testing.assert_allclose([used.mean(), used.std()], [0, 1], atol=1e-6)


def test_embed_keeps_separate_groups_apart():
    rng = np.random.default_rng(1)
    codes = np.repeat([0, 1], 30)
    latents = (rng.standard_normal((60, 5)) + 20 * codes[:, None]).astype(np.float32)
    places = embed(latents, seed=0)
    own, other = (np.linalg.norm(places - places[codes == c].mean(axis=0), axis=1) for c in (0, 1))
    assert (own < other)[codes == 0].all()
    assert (own > other)[codes == 1].all()
    np.testing.assert_array_equal(places, embed(latents, seed=0))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=8), st.integers(10, 100), st.integers(0, 5))
def test_subsample_takes_its_share_of_each_type(sizes, max_cells, seed):
    codes = np.repeat(np.arange(len(sizes)), sizes)
    rows = stratified_rows(codes, max_cells, seed)
    assert len(rows) == min(max_cells, len(codes))
    assert len(np.unique(rows)) == len(rows)
    taken = np.bincount(codes[rows], minlength=len(sizes))
    assert (taken >= 1).all()
    share = len(rows) / len(codes)
    # each type rounds its share up or down, and the first cell of each is always taken
    assert (np.abs(taken - share * np.array(sizes)) <= 1 + len(sizes) / 2).all()
    np.testing.assert_array_equal(rows, stratified_rows(codes, max_cells, seed))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=25))
def test_numbers_are_moved_apart(places):
    moved = spread_out(np.array(places), 0.05)
    gaps = np.linalg.norm(moved[:, None] - moved[None], axis=2)[np.triu_indices(len(moved), 1)]
    assert np.isfinite(moved).all()
    assert len(gaps) == 0 or gaps.min() > 0.04


def test_numbers_that_do_not_meet_stay():
    places = np.array([[0.1, 0.1], [0.9, 0.9]])
    np.testing.assert_array_equal(spread_out(places, 0.05), places)


def test_top_genes_are_the_largest_of_each_factor():
    table = np.array([[0.0, 3.0], [-5.0, 1.0], [2.0, 0.0], [1.0, -4.0]])
    assert top_genes(table, 4).tolist() == [1, 2, 3, 0]
    assert top_genes(table, 1).tolist() == [1, 3]
    np.testing.assert_allclose(relative(table)[1], [-1.0, 0.25])
    assert loadings.top_genes(np.zeros((4, 2)), 4).tolist() == []


def test_training_names_the_best_epoch_and_skips_times(tmp_path):
    draw_training(HISTORY, tmp_path / "h.svg")
    texts = comments_of(tmp_path / "h.svg")
    assert "validation loss, lowest at epoch 2" in texts
    assert "reconstruction" in texts
    assert not any("seconds" in text for text in texts)


def test_training_with_gaps_or_without_epochs_is_drawn(tmp_path):
    history = HISTORY.assign(reconstruction=np.nan, validation_loss=[np.nan, 2.0, np.nan, 3.0])
    draw_training(history, tmp_path / "gaps.svg")
    assert {"no value", "validation loss, lowest at epoch 2"} <= comments_of(tmp_path / "gaps.svg")
    draw_training(HISTORY.iloc[:0], tmp_path / "none.svg")
    assert "No epochs were recorded." in comments_of(tmp_path / "none.svg")


def test_empty_tables_give_pictures_that_say_so(tmp_path):
    draw_scores(make_metrics(()), tmp_path / "s.svg")
    draw_stability(make_stability((0,), refits=False), tmp_path / "a.svg")
    draw_tbr(make_tbr().iloc[:0], tmp_path / "t.svg")
    assert any("No accuracy" in text for text in comments_of(tmp_path / "s.svg"))
    assert any("Nothing to compare" in text for text in comments_of(tmp_path / "a.svg"))
    assert any("No estimator" in text for text in comments_of(tmp_path / "t.svg"))


def test_stability_has_a_panel_for_each_comparison_that_there_is(tmp_path):
    draw_stability(make_stability((0, 1)), tmp_path / "all.svg")
    draw_stability(make_stability((0,)), tmp_path / "two.svg")
    assert {"disjoint halves", "resamples", "seeds", "varimax k=4"} <= comments_of(tmp_path / "all.svg")
    assert "seeds" not in comments_of(tmp_path / "two.svg")


def test_scores_and_tbr_show_their_references(tmp_path):
    draw_scores(make_metrics((0, 1)), tmp_path / "s.svg")
    draw_tbr(make_tbr(), tmp_path / "t.svg")
    assert {"majority", "chance", "pca k=4", "nmf k=4"} <= comments_of(tmp_path / "s.svg")
    assert {"chance", "its 95th percentile", "noise floor", "baseline", "two_stage"} <= comments_of(
        tmp_path / "t.svg"
    )
