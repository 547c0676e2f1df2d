"""A fit's latents in two dimensions (t-SNE, or another method), coloured by cell type."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from latentree.plots.style import (
    WIDTH,
    Mark,
    Target,
    cell_type_styles,
    drawing,
    fit_title,
    new_figure,
    save,
    say,
    shortened,
)

_LEGEND_COLUMNS = 2
_LEGEND_ROW = 0.19  # inches
_VECTOR_CELLS = 1500  # more cells are drawn as pixels, so that the file stays small
_CANDIDATES = 500  # cells of a type that its number may stand on
_NEAR = 0.06  # how far cells count as near, as a share of the picture's side
_HIDDEN = 0.02  # half the side of a number, as a share of the picture's side
_ABOVE = 0.035
_LABEL_DISTANCE = 0.045  # between two numbers, as a share of the picture's side


def draw_embedding(
    factors: Any,
    model: str,
    path: Target,
    *,
    seed: int = 0,
    max_cells: int = 5000,
    title: str | None = None,
    method: str = "t-SNE",
    place: Callable[[np.ndarray, int], np.ndarray] | None = None,
) -> None:
    """Draw the latents of one fit in two dimensions.

    Parameters
    ----------
    factors
        AnnData of ``factors.h5ad``: obs["cell_type"], obsm["X_{model}"] (n_cells, n_factors).
    model
        Name of the model.
    path
        SVG or PNG to write, or several files of the same picture.
    seed
        Seed of the subsample and of t-SNE.
    max_cells
        Larger atlases are drawn by a subsample, stratified by cell type.
    title
        Default: the model and its number of factors.
    method
        Name of the method, for the title and the axes.
    place
        From standardised latents (n_cells, n_factors) and the seed to places (n_cells, 2); None: t-SNE.
    """
    latents = np.asarray(factors.obsm[f"X_{model}"], dtype=np.float32)
    cell_types = pd.Categorical(factors.obs["cell_type"])
    rows = stratified_rows(np.asarray(cell_types.codes), max_cells, seed)
    used = standardised(latents[:, alive_factors(factors, latents.shape[1])])[rows]
    some = "" if len(rows) == len(latents) else f" of {len(latents):,}"
    title = title or f"{fit_title(model, latents.shape[1])}: {method} of {len(rows):,}{some} cells"
    with drawing():
        names = [str(name) for name in cell_types.categories]
        figure = new_figure(WIDTH, WIDTH + _LEGEND_ROW * (1 + -(-len(names) // _LEGEND_COLUMNS)))
        axes = figure.add_subplot()
        axes.set(xticks=[], yticks=[])
        axes.set_title(title)
        if used.shape[1] == 0:
            say(axes, "All latents are constant: there is nothing to tell cells apart by.")
        else:
            marks = cell_type_styles(names)
            _scatter(axes, (place or embed)(used, seed), np.asarray(cell_types.codes)[rows], marks)
            axes.set(xlabel=f"{method} 1", ylabel=f"{method} 2")
            _add_legend(figure, marks)
        save(figure, path)


def stratified_rows(codes: np.ndarray, max_cells: int, seed: int) -> np.ndarray:
    """Sorted rows of at most ``max_cells`` cells, each type (n_cells,) with its share and at least one."""
    if len(codes) <= max_cells:
        return np.arange(len(codes))
    shuffled = np.random.default_rng(seed).permutation(len(codes))
    types = pd.Series(codes[shuffled])
    # a cell's place among the cells of its type, from 0 to 1: taking the lowest takes the same share of each
    place = (types.groupby(types).cumcount() / types.groupby(types).transform("size")).to_numpy()
    return np.sort(shuffled[np.argsort(place, kind="stable")[:max_cells]])


def alive_factors(factors: Any, n_factors: int) -> np.ndarray:
    """Mask (n_factors,) of the factors that the fit says are alive; all where it says nothing."""
    facts = factors.uns.get("latentree", {}).get("factors")
    if facts is None or "alive" not in facts:
        return np.ones(n_factors, dtype=bool)
    return np.asarray(facts["alive"], dtype=bool)


def standardised(latents: np.ndarray) -> np.ndarray:
    """Columns (n_cells, n_factors) with mean 0 and sd 1, as in the accuracy scores; constant ones dropped."""
    spread = latents.std(axis=0, dtype=np.float64)
    varies = spread > 1e-6 * (np.abs(latents).max(axis=0, initial=0) + 1e-12)
    centred = latents[:, varies] - latents[:, varies].mean(axis=0)
    return (centred / spread[varies]).astype(np.float32)


def embed(latents: np.ndarray, seed: int) -> np.ndarray:
    """Two coordinates (n_cells, 2) per cell: t-SNE started from the first two principal components.

    Fewer than 5 cells have too few neighbours for t-SNE; they are shown by their principal components.
    """
    start = principal_components(latents)
    n_cells = len(latents)
    if n_cells < 5:
        return start
    tsne = TSNE(
        perplexity=min(30.0, (n_cells - 1) / 3),
        # the scale that scikit-learn's own PCA start has
        init=(1e-4 * start / start[:, 0].std()).astype(np.float32),
        random_state=seed,
        n_jobs=1,
    )
    # sums over threads differ in their last bit from run to run
    with threadpool_limits(1):
        return np.asarray(tsne.fit_transform(latents))


def principal_components(latents: np.ndarray) -> np.ndarray:
    """Scores (n_cells, 2) on the first two components, signs fixed; zeros where there is no second."""
    u, s, vt = np.linalg.svd(latents - latents.mean(axis=0), full_matrices=False)
    largest = np.abs(vt).argmax(axis=1)
    signs = np.sign(vt[np.arange(len(vt)), largest])
    scores = np.zeros((len(latents), 2))
    kept = min(2, len(s))
    scores[:, :kept] = (u * s * signs)[:, :kept]
    return scores


def _scatter(axes: Axes, places: np.ndarray, codes: np.ndarray, marks: dict[str, Mark]) -> None:
    """Cells (n_cells, 2), large types first so that small ones lie on top, and each type's number."""
    size = float(np.clip(9000 / len(places), 4, 26))
    by_code = list(marks.values())
    counts = np.bincount(codes[codes >= 0], minlength=len(by_code))
    for code in np.argsort(-counts, kind="stable"):
        mine = places[codes == code]
        axes.scatter(
            mine[:, 0],
            mine[:, 1],
            s=size,
            c=by_code[code].colour,
            marker=by_code[code].marker,
            linewidths=0,
            alpha=0.8,
            rasterized=len(places) > _VECTOR_CELLS,
        )
    shown = np.flatnonzero(counts)
    low, span = places.min(axis=0), np.ptp(places, axis=0) + 1e-9
    centres = np.array([_label_place((places[codes == code] - low) / span) for code in shown])
    for code, place in zip(shown, spread_out(centres, _LABEL_DISTANCE), strict=True):
        x, y = low + place * span
        axes.text(
            x,
            y,
            str(by_code[code].number),
            ha="center",
            va="center",
            weight="bold",
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )


def _label_place(places: np.ndarray) -> np.ndarray:
    """Where the number of a type (n_cells, 2) stands: amid its cells, or above few that it would hide."""
    centre = _densest_cell(places)
    is_hidden = np.median(np.abs(places - centre).max(axis=1)) < _HIDDEN
    return centre + np.array([0, _ABOVE if is_hidden else 0])


def _densest_cell(places: np.ndarray) -> np.ndarray:
    """The cell (2,) with the most others of (n_cells, 2) near it; between two clouds may lie a third."""
    some = places[:: -(-len(places) // _CANDIDATES)]
    gap = some[:, None] - some[None]
    near = ((gap / _NEAR) ** 2).sum(axis=2)
    return some[np.exp(-near / 2).sum(axis=1).argmax()]


def spread_out(places: np.ndarray, distance: float, n_steps: int = 300) -> np.ndarray:
    """Move points (n_points, 2) apart until no two are nearer than ``distance``, as little as it takes."""
    places = places.astype(float).copy()
    for _ in range(n_steps):
        gap = places[:, None] - places[None]
        length = np.sqrt((gap**2).sum(axis=2))
        first, second = np.nonzero(np.triu(length < distance * 0.999, k=1))
        if not len(first):
            break
        direction = gap[first, second]
        # points in one place part in directions that differ from pair to pair
        angle = 2.4 * np.arange(len(first))
        together = length[first, second] < 1e-9
        direction[together] = np.column_stack([np.cos(angle), np.sin(angle)])[together]
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        push = direction * ((distance - length[first, second]) / 2)[:, None]
        np.add.at(places, first, push)
        np.add.at(places, second, -push)
    return places


def _add_legend(figure: Figure, marks: dict[str, Mark]) -> None:
    """Number, mark and name of every type, below the cells."""
    handles = [
        Line2D([], [], linestyle="", marker=mark.marker, color=mark.colour, markersize=6)
        for mark in marks.values()
    ]
    labels = [f"{mark.number}  {shortened(name)}" for name, mark in marks.items()]
    figure.legend(
        handles, labels, loc="outside lower left", ncols=_LEGEND_COLUMNS, fontsize=8, handletextpad=0.2
    )
