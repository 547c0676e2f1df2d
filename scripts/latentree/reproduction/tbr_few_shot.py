"""Environments that a fit has not seen, from a few cells: what sparse changes save."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from latentree.reproduction.records import Measurement, Row, Scale
from latentree.reproduction.rows import RowMaker
from latentree.reproduction.tbr_fits import FIRST_SEED, Drawn, Setting, draw_cells, fit_drawn
from latentree.seeds import derive_seed
from latentree.tbr import TBRFit
from latentree.tbr.adaptation import (
    Method,
    adapted_weights,
    change_penalty,
    change_size,
    residual_variance,
)

SHOTS = (5, 10, 20)
N_HELD_OUT, N_DRAWS, N_SETS = 16, 10, 5
ERROR = "median nmse"
SPARSE, UNROTATED, TURNED = "sparse change", "sparse change, unrotated", "sparse change, randomly turned"
SQUARES, NO_CHANGE = "least squares", "no change"
_PANEL = "few shots"
_SETTING = Setting("held-out leaves")


def run_few_shot(name: str, scale: Scale) -> tuple[list[Measurement], list[dict[str, Any]]]:
    """Measurements of the experiment ``name``, and what the picture shows of them."""
    measured = []
    for seed in range(FIRST_SEED, FIRST_SEED + (1 if scale.quick else N_SETS)):
        drawn = draw_cells(_SETTING, seed, scale)
        held_out = held_out_leaves(drawn, seed, 4 if scale.quick else N_HELD_OUT)
        seen = without(drawn, held_out)
        fit = fit_drawn(seen, "two_stage", seed, scale)
        for shots, model, value in few_shot_errors(fit, seen, held_out, seed, 2 if scale.quick else N_DRAWS):
            measured.append(Measurement(name, _setting(shots), model, ERROR, seed, value))
    shown = [
        {"panel": _PANEL, "variant": "", "model": one.model, "x": shots, "seed": one.seed, "value": one.value}
        for shots in SHOTS
        for one in measured
        if one.setting == _setting(shots)
    ]
    return measured, shown


def _setting(shots: int) -> str:
    return f"{_SETTING.name}, {shots} cells"


def held_out_leaves(drawn: Drawn, seed: int, n: int) -> list[str]:
    """Random leaves; their parents are observed and differ from them in one effect."""
    tree = drawn.cells.tree
    leaves = np.array(tree.names)[tree.is_leaf]
    rng = np.random.default_rng(derive_seed(seed, "tbr", "held out"))
    return sorted(rng.choice(leaves, n, replace=False).tolist())


def without(drawn: Drawn, environments: list[str]) -> Drawn:
    """The same without these environments' cells among those to fit and to choose by."""
    keep = ~np.isin(drawn.cells.environments, environments)
    train, validation = (rows[keep[rows]] for rows in (drawn.train, drawn.validation))
    return replace(drawn, train=train, validation=validation)


def few_shot_errors(
    fit: TBRFit, drawn: Drawn, held_out: list[str], seed: int, n_draws: int
) -> Iterator[tuple[int, str, float]]:
    """Number of cells shown, method, and its squared error on the leaf's other cells over their variance.

    Medians over leaves and draws of the cells. The latents are those of ``fit``, the same ones as they were
    before the rotation, and the same ones under a random rotation; predictions without cells of the leaf are
    the same for all three. The penalty of a change is from cells and changes of the environments seen.
    """
    cells = drawn.cells
    rows = drawn.validation
    noise = residual_variance(fit, cells.X[rows], cells.y[rows], cells.environments[rows])
    turned = random_rotation(fit.weights.shape[1], seed)
    frames: tuple[tuple[str, Method, np.ndarray], ...] = (
        (SPARSE, "lasso", np.eye(len(turned))),
        (UNROTATED, "lasso", fit.unmixing),
        (TURNED, "lasso", turned),
        (SQUARES, "ols", np.eye(len(turned))),
        (NO_CHANGE, "zero_shot", np.eye(len(turned))),
    )
    leaves = [_Leaf.of(fit, drawn, name) for name in held_out]
    for shots in SHOTS:
        for model, method, mixing in frames:
            back = np.linalg.inv(mixing)
            penalty = change_penalty(noise, change_size(fit, mixing))
            errors = []
            for i, leaf in enumerate(leaves):
                rng = np.random.default_rng(derive_seed(seed, "tbr", "shots", shots, i))
                for _ in range(n_draws):
                    shown = rng.permutation(len(leaf.y)) < shots
                    # latents mixing @ z have weights that are mixed back
                    weights, _ = adapted_weights(
                        leaf.Z[shown] @ mixing.T,
                        leaf.y[shown],
                        leaf.start @ back,
                        method=method,
                        penalty=penalty,
                    )
                    rest = leaf.y[~shown] - leaf.Z[~shown] @ mixing.T @ weights
                    errors.append(np.mean(rest**2) / leaf.y[~shown].var())
            yield shots, model, float(np.median(errors))


@dataclass(frozen=True)
class _Leaf:
    """Latents and phenotype of a held-out leaf's cells, and the weights of the nearest environment seen."""

    Z: np.ndarray
    y: np.ndarray
    start: np.ndarray

    @classmethod
    def of(cls, fit: TBRFit, drawn: Drawn, name: str) -> "_Leaf":
        rows = np.flatnonzero(drawn.cells.environments == name)
        source = fit.tree.nearest(name, list(fit.weights.index))
        latents = fit.latents(drawn.cells.X[rows]).astype(np.float64)
        return cls(latents, drawn.cells.y[rows].astype(np.float64), fit.weights.loc[source].to_numpy())


def random_rotation(size: int, seed: int) -> np.ndarray:
    """Uniform over orthogonal matrices of this size."""
    rng = np.random.default_rng(derive_seed(seed, "tbr", "turned"))
    rotation, triangle = np.linalg.qr(rng.normal(size=(size, size)))
    # the signs make it uniform (Mezzadri 2007)
    turned: np.ndarray = rotation * np.sign(np.diag(triangle))
    return turned


def few_shot_rows(make: RowMaker) -> Iterator[Row]:
    """The paper's argument for transfer (its experiment is on cells, and shows no cell of the new type)."""
    said = "below 0 (the paper's argument, section 4.1; not its experiment)"
    for shots in SHOTS:
        setting = _setting(shots)
        for other in (UNROTATED, TURNED, SQUARES, NO_CHANGE):
            note = f"{make.average(setting, SPARSE, ERROR).mean:.2g} against"
            note += f" {make.average(setting, other, ERROR).mean:.2g}"
            yield from make.difference(setting, ERROR, SPARSE, other, above=False, published=said, note=note)
