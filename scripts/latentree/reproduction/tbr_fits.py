"""One fit of the TBR paper's simulation: cells with a known truth, an estimator, its scores on test cells."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from latentree.metrics import ate_error, mcc, span_r2
from latentree.reproduction.records import Scale
from latentree.seeds import derive_seed
from latentree.simulate import SimulatedEnvironments, simulate_environments
from latentree.tbr import Estimator, TBRFit, fit_tbr

N_LATENTS = 5
FIRST_SEED = 7000
"""Of data sets and fits; the estimators were developed on others."""
N_CELLS = 152_400
"""Of a data set, shared out among its environments: 600 for each of 254."""
FULL_CELLS = 762_000
"""The paper's 3,000 for each of 254."""
QUICK_CELLS, _QUICK_DEPTH = 6000, 4

MCC, SPAN, MSE, OVER_FLOOR = "mcc", "span r2", "mse", "mse / noise"
ATE, RANK, SECONDS = "ate error", "rank of the weights", "cpu seconds"
SINGULAR = "singular value"
MOST_LATENTS = 8
"""That are fitted where their true number is looked for."""

_BASE: Mapping[str, Any] = {"intercept": "none", "phi": "large"}
# fewer than the library's defaults, because the study is of hundreds of fits
_STEPS: Mapping[str, Mapping[str, int]] = {
    "baseline": {"n_steps": 500},
    "joint": {"n_steps": 800, "n_finetune_steps": 500},
    "two_stage": {"n_steps": 800, "n_finetune_steps": 500},
}
_QUICK: Mapping[str, int] = {"n_steps": 40, "n_finetune_steps": 20, "n_restarts": 4}


@dataclass(frozen=True)
class Place:
    """Where a metric of one setting is drawn; ``variant`` sets settings of one panel apart, such as "k 1"."""

    panel: str
    x: float
    variant: str = ""
    metric: str = MCC


@dataclass(frozen=True)
class Setting:
    """How cells are simulated, and where their scores are drawn.

    Attributes
    ----------
    name
        In the tables.
    n_changes, probability
        As in :func:`~latentree.simulate.sparse_changes`.
    full
        The paper's number of cells and the library's number of steps.
    """

    name: str
    places: tuple[Place, ...] = ()
    depth: int = 7
    observed: Literal["non-root", "leaves"] = "non-root"
    n_latents: int = N_LATENTS
    n_changes: int | None = 1
    probability: float | None = None
    psi: Literal["mlp", "linear"] = "mlp"
    full: bool = False


@dataclass(frozen=True)
class Drawn:
    """Simulated cells and rows to fit, to choose by and to score on: halves and quarters, as in the paper."""

    cells: SimulatedEnvironments
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def n_environments(depth: int, observed: str) -> int:
    """Observed environments of a balanced binary tree."""
    return 2**depth if observed == "leaves" else 2 ** (depth + 1) - 2


def draw_cells(setting: Setting, seed: int, scale: Scale) -> Drawn:
    """The cells of one repetition; shallow trees and few cells in the quick variant."""
    depth = min(setting.depth, _QUICK_DEPTH) if scale.quick else setting.depth
    total = QUICK_CELLS if scale.quick else FULL_CELLS if setting.full else N_CELLS
    cells = simulate_environments(
        depth,
        setting.n_latents,
        n_changes=setting.n_changes,
        probability=setting.probability,
        n_cells=total // n_environments(depth, setting.observed),
        observed=setting.observed,
        psi=setting.psi,
        seed=seed,
    )
    order = np.random.default_rng(derive_seed(seed, "tbr", "paper split")).permutation(len(cells.y))
    half, three_quarters = len(order) // 2, 3 * len(order) // 4
    return Drawn(cells, order[:half], order[half:three_quarters], order[three_quarters:])


def fit_drawn(
    drawn: Drawn,
    estimator: Estimator,
    seed: int,
    scale: Scale,
    n_latents: int | None = None,
    *,
    full: bool = False,
) -> TBRFit:
    """Fit one estimator to the training rows, with as many latents as there are where none are asked for."""
    cells = drawn.cells
    steps = _QUICK if scale.quick else {} if full else _STEPS[estimator]
    return fit_tbr(
        cells.X,
        cells.y,
        cells.environments,
        cells.tree,
        n_latents or cells.Z.shape[1],
        estimator,
        seed,
        {**_BASE, **steps},
        train=drawn.train,
        validation=drawn.validation,
    )


def scored(
    drawn: Drawn, estimator: Estimator, seed: int, scale: Scale, n_latents: int | None, full: bool
) -> dict[str, float]:
    """One fit's scores on the test cells.

    Where another number of latents is fitted than there are also the singular values of the weights, as
    shares of the largest.
    """
    started = time.process_time()
    fit = fit_drawn(drawn, estimator, seed, scale, n_latents, full=full)
    seconds = time.process_time() - started
    scores = {**judged(fit, drawn, seed), RANK: float(fit.rank), SECONDS: seconds}
    if n_latents is not None:
        shares = fit.singular_values / fit.singular_values[0]
        scores |= {f"{SINGULAR} {i + 1}": float(share) for i, share in enumerate(shares)}
    return scores


def judged(fit: TBRFit, drawn: Drawn, seed: int) -> dict[str, float]:
    """Latents, phenotype and effects of the test cells against the truth."""
    cells, test = drawn.cells, drawn.test
    Z, y, environments = cells.Z[test], cells.y[test], cells.environments[test]
    Z_hat = fit.latents(cells.X[test])
    error = float(np.mean((fit.predict(cells.X[test], environments) - y) ** 2))
    return {
        MCC: mcc(Z, Z_hat),
        SPAN: span_r2(Z, Z_hat),
        MSE: error,
        OVER_FLOOR: error / float(np.mean((cells.signal[test] - y) ** 2)),
        ATE: ate_error(Z, Z_hat, y, environments, seed=seed),
    }


def marks(
    setting: Setting, n_latents: int | None, model: str, seed: int, scores: Mapping[str, float]
) -> Iterator[dict[str, Any]]:
    """What the picture shows of one fit: rows panel, variant, model, x, seed, value."""
    for place in setting.places:
        shown = {place.x: scores.get(place.metric, np.nan)}
        if place.metric == SINGULAR:
            shown = _spectrum(scores)
        elif n_latents is not None:
            shown = {float(n_latents): scores[place.metric]}
        for x, value in shown.items():
            yield {
                "panel": place.panel,
                "variant": place.variant,
                "model": model,
                "x": x,
                "seed": seed,
                "value": value,
            }


def _spectrum(scores: Mapping[str, float]) -> dict[float, float]:
    """Singular values by number, of the fits with the most latents only."""
    found = {
        float(name.removeprefix(SINGULAR)): value
        for name, value in scores.items()
        if name.startswith(SINGULAR)
    }
    return found if len(found) == MOST_LATENTS else {}
