"""Ainsworth et al. 2018: bars (section 4.1), and what groups are worth with little data (Table 2)."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd

from latentree.fitted import Fit
from latentree.models.oi_vae import OIVAEModel
from latentree.reproduction.averages import average
from latentree.reproduction.cell_data import prepared
from latentree.reproduction.held_out import (
    cells_of,
    few_epochs,
    fit_on_cpu,
    rows_of,
)
from latentree.reproduction.records import Measurement, Row, Scale
from latentree.reproduction.rows import RowMaker
from latentree.reproduction.sources import GENE_SETS, OI_PAPER, ZHENG

NAME = "oi"
PROTOCOL = """\
Bars: 2,048 images of 8 x 8 pixels in which one row is .5, noise .05, a group for each row, 8 or 16 latents,
lambda 1 or 0; 10 data sets. A linear decoder of width 1 as in the paper's code, pixels as z-scores, 50 epochs
(1,600 steps), W by proximal steps in Adam's metric, started at orthogonal factors; the code takes 20,000
plain gradient steps of 1e-4. Encoder with two hidden layers of 50. Little data: sorted blood cells (Zheng et
al. 2017) instead of motion capture, as z-scores, those of 1,000 genes that a tenth of the cells have, GO
processes as groups, 16 latents; a tenth of the cells given is for early stopping, KL is on after 5% of about
1,200 steps. Mean log p (importance-weighted, 64 draws) of held-out cells, in nats per cell; permuted: groups
of the same sizes with random genes. 3 draws of the cells, each with held-out cells of its own. Table 2's
signs are lost in the copy at hand; the prose says that limited data favour the groups."""

FIRST_SEED = 100
"""Of data sets and fits; settings were chosen on others."""
FIRST_SPLIT = 5000
"""Of the cells, a split for each draw; defaults were chosen with a look at splits from 0 on."""
N_BARS, N_DRAWS = 10, 3
LEAST_SEEN = 0.1
N_ROWS, N_IMAGES = 8, 2048
LAMBDAS = (1.0, 0.0)
ONE_TO_ONE, EMPTY, PAIRS = "latents and rows one to one", "latents with zero columns", "pairs left"
LOG_LIKELIHOOD = "held-out log p"
VAE, GROUPS, PERMUTED = "vae", "oi_vae", "oi_vae, permuted sets"
SIZES, N_FACTORS, N_STEPS = (100, 250, 500, 1500), 16, 1200
_BATCH_SIZE = 64
# KL is on early, because only epochs after that can be the best one, and 100 cells are soon learned by heart
_FEW_CELLS: Mapping[str, Any] = {"batch_size": _BATCH_SIZE, "kl_warmup": 0.05, "patience": 50}
_BARS: Mapping[str, Any] = {
    "decoder": "linear",
    "width": 1,
    "theta_weight": 1.0,
    "lam_by_size": False,
    "hidden": 50,
    "dropout": 0.0,
    "learning_rate": 1e-2,
    "max_epochs": 50,
    "patience": None,
}


def run(part: str, scale: Scale) -> list[Measurement]:
    """``bars8``, ``bars16``, or cells by the number trained on, ``cells100``."""
    if part.startswith("bars"):
        return list(_run_bars(int(part.removeprefix("bars")), scale))
    assert scale.data is not None
    return list(_run_cells(int(part.removeprefix("cells")), scale.data, scale))


def bars(seed: int, n_images: int = N_IMAGES) -> np.ndarray:
    """(n_images, 64) float32 images of 8 x 8 pixels: a row of .5 on 0, and noise of sd .05."""
    rng = np.random.default_rng(seed)
    images = np.zeros((n_images, N_ROWS, N_ROWS))
    images[np.arange(n_images), rng.integers(0, N_ROWS, n_images)] = 0.5
    return (images + rng.normal(0, 0.05, images.shape)).reshape(n_images, -1).astype(np.float32)


def fit_bars(seed: int, n_factors: int, lam: float, n_images: int = N_IMAGES, **given: Any) -> np.ndarray:
    """Weights (8 rows, n_factors) of the model with rows as groups."""
    images = cells_of(bars(seed, n_images), np.full(n_images, "train"))
    rows = {f"row {r + 1}": tuple(images.var_names[r * N_ROWS : (r + 1) * N_ROWS]) for r in range(N_ROWS)}
    settings = {**_BARS, "lam": lam, "gene_sets": rows, **given}
    model = fit_on_cpu(images, "oi_vae", n_factors, seed, settings).model
    assert isinstance(model, OIVAEModel)
    weights = model.group_weights()
    return weights.weights[np.argsort(weights.names)]


def one_to_one(weights: np.ndarray) -> bool:
    """Whether each row (axis 0) has one latent of its own, and the other latents none."""
    used = weights != 0
    return bool((used.sum(axis=1) == 1).all() and (used.sum(axis=0) <= 1).all())


def _run_bars(n_factors: int, scale: Scale) -> Iterator[Measurement]:
    for seed in range(FIRST_SEED, FIRST_SEED + (1 if scale.quick else N_BARS)):
        for lam in LAMBDAS:
            weights = fit_bars(seed, n_factors, lam, **few_epochs(scale.quick))
            judged = {
                ONE_TO_ONE: float(one_to_one(weights)),
                EMPTY: float((weights == 0).all(axis=0).sum()),
                PAIRS: float((weights != 0).sum()),
            }
            for metric, value in judged.items():
                yield Measurement(NAME, _bars_setting(n_factors), f"lambda {lam:g}", metric, seed, value)


def _bars_setting(n_factors: int) -> str:
    return f"bars, {n_factors} latents"


def _run_cells(n_cells: int, data: Path, scale: Scale) -> Iterator[Measurement]:
    sets = str(data / GENE_SETS)
    models: Mapping[str, tuple[str, Mapping[str, Any]]] = {
        VAE: ("vae", {"gene_scaling": 1.0}),
        GROUPS: ("oi_vae", {"gene_sets": sets}),
        PERMUTED: ("oi_vae", {"gene_sets": sets, "permuted": True}),
    }
    epochs = {"max_epochs": math.ceil(N_STEPS / math.ceil(0.9 * n_cells / _BATCH_SIZE))}
    for seed in range(FIRST_SEED, FIRST_SEED + (1 if scale.quick else N_DRAWS)):
        cells = with_frequent_genes(prepared(data / ZHENG, split=FIRST_SPLIT + seed - FIRST_SEED))
        few = with_few_cells(cells, n_cells, seed)
        for label, (model, given) in models.items():
            settings = {**_FEW_CELLS, **epochs, **given, **few_epochs(scale.quick)}
            done: Fit = fit_on_cpu(few, model, N_FACTORS, seed, settings)
            value = done.summary["log_likelihood"]["test"]
            yield Measurement(NAME, _cells_setting(n_cells), label, LOG_LIKELIHOOD, seed, value)


def _cells_setting(n_cells: int) -> str:
    return f"{n_cells} cells"


def with_frequent_genes(cells: anndata.AnnData) -> anndata.AnnData:
    """The cells with those modelled genes that a tenth of the cells to draw from have.

    A gene that 100 cells happen to lack looks constant, and its first value in another cell costs more log p
    than all else together.
    """
    seen = np.asarray((cells[cells.obs["split"] != "test"].X > 0).mean(axis=0)).ravel()
    frequent = cells.copy()
    frequent.var["modelled"] &= seen >= LEAST_SEEN
    return frequent


def with_few_cells(cells: anndata.AnnData, n_cells: int, seed: int) -> anndata.AnnData:
    """Some random cells to train on, a tenth of them for validation, and all test cells."""
    others = np.flatnonzero(cells.obs["split"] != "test")
    drawn = np.random.default_rng(seed).permutation(others)[:n_cells]
    split = np.full(cells.n_obs, "test", dtype=object)
    split[drawn], split[drawn[: n_cells // 10]] = "train", "validation"
    chosen = np.sort(np.r_[drawn, rows_of(cells, "test")])
    few = cells[chosen].copy()
    few.obs["split"] = pd.Categorical(split[chosen])
    return few


def summarise(measurements: pd.DataFrame) -> list[Row]:
    """The paper's claims beside what was measured."""
    maker = RowMaker(OI_PAPER, NAME, measurements)
    rows = []
    for n_factors in (8, 16):
        setting = _bars_setting(n_factors)
        for lam in LAMBDAS:
            found = maker.average(setting, f"lambda {lam:g}", ONE_TO_ONE)
            if found.n:
                said = "one to one, here at least 90%" if lam > 0 else "not one to one, here at most 10%"
                agrees = found.mean >= 0.9 if lam > 0 else found.mean <= 0.1
                rows.append(
                    maker.verdict(
                        f"{setting}: lambda {lam:g}",
                        ONE_TO_ONE,
                        f"{said} (figure only)",
                        found,
                        agrees,
                        "share of the data sets",
                    )
                )
        found = maker.average(setting, "lambda 1", EMPTY)
        if n_factors > N_ROWS and found.n:
            agrees = found.mean >= n_factors - N_ROWS - 0.5
            said = f"{n_factors - N_ROWS} (figure only), here at least {n_factors - N_ROWS - 0.5:g}"
            rows.append(maker.verdict(f"{setting}: lambda 1", EMPTY, said, found, agrees, "some stay in use"))
    for setting in maker.settings():
        if setting.startswith("bars"):
            continue
        rows += [
            maker.value(setting, model, LOG_LIKELIHOOD, "other data", explanation="motion capture, not cells")
            for model in maker.models(setting)
        ]
        if setting in (_cells_setting(100), _cells_setting(250)):
            rows += maker.difference(
                setting,
                LOG_LIKELIHOOD,
                GROUPS,
                VAE,
                above=True,
                published="above 0 with little data (Table 2)",
                explanation="perhaps a network over all genes tells held-out cells better; not tested",
            )
        rows += _over_permuted(maker, setting)
    return rows


def _over_permuted(maker: RowMaker, setting: str) -> list[Row]:
    """What real sets give over random ones, which the paper does not ask."""
    measured = maker.measurements
    at = measured[(measured["setting"] == setting) & (measured["metric"] == LOG_LIKELIHOOD)]
    by_model = at.pivot(index="seed", columns="model", values="value")
    if not {GROUPS, PERMUTED} <= set(by_model.columns):
        return []
    found = average(by_model[GROUPS] - by_model[PERMUTED])
    explanation = "not in the paper: our control"
    return [
        maker.row(f"{setting}: {GROUPS} - {PERMUTED}", LOG_LIKELIHOOD, "none", found, explanation=explanation)
    ]
