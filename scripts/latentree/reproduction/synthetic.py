"""Sparse VAE paper, Figure 3: seven features of two correlated factors (1,000 cells, half held out)."""

from collections.abc import Iterator, Mapping
from typing import Any

import anndata
import numpy as np
import pandas as pd

from latentree.fitted import Fit
from latentree.metrics import dci_16_points, dci_disentanglement
from latentree.reproduction.averages import average, values_of
from latentree.reproduction.held_out import (
    drawn_reconstruction,
    few_epochs,
    fit_on_cpu,
    fit_stack_on_cpu,
    is_alive,
    reconstruction,
    rows_of,
    split_in_half,
    wrong_entries,
)
from latentree.reproduction.records import FIGURE_ONLY, Measurement, Row, Scale
from latentree.reproduction.rows import RowMaker
from latentree.reproduction.sources import SPARSE_VAE_PAPER
from latentree.synthetic import SyntheticData, paper_data

NAME = "synthetic"
PROTOCOL = """\
1,000 cells, 7 features, 2 true factors with correlation rho, 5 factors fitted, 25 data sets per rho, half of
the cells held out. `sparse_vae` has the library's defaults (fitted as one stack), `sparse_vae_paper` the
paper's objective with the schedule of its code; `vae`, `beta_vae` (beta 2) and `vsc` have the layers,
learning rate, batches and epochs of the paper's VAE. Errors are of one draw from each cell's posterior, as in
the paper's code; the noise alone has variance 0.25. A few cells far from all others decide a mean error, so
that claims are about logarithms of errors. DCI on all held-out cells, and on 16 of them, as the paper's code
does. "W entries wrong": of 35, every entry of a factor that no true one is matched to should be zero. A fit
that keeps no factor alive is collapsed."""

N_FACTORS = 5
N_SETS = 25
LEAST_FALL = 0.05
"""Of DCI, to count as a fall."""
FIRST_SEED = 1000
"""Of the data sets; benchmarks and the development of the models used others."""
_SCHEDULE = {"batch_size": 100, "max_epochs": 200}
_PAPER = {"recipe": "paper", "hidden_decoder": 50, "hidden_encoder": 50, **_SCHEDULE}
_VAE = {
    "hidden": 50,
    "learning_rate": 1e-2,
    "dropout": 0.0,
    "kl_warmup": 0.0,
    "patience": None,
    **_SCHEDULE,
}
# name in the tables: model, settings
CONTESTANTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "sparse_vae": ("sparse_vae", {}),
    "sparse_vae_paper": ("sparse_vae", _PAPER),
    "vae": ("vae", _VAE),
    "beta_vae": ("beta_vae", {**_VAE, "beta": 2.0}),
    "vsc": ("vsc", _VAE),
}


def run(part: str, scale: Scale) -> list[Measurement]:
    """One correlation, ``rho04`` for 0.4."""
    rho = int(part.removeprefix("rho")) / 10
    seeds = range(FIRST_SEED, FIRST_SEED + (1 if scale.quick else N_SETS))
    n_cells = 200 if scale.quick else 1000
    sets = [paper_data(rho, np.random.default_rng(seed), n_cells) for seed in seeds]
    cells = [split_in_half(one, seed) for one, seed in zip(sets, seeds, strict=True)]
    measured = []
    for name in CONTESTANTS:
        fits = _fits(name, cells, list(seeds), scale)
        for seed, data, its, done in zip(seeds, sets, cells, fits, strict=True):
            for metric, value in judged(data, its, done, name, seed).items():
                measured.append(Measurement(NAME, f"rho {rho:g}", name, metric, seed, value))
    return measured


def _fits(name: str, cells: list[anndata.AnnData], seeds: list[int], scale: Scale) -> Iterator[Fit]:
    model, settings = CONTESTANTS[name]
    given = {**settings, **few_epochs(scale.quick)}
    if model == "sparse_vae":
        yield from fit_stack_on_cpu(cells, model, N_FACTORS, seeds, given)
        return
    for one, seed in zip(cells, seeds, strict=True):
        yield fit_on_cpu(one, model, N_FACTORS, seed, given)


def judged(data: SyntheticData, cells: anndata.AnnData, done: Fit, name: str, seed: int) -> dict[str, float]:
    """Scores of one fit on the held-out cells."""
    test = rows_of(cells, "test")
    codes = done.latents[test]
    x = np.asarray(cells.X)[test]
    alive = is_alive(done) & (codes.std(0) > 1e-6)
    drawn = np.square(drawn_reconstruction(done, x, seed) - x).mean()
    scores = {
        "held-out mse": float(drawn),
        "log held-out mse": float(np.log(drawn)),
        "held-out mse of posterior means": float(np.square(reconstruction(done, x) - x).mean()),
        "dci": dci_disentanglement(data.factors[test], codes),
        "dci, 16 points": dci_16_points(data.factors[test], codes),
        "factors alive": float(alive.sum()),
        "collapsed": float(not alive.any()),
    }
    if name.startswith("sparse_vae"):
        scores["W entries wrong"] = wrong_entries(data, codes, done.loadings.to_numpy() != 0, test)
    return scores


def summarise(measurements: pd.DataFrame) -> list[Row]:
    """Figure 3's claims for each correlation, then all values."""
    make = RowMaker(SPARSE_VAE_PAPER, NAME, measurements)
    rows: list[Row] = []
    for sparse in ("sparse_vae", "sparse_vae_paper"):
        for metric, above in (("log held-out mse", False), ("dci", True)):
            for setting in make.settings():
                rows += make.difference(setting, metric, sparse, "vae", above=above)
    for metric, above in (("log held-out mse", True), ("dci", False)):
        for setting in make.settings():
            rows += make.difference(setting, metric, "vsc", "vae", above=above)
    rows += [row for sparse in ("sparse_vae", "sparse_vae_paper") for row in _robustness(make, sparse)]
    rows += [row for name in CONTESTANTS for row in _collapses(make, name)]
    shown = ("held-out mse", "held-out mse of posterior means", "dci", "dci, 16 points")
    return rows + make.values([*shown, "W entries wrong", "factors alive"])


def _robustness(make: RowMaker, model: str) -> list[Row]:
    """DCI is the same up to rho 0.4 and falls beyond: 0.8 against 0.4, of the same seeds' data."""
    near, far = (values_of(make.measurements, f"rho {rho}", model, "dci") for rho in ("0.4", "0.8"))
    fall = average(far - near)
    if not fall.n:
        return []
    published = f"falls beyond rho 0.4 ({FIGURE_ONLY}), here by more than {LEAST_FALL:g}"
    # a fall that is certain but hardly there is not what the figure shows
    falls = fall.clearly_negative and fall.mean < -LEAST_FALL
    why = "no difference beyond two standard errors" if fall.mean < -LEAST_FALL else "it hardly falls"
    return [make.verdict(f"{model}: rho 0.8 - 0.4", "dci", published, fall, falls, why)]


def _collapses(make: RowMaker, model: str) -> list[Row]:
    """Share of all fits of a model without any factor alive; the paper does not tell of any."""
    its = make.measurements[make.measurements["model"] == model]
    found = average(its.loc[its["metric"] == "collapsed", "value"])
    if not found.n:
        return []
    told = f"{round(found.mean * found.n)} of {found.n} fits kept no factor"
    return [make.row(f"all rho: {model}", "share of fits collapsed", "not told", found, explanation=told)]
