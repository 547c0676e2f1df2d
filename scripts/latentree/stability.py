"""How far the factors of a model come back: on other cells, and with another seed.

Fits are compared by the |Pearson correlation| of factor scores on test cells, which none of them has seen.
Agreement between seeds says how much of a fit is chance of its start; where the start is deterministic it
is 1 by construction. What other cells of the tissue would give is told by refits on disjoint halves of
the training cells and, more mildly, by refits on random shares of them (:mod:`latentree.resampling`).
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, groupby
from typing import Any

import numpy as np
import pandas as pd

from latentree import metrics
from latentree.metrics.mcc import correlations
from latentree.models.scaling import InputScaling, Matrix, TrainingData, row_chunks
from latentree.models.starts import CONSTANT, varimax, varimax_start
from latentree.resampling import refit_pairs
from latentree.scores import LoadedFit, factor_names, sorted_fits

STABILITY_COLUMNS = [
    "model",
    "n_factors",
    "comparison",
    "factor",
    "agreement",
    "n_pairs",
    "reference_seed",
    "note",
]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CellScores:
    """Scores of the factors of one fit on the cells that it is judged by.

    Attributes
    ----------
    cells
        Names of the cells, length n_cells.
    latents
        Shape (n_cells, n_factors).
    alive
        Which factors are in use, bool array of shape (n_factors,).
    """

    cells: pd.Index
    latents: np.ndarray
    alive: np.ndarray

    @classmethod
    def of(cls, fit: LoadedFit) -> "CellScores":
        """A fit's test cells; all its cells where the atlas has no test cells."""
        test = fit.rows("test")
        rows = test if len(test) else np.arange(len(fit.split))
        return cls(fit.cells[rows], fit.latents[rows], fit.alive)


@dataclass(frozen=True)
class Refits:
    """One model with one number of factors: the fit that names the factors, and fits on other cells.

    Attributes
    ----------
    model, n_factors
        Which model.
    full
        The fit on all training cells.
    parts
        The refits by the names of their cells, such as r0 and half1.
    reference_seed
        Seed of ``full``; ``"none"`` for a model without.
    notes
        A remark for the table by comparison (halves, resamples).
    """

    model: str
    n_factors: int
    full: CellScores
    parts: Mapping[str, CellScores]
    reference_seed: int | str
    notes: Mapping[str, str] = field(default_factory=dict)


def stability_table(
    fits: Sequence[LoadedFit], refits: Sequence[Refits] = (), first_seed: int | None = None
) -> pd.DataFrame:
    """Agreement of factors between seeds, resamples and halves.

    Parameters
    ----------
    fits
        The models' fits on all training cells, for the comparison ``seeds``.
    refits
        The models' refits on other cells, references among them, for ``halves`` and ``resamples``.
    first_seed
        The seed whose factors are named; None: the lowest.

    Returns
    -------
    Columns ``STABILITY_COLUMNS``, sorted. Row ``all`` is the mean over all ``n_pairs`` pairs of fits of their
    mean matched correlation (:func:`latentree.metrics.matched_correlation` says how dead factors count).
    The other rows are the live factors of ``reference_seed``'s fit. Between seeds: the mean of a factor's
    correlations with its partners in the other seeds' fits. Between refits: both are matched with that
    fit and the row is the correlation of the factor's two partners, 0 where one of them lacks it,
    averaged over the pairs. What has no other to be compared with has no rows.
    """
    rows = [*_seed_rows(fits, first_seed), *(row for group in refits for row in _refit_rows(group))]
    rows = [row for row in rows if np.isfinite(row[4])]
    rows.sort(key=lambda row: row[:3])
    return pd.DataFrame(rows, columns=STABILITY_COLUMNS)


def gathered_refits(
    fits: Sequence[LoadedFit], refits: Sequence[tuple[str, LoadedFit]], first_seed: int
) -> list[Refits]:
    """The refits of each model beside its fit with the first seed.

    Parameters
    ----------
    fits
        Fits on all training cells.
    refits
        Name of the cells (r0, half1) and the refit, whose summary tells under ``refit`` how they were drawn.
    first_seed
        Seed of the fits whose factors are named.
    """
    full = {(fit.model, fit.n_factors): fit for fit in fits if fit.seed == first_seed}
    by_model = sorted(refits, key=lambda item: (item[1].model, item[1].n_factors))
    gathered = []
    for key, group in groupby(by_model, key=lambda item: (item[1].model, item[1].n_factors)):
        mine = dict(group)
        how = {part: str(fit.summary.get("refit", {}).get("how", "")) for part, fit in mine.items()}
        notes = {
            comparison: f"{comparison}: {how[pairs[0][0]]}"
            for comparison, pairs in refit_pairs(mine).items()
            if pairs and how[pairs[0][0]]
        }
        parts = {part: CellScores.of(fit) for part, fit in mine.items()}
        gathered.append(Refits(*key, CellScores.of(full[key]), parts, first_seed, notes))
    return gathered


def reference_refits(
    x: Matrix, cells: pd.Index, fits: Sequence[LoadedFit], refits: Sequence[tuple[str, LoadedFit]]
) -> list[Refits]:
    """PCA and two varimax rotations of it, fitted to the very training cells of the fit and of every refit.

    They see what the Sparse VAE sees (``input`` and ``gene_scaling`` of its fit, or of the first model's
    where it is not fitted). ``varimax`` is the textbook's: loadings of standardised components, rotated with
    Kaiser's normalisation. ``varimax_start`` is where the Sparse VAE starts by default
    (:func:`latentree.models.starts.varimax_start`). PCA is left out where it is one of the models.

    Parameters
    ----------
    x
        (n_cells, n_genes) modelled genes of the atlas.
    cells
        Names of the atlas's cells.
    fits, refits
        As for :func:`gathered_refits`.
    """
    if not refits:
        return []
    numbers = sorted({fit.n_factors for fit in fits})
    listed = {(fit.model, fit.n_factors) for fit in fits}
    judge = CellScores.of(fits[0]).cells
    seen = next((fit for fit in fits if fit.model == "sparse_vae"), fits[0])
    settings = {**seen.summary["settings"], **seen.summary.get("resolved", {})}
    # the parts of all models are of the same cells
    given = {"full": fits[0], **dict(refits)}
    scores: dict[tuple[str, int], dict[str, CellScores]] = {}
    for part, fit in given.items():
        train = cells.get_indexer(fit.cells[fit.rows("train")])
        scaled = InputScaling.fit(
            TrainingData(x, train, train[:0]), settings["input"], settings["gene_scaling"]
        )
        for key, latents in _reference_latents(x, train, cells.get_indexer(judge), scaled, numbers).items():
            alive = np.ones(latents.shape[1], dtype=bool)
            scores.setdefault(key, {})[part] = CellScores(judge, latents, alive)
    note = f"input {settings['input']}, gene_scaling {settings['gene_scaling']:g}, fitted to the same cells"
    return [
        Refits(model, k, parts.pop("full"), parts, "none", _both(f"{model} (reference): {note}"))
        for (model, k), parts in scores.items()
        if (model, k) not in listed
    ]


def _both(note: str) -> dict[str, str]:
    return dict.fromkeys(("halves", "resamples"), note)


def _reference_latents(
    x: Matrix, train: np.ndarray, rows: np.ndarray, scaling: InputScaling, numbers: Sequence[int]
) -> dict[tuple[str, int], np.ndarray]:
    """Scores (n_rows, n_factors) of some rows by reference and number of factors."""
    n_genes = scaling.n_genes
    covariance = np.zeros((n_genes, n_genes))
    for chunk in row_chunks(len(train), n_genes):
        scaled = scaling.apply(x[train[chunk]])
        covariance += scaled.T @ scaled
    covariance /= len(train)
    variances, axes = (values[..., ::-1] for values in np.linalg.eigh(covariance))
    # Kaiser's normalisation would make a direction of a constant gene's rounding errors
    axes = axes * (covariance.diagonal() > CONSTANT)[:, None]
    sd = np.sqrt(np.maximum(variances, 1e-12 * variances[0]))
    weights = {("pca", k): axes[:, :k] for k in numbers}
    for k in numbers:
        weights["varimax", k] = axes[:, :k] / sd[:k] @ varimax(axes[:, :k] * sd[:k], 1.0)
    weights |= {("varimax_start", k): varimax_start(covariance, k).scores for k in numbers}
    together = np.hstack(list(weights.values()))
    latents = np.empty((len(rows), together.shape[1]))
    for chunk in row_chunks(len(rows), n_genes):
        latents[chunk] = scaling.apply(x[rows[chunk]]) @ together
    ends = np.cumsum([each.shape[1] for each in weights.values()])
    return dict(zip(weights, np.split(latents, ends[:-1], axis=1), strict=True))


def _seed_rows(fits: Sequence[LoadedFit], first_seed: int | None) -> Iterator[tuple[Any, ...]]:
    of_seeds = [fit for fit in sorted_fits(fits) if isinstance(fit.seed, int)]
    for (model, n_factors), group in groupby(of_seeds, key=lambda fit: (fit.model, fit.n_factors)):
        # the first seed's fit in front
        same = sorted(group, key=lambda fit: fit.seed != first_seed)
        if len(same) == 1:
            _log.warning("stability: %s with %d factors was fitted with one seed only", model, n_factors)
            continue
        scores = [CellScores.of(fit) for fit in same]
        pairs = {(i, j): _agreement(scores[i], scores[j]) for i, j in combinations(range(len(same)), 2)}
        overall = float(np.mean([pair.mean for pair in pairs.values()]))
        per_factor = np.mean([pairs[0, j].per_factor for j in range(1, len(same))], axis=0)
        first = same[0].seed
        yield model, n_factors, "seeds", "all", overall, len(pairs), first, ""
        for name, value in zip(same[0].factor_names, per_factor, strict=True):
            yield model, n_factors, "seeds", name, value, len(same) - 1, first, ""


def _refit_rows(group: Refits) -> Iterator[tuple[Any, ...]]:
    for comparison, pairs in refit_pairs(group.parts).items():
        if not pairs:
            continue
        note = group.notes.get(comparison, "")
        ends = len(pairs), group.reference_seed, note
        overall = float(np.mean([_agreement(group.parts[a], group.parts[b]).mean for a, b in pairs]))
        yield group.model, group.n_factors, comparison, "all", overall, *ends
        partners = {
            part: _agreement(group.full, group.parts[part]).partner for pair in pairs for part in pair
        }
        per_factor = np.mean(
            [_of_partners(group.parts[a], group.parts[b], partners[a], partners[b]) for a, b in pairs], axis=0
        )
        for name, value, alive in zip(
            factor_names(group.n_factors), per_factor, group.full.alive, strict=True
        ):
            if alive:
                yield group.model, group.n_factors, comparison, name, value, *ends


def _of_partners(a: CellScores, b: CellScores, partner_a: np.ndarray, partner_b: np.ndarray) -> np.ndarray:
    """|correlation| (n_factors,) of each factor's partners in two refits; 0 where one of them is -1."""
    a_rows, b_rows = _common(a.cells, b.cells)
    strength = np.minimum(np.abs(correlations(a.latents[a_rows], b.latents[b_rows])), 1.0)
    both = (partner_a >= 0) & (partner_b >= 0)
    return np.where(both, strength[partner_a, partner_b], 0.0)


def _agreement(a: CellScores, b: CellScores) -> metrics.MatchedCorrelation:
    a_rows, b_rows = _common(a.cells, b.cells)
    return metrics.matched_correlation(a.latents[a_rows], b.latents[b_rows], a.alive, b.alive)


def _common(a: pd.Index, b: pd.Index) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers in both of the cells that both have, in the order of the first."""
    if a.equals(b):
        return np.arange(len(a)), np.arange(len(b))
    found = b.get_indexer(a)
    return np.flatnonzero(found >= 0), found[found >= 0]
