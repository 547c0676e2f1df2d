"""Data with known factors: the paper's set and truths of our own, Sparse VAE beside VAE.

    python bench/synthetic.py [--sets 10] [--own-sets 6] [--paper-sets 25] [--parts default truths paper]

Three tables, a row per data set and model: synthetic_default (the paper's data, default settings),
synthetic_truths (latentree.synthetic.TRUTHS, factors fitted: three more than true or twice as many),
synthetic_paper (``recipe: paper`` on the paper's data). DCI and error on held-out cells.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import anndata
import numpy as np
from bench_tools import one_thread, parser, write

from latentree import api
from latentree.api import Fit
from latentree.metrics import dci_disentanglement
from latentree.reproduction.held_out import is_alive, reconstruction, rows_of, split_in_half, wrong_entries
from latentree.synthetic import TRUTHS, SyntheticData, paper_data

DEFAULT_RHOS, PAPER_RHOS = (0.0, 0.4, 0.8), (0.0, 0.2, 0.4, 0.6, 0.8)
PAPER_FACTORS = 5
# the schedule of the paper's synthetic study
PAPER_SCHEDULE = {"batch_size": 100, "max_epochs": 200}
PAPER = {"recipe": "paper", "hidden_decoder": 50, "hidden_encoder": 50, **PAPER_SCHEDULE}
PAPER_VAE = {"hidden": 50, "learning_rate": 1e-2, "dropout": 0.0, "kl_warmup": 0.0, **PAPER_SCHEDULE}
# of the settings tried, the ones with the lowest error on the paper's data
BEST_VAE = {"learning_rate": 5e-3, "max_epochs": 200, "dropout": 0.0}

# name in the tables, model, settings
Contestant = tuple[str, str, Mapping[str, Any]]
DEFAULTS: Sequence[Contestant] = (
    ("sparse_vae", "sparse_vae", {}),
    ("vae", "vae", {}),
    ("vae_best", "vae", BEST_VAE),
)
PAPERS: Sequence[Contestant] = (("sparse_vae_paper", "sparse_vae", PAPER), ("vae_paper", "vae", PAPER_VAE))


def main(arguments: list[str] | None = None) -> None:
    parts = {"default": default_rows, "truths": truth_rows, "paper": paper_rows}
    made = parser(__doc__)
    made.add_argument("--sets", type=int, default=10, help="data sets per correlation, default settings")
    made.add_argument("--own-sets", type=int, default=6, help="data sets per truth")
    made.add_argument("--paper-sets", type=int, default=25, help="data sets per correlation, recipe: paper")
    made.add_argument("--first-seed", type=int, default=100, help="of the data sets")
    made.add_argument("--parts", nargs="+", default=list(parts), choices=list(parts))
    chosen = made.parse_args(arguments)
    if chosen.quick:
        chosen.sets = chosen.own_sets = chosen.paper_sets = 1
    with one_thread():
        for part in chosen.parts:
            write(parts[part](chosen), f"synthetic_{part}", chosen.out)


def default_rows(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The paper's data, default settings."""
    for rho in DEFAULT_RHOS[: 1 if chosen.quick else None]:
        sets = [paper_data(rho, rng(chosen, i), 200 if chosen.quick else 1000) for i in range(chosen.sets)]
        yield from compared(sets, [PAPER_FACTORS] * len(sets), DEFAULTS, chosen, rho)


def paper_rows(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The paper's data, ``recipe: paper`` with the schedule of its synthetic study."""
    for rho in PAPER_RHOS[: 1 if chosen.quick else None]:
        n_cells = 200 if chosen.quick else 1000
        sets = [paper_data(rho, rng(chosen, i), n_cells) for i in range(chosen.paper_sets)]
        yield from compared(sets, [PAPER_FACTORS] * len(sets), PAPERS, chosen, rho)


def truth_rows(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Truths of our own, default settings."""
    for name, make in TRUTHS.items():
        if chosen.quick and name != "curves":
            continue
        sets = [make(rng(chosen, i)) for i in range(chosen.own_sets)]
        true = [one.mask.shape[1] for one in sets]
        given = [k + 3 if i % 2 == 0 else 2 * k for i, k in enumerate(true)]
        yield from compared(sets, given, DEFAULTS[:2], chosen, np.nan)


def compared(
    sets: list[SyntheticData],
    n_factors: list[int],
    contestants: Sequence[Contestant],
    chosen: argparse.Namespace,
    rho: float,
) -> Iterator[dict[str, Any]]:
    """Rows of every contestant on every data set."""
    cells = [split_in_half(one, seed) for seed, one in enumerate(sets)]
    few = {"max_epochs": 3} if chosen.quick else {}
    for name, model, settings in contestants:
        given = {**settings, **few}
        if settings is PAPER:
            # as many fits as there are data sets in one batched model
            seeds = list(range(len(sets)))
            fits = iter(api.fit_stack(cells, model, PAPER_FACTORS, seeds, given))
        else:
            fits = (
                api.fit(one, model, k, seed=number, settings=given, progress=False)
                for number, (one, k) in enumerate(zip(cells, n_factors, strict=True))
            )
        for number, (data, k, done) in enumerate(zip(sets, n_factors, fits, strict=True)):
            yield {
                "truth": data.name,
                "rho": rho,
                "set": number,
                "model": name,
                "n_factors": k,
                **judged(data, cells[number], done),
            }


def judged(data: SyntheticData, cells: anndata.AnnData, done: Fit) -> dict[str, Any]:
    """Scores of one fit on the held-out cells."""
    test = rows_of(cells, "test")
    codes = done.latents[test]
    means = reconstruction(done, cells.X[test])
    alive = is_alive(done)
    return {
        "true_factors": data.mask.shape[1],
        "alive": int(alive.sum()),
        "dci": dci_disentanglement(data.factors[test], codes),
        "mse": float(np.square(means - cells.X[test]).mean()),
        "noise_floor": data.noise_floor,
        "wrong_entries": wrong_entries(data, codes, done.loadings.to_numpy() != 0, test),
        "entries": data.mask.shape[0] * done.loadings.shape[1],
        "collapsed": int(not (alive & (codes.std(0) > 1e-6)).any()),
        "cpu_seconds": done.summary["cpu_seconds"],
    }


def rng(chosen: argparse.Namespace, number: int) -> np.random.Generator:
    """Of a data set: another number, other data."""
    return np.random.default_rng(chosen.first_seed + number)


if __name__ == "__main__":
    main()
