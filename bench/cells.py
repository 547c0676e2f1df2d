"""Real cells: sparsity, accuracy, agreement on new cells and CPU time, beside PCA, NMF, VAE and scvi-tools.

    python bench/cells.py [--data FOLDER] [--atlases zeisel2015 ...] [--splits 3] [--scvi-splits 1]

A row per atlas, split and model in cells_<atlas>.tsv; all of an atlas in one process, one thread. First
part: default settings, 20 factors. Second part: the Gaussian likelihood, 15 factors, beside two VAEs.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import anndata
import numpy as np
from bench_tools import ATLASES, DATA, GENERATED, atlas, cpu_clock, one_thread, parser, spared, write
from peers import ABSENT, fit_peer, installed

from latentree import metrics
from latentree.api import Fit, fit
from latentree.models.scaling import TrainingData
from latentree.models.starts import varimax, varimax_start

GAUSSIAN = {"likelihood": "gaussian"}
VAE_RATES = (1e-3, 5e-3)


@dataclass(frozen=True)
class Factors:
    """One model's answer: latents (n_cells, n_factors) of all cells, which factors are alive, CPU seconds."""

    latents: np.ndarray
    alive: np.ndarray
    cpu_seconds: float


Fitter = Callable[[anndata.AnnData], Factors]


def main(arguments: list[str] | None = None) -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, default=DATA, help="folder of the atlases")
    made.add_argument("--atlases", nargs="+", default=list(ATLASES), choices=[*ATLASES, GENERATED])
    made.add_argument("--splits", type=int, default=3)
    made.add_argument("--scvi-splits", type=int, default=1, help="splits on which SCVI is fitted too")
    made.add_argument("--resamples", type=int, default=2, help="80%% sets per split, compared in pairs")
    made.add_argument("--n-factors", type=int, default=20)
    made.add_argument("--n-factors-gaussian", type=int, default=15)
    made.add_argument("--peer-epochs", type=int, default=200)
    chosen = made.parse_args(arguments)
    if chosen.quick:
        chosen.splits, chosen.peer_epochs, chosen.n_factors, chosen.n_factors_gaussian = 1, 2, 4, 3
    if not installed():
        print(ABSENT)
    # the first fit of a process also imports
    fit(atlas(GENERATED, chosen.data, 0), "sparse_vae", 2, settings={"max_epochs": 1}, progress=False)
    for name in spared(chosen.data, chosen.atlases):
        rows = []
        for split in range(chosen.splits):
            adata = atlas(name, chosen.data, split)
            with one_thread():
                rows += default_rows(adata, split, chosen) + gaussian_rows(adata, split, chosen)
        write([{"atlas": name, **row} for row in rows], f"cells_{name}", chosen.out)


def default_rows(adata: anndata.AnnData, split: int, chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """All models at their defaults."""
    k, quick = chosen.n_factors, {"max_epochs": 5} if chosen.quick else {}
    ours = fit(adata, "sparse_vae", k, seed=split, settings=quick, progress=False)
    same = same_input(ours)
    fitters = {
        "sparse_vae": lambda cells: api_factors(cells, "sparse_vae", k, split, quick),
        "pca_same_input": lambda cells: api_factors(cells, "pca", k, split, same),
        "pca_varimax": lambda cells: rotated_components(cells, k, split, same),
        "varimax_start": lambda cells: start_scores(cells, k, split, same),
    }
    rows = [row(adata, split, k, "sparse_vae", ours)]
    rows.append(row(adata, split, k, "pca_same_input", fit(adata, "pca", k, settings=same, progress=False)))
    for name in ("pca_varimax", "varimax_start"):
        rows.append(described(adata, split, k, name, fitters[name](adata)))
    for one in rows:
        one |= agreements(adata, fitters[one["model"]], chosen.resamples, split)
    for name in ("pca", "vae", "nmf"):
        settings = quick if name == "vae" else {}
        done = fit(adata, name, k, seed=split, settings=settings, progress=False)
        rows.append(row(adata, split, k, name, done))
    if installed() and "counts" in adata.layers:
        for name in ["LinearSCVI"] + ["SCVI"] * (split < chosen.scvi_splits):
            peer = fit_peer(name, adata, k, chosen.peer_epochs, split)
            factors = Factors(peer.latents, np.ones(k, dtype=bool), peer.cpu_seconds)
            rows.append(described(adata, split, k, name, factors))
    return [{"part": "default", **one} for one in rows]


def gaussian_rows(adata: anndata.AnnData, split: int, chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """The Gaussian likelihood beside VAEs of two learning rates: held-out error of z-scored log values."""
    k, quick = chosen.n_factors_gaussian, {"max_epochs": 5} if chosen.quick else {}
    wanted: list[tuple[str, str, Mapping[str, Any]]] = [("sparse_vae_gaussian", "sparse_vae", GAUSSIAN)]
    wanted += [(f"vae_{rate:g}", "vae", {"learning_rate": rate}) for rate in VAE_RATES]
    rows = []
    for name, model, settings in wanted:
        done = fit(adata, model, k, seed=split, settings={**settings, **quick}, progress=False)
        rows.append(
            {"part": "gaussian", **row(adata, split, k, name, done), "mse": held_out_mse(adata, done)}
        )
    return rows


def same_input(done: Fit) -> dict[str, Any]:
    """The settings with which another model sees the matrix that this fit's start and encoder saw."""
    return {"input": done.model.scaling.input, "gene_scaling": float(done.model.settings.gene_scaling)}


def api_factors(
    adata: anndata.AnnData, model: str, k: int, seed: int, settings: Mapping[str, Any]
) -> Factors:
    """A fit by its latents alone."""
    done = fit(adata, model, k, seed=seed, settings=settings, progress=False)
    return Factors(done.latents, alive(done), done.summary["cpu_seconds"])


def rotated_components(adata: anndata.AnnData, k: int, seed: int, settings: Mapping[str, Any]) -> Factors:
    """Textbook: principal components of unit variance, loadings rotated by Kaiser's varimax."""
    with cpu_clock() as clock:
        done = fit(adata, "pca", k, seed=seed, settings=settings, progress=False)
        scores = done.latents
        sd = scores[train_rows(adata)].std(0)
        scaled = done.model.scaling.apply(modelled(adata)[train_rows(adata)])
        loadings = np.linalg.lstsq(scores[train_rows(adata)] / sd, scaled, rcond=None)[0].T
        latents = scores / sd @ varimax(loadings.astype(np.float64), 1.0)
    return Factors(latents.astype(np.float32), np.ones(k, dtype=bool), clock.seconds)


def start_scores(adata: anndata.AnnData, k: int, seed: int, settings: Mapping[str, Any]) -> Factors:
    """The factor scores at which the Sparse VAE's encoder starts: probabilistic components, rotated."""
    from latentree.models.scaling import InputScaling

    x, train = modelled(adata), train_rows(adata)
    with cpu_clock() as clock:
        data = TrainingData(x, train, np.zeros(0, dtype=np.int64))
        scaling = InputScaling.fit(data, settings["input"], settings["gene_scaling"])
        scaled = scaling.apply(x)
        covariance = scaled[train].T.astype(np.float64) @ scaled[train] / len(train)
        latents = scaled @ varimax_start(covariance, k).scores
    return Factors(latents.astype(np.float32), np.ones(k, dtype=bool), clock.seconds)


def agreements(adata: anndata.AnnData, fitter: Fitter, n_resamples: int, split: int) -> dict[str, float]:
    """Mean |correlation| of matched factors on test cells between fits on other training cells."""
    test = np.flatnonzero(adata.obs["split"] == "test")
    rng = np.random.default_rng(1000 + split)
    fitting = np.flatnonzero(adata.obs["split"] != "test")

    def of(subsets: list[np.ndarray]) -> tuple[float, float]:
        fits = [fitter(adata[np.sort(np.concatenate([subset, test]))].copy()) for subset in subsets]
        # test cells come in the same order in every subset, but not at the same places
        on_test = [
            (done.latents[np.isin(np.sort(np.concatenate([subset, test])), test)], done.alive)
            for subset, done in zip(subsets, fits, strict=True)
        ]
        pairs = [
            metrics.matched_correlation(a, b, alive_a, alive_b).mean
            for (a, alive_a), (b, alive_b) in combinations(on_test, 2)
        ]
        chance = [
            metrics.chance_agreement(a[:, alive_a], b[:, alive_b])
            for (a, alive_a), (b, alive_b) in combinations(on_test, 2)
        ]
        return float(np.mean(pairs)), float(np.mean(chance))

    resampled = [rng.permutation(fitting)[: round(0.8 * len(fitting))] for _ in range(n_resamples)]
    shuffled = rng.permutation(fitting)
    halves, chance = of(np.array_split(shuffled, 2))
    return {
        "agreement_resamples": of(resampled)[0],
        "agreement_halves": halves,
        "chance_halves": chance,
    }


def row(adata: anndata.AnnData, split: int, k: int, name: str, done: Fit) -> dict[str, Any]:
    """What the tables tell of one of the library's fits."""
    factors = Factors(done.latents, alive(done), done.summary["cpu_seconds"])
    return {
        **described(adata, split, k, name, factors),
        "zeros": metrics.zero_share(done.loadings.to_numpy()),
        "alive": int(alive(done).sum()),
        "r2": done.summary["r2_scaled"].get("test", np.nan),
    }


def described(adata: anndata.AnnData, split: int, k: int, name: str, factors: Factors) -> dict[str, Any]:
    """Accuracy of a logistic regression on standardised latents, fitted on training cells."""
    types = adata.obs["cell_type"].to_numpy(dtype=str)
    train, test = train_rows(adata), np.flatnonzero(adata.obs["split"] == "test")
    predicted = metrics.fit_probe(factors.latents[train], types[train]).predict(factors.latents[test])
    return {
        "split": split,
        "n_factors": k,
        "model": name,
        "accuracy": metrics.accuracy(types[test], predicted),
        "balanced_accuracy": metrics.balanced_accuracy(types[test], predicted),
        "cpu_seconds": factors.cpu_seconds,
    }


def held_out_mse(adata: anndata.AnnData, done: Fit) -> float:
    """Mean squared error on test cells, each gene in units of its sd among training cells."""
    x = modelled(adata)
    dense = np.asarray(x[train_rows(adata)].todense())
    sd = dense.std(0)
    test = np.flatnonzero(adata.obs["split"] == "test")
    errors = np.asarray(x[test].todense()) - done.model.reconstruct(done.model.transform(x[test]))
    return float(np.square(errors[:, sd > 0] / sd[sd > 0]).mean())


def alive(done: Fit) -> np.ndarray:
    """Which factors are in use, bool (n_factors,)."""
    return done.factors.uns["latentree"]["factors"]["alive"].to_numpy(dtype=bool)


def modelled(adata: anndata.AnnData) -> Any:
    """X of the modelled genes, CSR (n_cells, n_genes)."""
    return adata[:, adata.var["modelled"].to_numpy(dtype=bool)].X.tocsr()


def train_rows(adata: anndata.AnnData) -> np.ndarray:
    """int64 rows of the training cells."""
    return np.flatnonzero(adata.obs["split"] == "train")


if __name__ == "__main__":
    main()
