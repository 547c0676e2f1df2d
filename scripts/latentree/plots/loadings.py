"""Heat map of the genes that weigh most in each factor."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from latentree.plots.embedding import alive_factors
from latentree.plots.style import DIVERGING, WIDTH, Target, drawing, fit_title, new_figure, save, shortened


def draw_loadings(
    factors: Any, model: str, path: Target, *, max_genes: int = 60, title: str | None = None
) -> None:
    """Draw the top genes (rows) of all factors (columns) of one fit.

    Parameters
    ----------
    factors
        AnnData of ``factors.h5ad``: varm["{model}_loadings"] (n_genes, n_factors).
    model
        Name of the model.
    path
        SVG or PNG to write, or several files of the same picture.
    max_genes
        Genes drawn at most, shared out evenly among the factors (at least one each).
    title
        Default: the model and its number of factors.
    """
    loadings = np.asarray(factors.varm[f"{model}_loadings"], dtype=float)
    n_factors = loadings.shape[1]
    genes = top_genes(loadings, max_genes)
    names = [shortened(name, 18) for name in factors.var_names[genes]]
    alive = alive_factors(factors, n_factors)
    labels = [f"f{i + 1}" if alive[i] else f"(f{i + 1})" for i in range(n_factors)]
    with drawing():
        figure = new_figure(max(WIDTH, 1.6 + 0.34 * n_factors), 1.5 + max(1.0, 0.155 * len(genes)))
        axes = figure.add_subplot()
        _heat_map(axes, relative(loadings)[genes], names, labels, some_dead=not alive.all())
        axes.set_title(title or f"{fit_title(model, n_factors)}: top genes", pad=8)
        save(figure, path)


def top_genes(loadings: np.ndarray, max_genes: int) -> np.ndarray:
    """Rows of (n_genes, n_factors) to show: the largest of f1, then of f2, ..., none twice, no zero."""
    n_genes, n_factors = loadings.shape
    each = min(n_genes, max(1, max_genes // n_factors))
    order = np.argsort(-np.abs(loadings), axis=0, kind="stable")[:each]
    chosen = [gene for j in range(n_factors) for gene in order[:, j] if loadings[gene, j] != 0]
    return np.array(list(dict.fromkeys(chosen)), dtype=int)


def relative(loadings: np.ndarray) -> np.ndarray:
    """Loadings as a share of the largest of their factor, -1 to 1; factors without any stay zero."""
    largest = np.abs(loadings).max(axis=0, initial=0)
    return loadings / np.where(largest > 0, largest, 1)


def _heat_map(
    axes: Axes, values: np.ndarray, genes: list[str], labels: list[str], *, some_dead: bool
) -> None:
    """Values (n_shown, n_factors) as coloured cells, zero white, first gene on top."""
    if not len(genes):
        axes.text(len(labels) / 2, 0.5, "all loadings are zero", ha="center", va="center")
        values = np.zeros((1, len(labels)))
    mesh = axes.pcolormesh(
        values,
        cmap=DIVERGING,
        vmin=-1,
        vmax=1,
        edgecolors="#e4e4e4",
        linewidth=0.4,
        rasterized=values.size > 3000,
    )
    axes.invert_yaxis()
    axes.xaxis.tick_top()
    axes.set_xticks(np.arange(len(labels)) + 0.5, labels)
    axes.set_yticks(np.arange(len(genes)) + 0.5, genes, fontsize=7)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = axes.figure.colorbar(
        mesh, ax=axes, location="bottom", aspect=30, pad=0.01, shrink=0.9, ticks=[-1, -0.5, 0, 0.5, 1]
    )
    bar.set_label("loading / largest of its factor" + ("; in brackets: dead factors" if some_dead else ""))
    bar.outline.set_visible(False)
