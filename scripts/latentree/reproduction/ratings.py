"""Sparse VAE paper, Table 1: ratings of films (MovieLens-100k, which the user brings)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from latentree.errors import InputError
from latentree.metrics import ndcg_at, ndcg_at_unmasked, recall_at, recall_at_unmasked
from latentree.reproduction.held_out import (
    cells_of,
    few_epochs,
    fit_on_cpu,
    reconstruction,
    rows_of,
)
from latentree.reproduction.records import Measurement, Row, Scale
from latentree.reproduction.rows import RowMaker
from latentree.reproduction.sources import SPARSE_VAE_PAPER

NAME = "ratings"
PROTOCOL = """\
Ratings of 4 and 5 count as liked; users with at least 20 of them, the 300 films that most users like; five
folds of users, a validation set among the others. All models (beta_vae: beta 2) have the Bernoulli
likelihood. Log loss: minus the sum, over the films that a held-out user likes, of the log of each film's
share in the user's decoded means. Recall@5 and NDCG@10: a fifth of what a held-out user likes is removed from
the input and must be found among the films not given; "unmasked", as the paper's code does: the input itself
must come back. The paper used far more users."""

LIKED, LEAST_RATINGS, N_FILMS = 4, 20, 300
N_FOLDS, N_FACTORS = 5, 20
HIDDEN_SHARE = 0.2
FIRST_SEED = 4000
# a decoded mean of 0 would make a log loss infinite
_LEAST_MEAN = 1e-3
_VAE = {"likelihood": "bernoulli", "gene_scaling": 0.0, "learning_rate": 1e-3}
MODELS: Mapping[str, Mapping[str, Any]] = {
    "sparse_vae": {"likelihood": "bernoulli"},
    "vae": _VAE,
    "beta_vae": {**_VAE, "beta": 2.0},
    "vsc": _VAE,
}
LOG_LOSS, RECALL, NDCG = "log loss", "Recall@5", "NDCG@10"
UNMASKED = "{}, unmasked"
PUBLISHED = {
    "sparse_vae": {LOG_LOSS: "170.9 (2.1)", RECALL: "0.98 (0.002)", NDCG: "0.98 (0.003)"},
    "vae": {LOG_LOSS: "175.9 (2.4)", RECALL: "0.97 (0.001)", NDCG: "0.96 (0.001)"},
    "beta_vae": {LOG_LOSS: "178.2 (2.4)", RECALL: "0.95 (0.002)", NDCG: "0.93 (0.002)"},
    "vsc": {LOG_LOSS: "192.2 (2.3)", RECALL: "0.79 (0.008)", NDCG: "0.77 (0.009)"},
}


@dataclass(frozen=True)
class Fold:
    """Users by side of the split; of a held-out user ``hidden`` is what is removed from the input.

    ``liked`` and ``hidden``: (n_users, n_films) bool.
    """

    liked: np.ndarray
    hidden: np.ndarray
    sides: np.ndarray


def read_liked(file: Path, n_films: int = N_FILMS) -> np.ndarray:
    """Who likes which film, bool (n_users, n_films), from MovieLens-100k's ``u.data``.

    Raises
    ------
    InputError
        The file has another format, or no user has ratings enough.
    """
    try:
        ratings = pd.read_csv(
            file, sep="\t", header=None, names=["user", "film", "rating", "time"], dtype=int
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(
            file,
            f"is not MovieLens-100k's u.data ({error})",
            "Give that file: user, film, rating, time by tabs",
        ) from None
    liked = ratings[ratings["rating"] >= LIKED]
    enough = liked["user"].map(liked["user"].value_counts()) >= LEAST_RATINGS
    if not enough.any():
        raise InputError(
            file, f"has no user with {LEAST_RATINGS} ratings of at least {LIKED}", "Give the whole u.data"
        )
    table = pd.crosstab(liked.loc[enough, "user"], liked.loc[enough, "film"]).to_numpy() > 0
    popular = np.argsort(-table.sum(0), kind="stable")[:n_films]
    kept = table[:, np.sort(popular)]
    # one film can neither be hidden nor be given alone
    return kept[kept.sum(1) >= 2]


def folds(liked: np.ndarray, rng: np.random.Generator) -> Iterator[Fold]:
    """Each user is held out once; a tenth of the others are for validation."""
    order = rng.permutation(len(liked))
    for test in np.array_split(order, N_FOLDS):
        sides = np.full(len(liked), "train", dtype=object)
        others = order[~np.isin(order, test)]
        sides[others[: len(others) // 10]] = "validation"
        sides[test] = "test"
        hidden = np.zeros_like(liked)
        for user in test:
            films = rng.permutation(np.flatnonzero(liked[user]))
            hidden[user, films[: max(1, round(HIDDEN_SHARE * len(films)))]] = True
        yield Fold(liked, hidden, sides)


def run(part: str, scale: Scale) -> list[Measurement]:
    """All folds, all models."""
    assert scale.movielens is not None
    liked = read_liked(scale.movielens, 40 if scale.quick else N_FILMS)
    measured = []
    for number, fold in enumerate(folds(liked, np.random.default_rng(FIRST_SEED))):
        if scale.quick and number:
            break
        for model, settings in MODELS.items():
            given = {**settings, **few_epochs(scale.quick)}
            for metric, value in scores(fold, model, given, FIRST_SEED + number).items():
                measured.append(Measurement(NAME, "users held out", model, metric, number, value))
    return measured


def scores(fold: Fold, model: str, settings: Mapping[str, Any], seed: int) -> dict[str, float]:
    """Fit on the other users and score on the fold's."""
    users = cells_of(fold.liked.astype(np.float32), fold.sides)
    done = fit_on_cpu(users, model, min(N_FACTORS, fold.liked.shape[1] // 2), seed, settings)
    test = rows_of(users, "test")
    liked, hidden = fold.liked[test], fold.hidden[test]
    given = liked & ~hidden
    whole = reconstruction(done, liked.astype(np.float32))
    part = reconstruction(done, given.astype(np.float32))
    return {
        LOG_LOSS: log_loss(whole, liked),
        RECALL: recall_at(part, hidden, given, 5),
        NDCG: ndcg_at(part, hidden, given, 10),
        UNMASKED.format(RECALL): recall_at_unmasked(whole, liked, 5),
        UNMASKED.format(NDCG): ndcg_at_unmasked(whole, liked, 10),
    }


def log_loss(means: np.ndarray, liked: np.ndarray) -> float:
    """Mean over users of minus the summed log shares of the films that they like, in nats.

    Parameters
    ----------
    means, liked
        (n_users, n_films) decoded means, and bool.
    """
    shares = np.maximum(means, _LEAST_MEAN)
    shares = shares / shares.sum(1, keepdims=True)
    return float(-(np.log(shares) * liked).sum(1).mean())


def summarise(measurements: pd.DataFrame) -> list[Row]:
    """Table 1, and that the Sparse VAE is the best of it in each column."""
    make = RowMaker(SPARSE_VAE_PAPER, NAME, measurements)
    rows: list[Row] = []
    columns = {LOG_LOSS: LOG_LOSS, UNMASKED.format(RECALL): RECALL, UNMASKED.format(NDCG): NDCG}
    for setting in make.settings():
        for metric, column in columns.items():
            for model in make.models(setting):
                why = "other users and films"
                rows.append(make.value(setting, model, metric, PUBLISHED[model][column], explanation=why))
            for other in ("vae", "beta_vae", "vsc"):
                above = metric != LOG_LOSS
                published = (
                    f"{'above' if above else 'below'} 0 ({PUBLISHED['sparse_vae'][column]}"
                    f" - {PUBLISHED[other][column]})"
                )
                rows += make.difference(
                    setting, metric, "sparse_vae", other, above=above, published=published
                )
    return rows + make.values([RECALL, NDCG])
