"""Miao et al. 2022, Figure 4: rings, stars and clusters in the plane, InteL-VAE against VAE."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from latentree.fitted import Fit
from latentree.metrics import mmd
from latentree.reproduction.held_out import (
    cells_of,
    fit_on_cpu,
)

N_TRAIN, N_HELD_OUT = 5000, 4000
N_SHOWN = 200
NOISE = 0.05
"""Standard deviation of points around the outlines, which are about 2 wide."""
MMD, OFF_DATA = "mmd", "share off the data"
# what is held out is nearer to other such points in 99 of 100 cases
_FAR_QUANTILE = 0.99
NETWORKS = {
    "hidden": 32,
    "n_layers": 2,
    "dropout": 0.0,
    "kl_warmup": 0.5,
    "learning_rate": 1e-2,
    "batch_size": 100,
    "max_epochs": 30,
    "patience": None,
    "gene_scaling": 1.0,
}
_QUICK_EPOCHS = 2


@dataclass(frozen=True)
class Shape:
    """Points of a shape, ``draw(n_points, rng)`` -> (n_points, 2), and what InteL-VAE is told about it."""

    draw: Callable[[int, np.random.Generator], np.ndarray]
    settings: Mapping[str, Any]


def circle(n_points: int, rng: np.random.Generator) -> np.ndarray:
    """Around the unit circle."""
    angle = rng.uniform(0, 2 * np.pi, n_points)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) + _noise(n_points, rng)


def two_holes(n_points: int, rng: np.random.Generator) -> np.ndarray:
    """Around a figure of eight lying on its side."""
    angle = rng.uniform(0, 2 * np.pi, n_points)
    return np.stack([np.cos(angle), np.sin(angle) * np.cos(angle)], axis=1) + _noise(n_points, rng)


def square(n_points: int, rng: np.random.Generator) -> np.ndarray:
    """Around the sides of a square."""
    return _around(np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]), n_points, rng)


def star(n_points: int, rng: np.random.Generator) -> np.ndarray:
    """Around the sides of a star with five points."""
    angle = np.pi / 2 + np.pi * np.arange(10) / 5
    radius = np.where(np.arange(10) % 2 == 0, 1.0, 0.4)
    return _around(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), n_points, rng)


def mixture(n_points: int, rng: np.random.Generator) -> np.ndarray:
    """Two round clusters, standard deviation .2, ten of these apart."""
    side = np.where(rng.uniform(size=n_points) < 0.5, -1.0, 1.0)
    return np.stack([side, np.zeros(n_points)], axis=1) + 4 * _noise(n_points, rng)


def _around(corners: np.ndarray, n_points: int, rng: np.random.Generator) -> np.ndarray:
    """Evenly along the sides of a polygon (n_corners, 2)."""
    sides = np.roll(corners, -1, axis=0) - corners
    lengths = np.linalg.norm(sides, axis=1)
    side = rng.choice(len(corners), n_points, p=lengths / lengths.sum())
    return corners[side] + rng.uniform(size=(n_points, 1)) * sides[side] + _noise(n_points, rng)


def _noise(n_points: int, rng: np.random.Generator) -> np.ndarray:
    return NOISE * rng.normal(size=(n_points, 2))


SHAPES: Mapping[str, Shape] = {
    "circle": Shape(circle, {"mapping": "circle"}),
    "square": Shape(square, {"mapping": "circle"}),
    "star": Shape(star, {"mapping": "circle"}),
    "two_holes": Shape(two_holes, {"mapping": "two_holes"}),
    "mixture": Shape(mixture, {"mapping": "clusters", "n_clusters": 2, "learn_proportions": False}),
}


def compare(name: str, seed: int, *, quick: bool) -> tuple[dict[str, dict[str, float]], pd.DataFrame]:
    """Fit both models to one data set of a shape.

    Returns
    -------
    Scores by model, and some new points of each model beside the data to draw.
    """
    shape, rng = SHAPES[name], np.random.default_rng(seed)
    shrink = 10 if quick else 1
    cells = cells_of(
        shape.draw(N_TRAIN // shrink, rng).astype(np.float32), np.full(N_TRAIN // shrink, "train")
    )
    held_out = shape.draw(N_HELD_OUT // shrink, rng)
    settings = {**NETWORKS, **({"max_epochs": _QUICK_EPOCHS} if quick else {})}
    scores, shown = {}, []
    for model, its in {"vae": {}, "intel_vae": shape.settings}.items():
        done = fit_on_cpu(cells, model, 2, seed, {**settings, **its})
        new = with_noise(done, len(held_out), seed)
        scores[model] = {MMD: mmd(held_out, new), OFF_DATA: share_off(held_out, new)}
        shown += [_points(f"{name}: {model}", *one) for one in (("data", held_out), ("new points", new))]
    return scores, pd.concat(shown, ignore_index=True)


def with_noise(done: Fit, n_cells: int, seed: int) -> np.ndarray:
    """New cells (n_cells, n_genes) of a fit with the normal likelihood, its noise included."""
    model: Any = done.model
    sd = np.exp(model.module.likelihood.parameter[0].detach().cpu().numpy()) * model.scaling.scale
    means = model.generate(n_cells, seed)
    return means + sd * np.random.default_rng(seed).normal(size=means.shape)


def share_off(reference: np.ndarray, points: np.ndarray) -> float:
    """Share of points farther from the reference (n, d) than 99 in 100 of its own points; .01 at best."""
    neighbours = NearestNeighbors(n_neighbors=2).fit(reference)
    own = neighbours.kneighbors(reference)[0][:, 1]
    far = np.quantile(own, _FAR_QUANTILE)
    return float((neighbours.kneighbors(points, n_neighbors=1)[0][:, 0] > far).mean())


def _points(panel: str, series: str, points: np.ndarray) -> pd.DataFrame:
    shown = points[:N_SHOWN].round(3)
    return pd.DataFrame({"panel": panel, "series": series, "x": shown[:, 0], "y": shown[:, 1]})
