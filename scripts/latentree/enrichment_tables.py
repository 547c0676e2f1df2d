"""The tables of enriched gene sets of an atlas, from its fits, and the notes beside them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from latentree.config import DownstreamConfig
from latentree.enrichment import COLUMNS, SIGNIFICANT, GeneSetMatrix, OverRepresentation, sets_to_test
from latentree.errors import listed
from latentree.gsea import Ranked, prerank
from latentree.scores import LoadedFit, sorted_fits, stacked

_FIT_COLUMNS = ["model", "n_factors", "seed"]
ENRICHMENT_COLUMNS = [*_FIT_COLUMNS, *COLUMNS, "like"]
SUMMARY_COLUMNS = [
    *_FIT_COLUMNS,
    "method",
    "n_factors_tested",
    "n_sets_tested",
    "n_enriched",
    "n_pairs_enriched",
    "control_mean",
    "control_max",
    "n_permutations",
    "ratio",
]
# of the control's random names; every fit of an atlas gets the same ones
_SEED = 0


@dataclass(frozen=True)
class Enrichment:
    """What the gene sets say of the fits of an atlas.

    Attributes
    ----------
    table
        Columns ``ENRICHMENT_COLUMNS``. Over-representation has a row per factor, direction and set that
        share a gene, GSEA one per factor and set at p < .05; q-values count all tests.
    summary
        Columns ``SUMMARY_COLUMNS``, a row per fit and method: numbers of enriched sets beside those that
        the same tests find once the genes are renamed at random.
    notes
        Factors that GSEA skipped.
    """

    table: pd.DataFrame
    summary: pd.DataFrame
    notes: tuple[str, ...]


def enrich(
    fits: Sequence[LoadedFit],
    sets: Mapping[str, Sequence[str]],
    settings: DownstreamConfig,
    threads: int = 1,
) -> Enrichment:
    """Enriched gene sets of every live factor; the background is the modelled genes.

    Parameters
    ----------
    fits
        Fits of one atlas.
    sets
        Set name to genes, in the atlas's own names (:class:`latentree.gene_sets.MatchedSets`).
    settings
        Limits of set sizes, the number of active genes of models that are not sparse, and ``enrichment``.
    threads
        For GSEA, which takes most of the time: about a second per dense factor and 800 sets.

    Returns
    -------
    The same whatever the order of genes and sets, and the number of threads.
    """
    tables, summaries, skipped = [], [], []
    for fit in sorted_fits(fits) if sets else []:
        name: dict[str, Any] = {"model": fit.model, "n_factors": fit.n_factors, "seed": fit.seed}
        matrix = GeneSetMatrix(sets, fit.genes, min_set_size=1, max_set_size=len(fit.genes))
        methods = [_by_overlap(fit, sets, settings)]
        if settings.enrichment.gsea:
            methods.append(_by_rank(fit, sets, settings, threads))
        for tested in methods:
            like = nearly_repeated(tested.table, matrix, settings.enrichment.repeat_jaccard)
            tables.append(tested.table.assign(**name, like=like))
            summaries.append({**name, **tested.summary()})
            skipped += [f"{fit.model} k{fit.n_factors} seed {fit.seed} {text}" for text in tested.skipped]
    return Enrichment(
        stacked(tables, ENRICHMENT_COLUMNS),
        pd.DataFrame(summaries, columns=SUMMARY_COLUMNS),
        (f"GSEA could not rank {len(skipped)} factors: {listed(skipped)}",) if skipped else (),
    )


def nearly_repeated(table: pd.DataFrame, sets: GeneSetMatrix, jaccard: float) -> list[str]:
    """For each row the better set of the same factor that its set nearly repeats, empty where there is none.

    Of a factor, enriched sets (q < .05) are gone through from the best one on; a set whose Jaccard index
    with one that was kept is at least ``jaccard`` repeats the best such. A set that is enriched in several
    directions repeats itself. Rows that are not enriched have no entry.

    Parameters
    ----------
    table
        Rows of one fit and method.
    sets
        The sets and the genes by which they are compared.
    """
    like = pd.Series("", index=table.index, dtype=object)
    places = {name: i for i, name in enumerate(sets.names)}
    enriched = table[table["q_value"] < SIGNIFICANT].sort_values(["p_value", "gene_set"], kind="stable")
    for _, rows in enriched.groupby("factor", sort=False):
        # two directions of a set are neighbours of an index of 1
        names = rows["gene_set"].to_numpy()
        members = sets.members[[places[name] for name in names]]
        shared = (members @ members.T).toarray()
        sizes = np.diag(shared)
        close = shared >= jaccard * (sizes[:, None] + sizes - shared)
        kept: list[int] = []
        for i, row in enumerate(rows.index):
            better = [j for j in kept if close[i, j]]
            if better:
                like[row] = names[better[0]]
            else:
                kept.append(i)
    return like.tolist()


def enrichment_note(
    fits: Sequence[LoadedFit], sets: Mapping[str, Sequence[str]], settings: DownstreamConfig
) -> str:
    """How many of the sets that share a gene with the atlas :func:`enrich` tests, a sentence."""
    if not sets:
        return "no gene set shares a gene with the atlas, so nothing is tested"
    background = fits[0].genes
    limits = {"min_set_size": settings.min_set_size, "max_set_size": settings.max_set_size}
    n_tested = len(sets_to_test(sets, background, **limits))
    sizes = f"{settings.min_set_size} to {settings.max_set_size} of the {len(background)} modelled genes"
    if not n_tested:
        return f"none of the {len(sets)} gene sets with genes of the atlas holds {sizes}: nothing is tested"
    tested = f"{n_tested} of the {len(sets)} gene sets with genes of the atlas hold {sizes} and are tested"
    return f"{tested}, with gseapy {version('gseapy')}" if settings.enrichment.gsea else tested


@dataclass(frozen=True)
class _Tested:
    """One fit by one method: the rows to list, how much was tested, and the control's numbers of sets."""

    method: str
    table: pd.DataFrame
    n_factors: int
    n_sets: int
    by_chance: np.ndarray
    skipped: tuple[str, ...] = ()

    def summary(self) -> dict[str, object]:
        """A row of the summary, without the fit's name."""
        enriched = self.table[self.table["q_value"] < SIGNIFICANT]
        n_enriched = enriched["gene_set"].nunique()
        control = self.by_chance.mean() if len(self.by_chance) else np.nan
        return {
            "method": self.method,
            "n_factors_tested": self.n_factors,
            "n_sets_tested": self.n_sets,
            "n_enriched": n_enriched,
            "n_pairs_enriched": len(enriched[["factor", "gene_set"]].drop_duplicates()),
            "control_mean": control,
            "control_max": self.by_chance.max() if len(self.by_chance) else np.nan,
            "n_permutations": len(self.by_chance),
            "ratio": n_enriched / (1 + control),
        }


def _by_overlap(fit: LoadedFit, sets: Mapping[str, Sequence[str]], settings: DownstreamConfig) -> _Tested:
    """Over-representation among active genes."""
    active = [fit.active_genes(factor, settings.n_top_genes) for factor in range(fit.n_factors)]
    tests = OverRepresentation(
        {name: [fit.genes[i] for i in rows] for name, rows in zip(fit.factor_names, active, strict=True)},
        sets,
        fit.genes,
        loadings={
            name: fit.loadings[rows, factor].tolist()
            for factor, (name, rows) in enumerate(zip(fit.factor_names, active, strict=True))
        },
        min_set_size=settings.min_set_size,
        max_set_size=settings.max_set_size,
    )
    n_sets = len(tests.sets.names) if tests.n_factors else 0
    by_chance = tests.by_chance(settings.enrichment.n_permutations, _SEED)
    return _Tested("ora", tests.table(), tests.n_factors if n_sets else 0, n_sets, by_chance)


def _by_rank(
    fit: LoadedFit, sets: Mapping[str, Sequence[str]], settings: DownstreamConfig, threads: int
) -> _Tested:
    """GSEA of the loadings."""
    loadings = {
        name: fit.loadings[:, factor] for factor, name in enumerate(fit.factor_names) if fit.alive[factor]
    }

    def ranked(genes: Sequence[str]) -> Ranked:
        return prerank(
            loadings,
            genes,
            sets,
            min_set_size=settings.min_set_size,
            max_set_size=settings.max_set_size,
            seed=_SEED,
            threads=threads,
        )

    found = ranked(fit.genes)
    by_chance = [ranked(genes).n_enriched for genes in _renamed(fit, settings.enrichment.n_gsea_permutations)]
    return _Tested(
        "gsea",
        found.table[found.table["p_value"] < SIGNIFICANT],
        found.table["factor"].nunique(),
        found.table["gene_set"].nunique(),
        np.array(by_chance, dtype=np.int64),
        tuple(f"{factor} ({why})" for factor, why in found.skipped.items()),
    )


def _renamed(fit: LoadedFit, n_permutations: int) -> Iterator[list[str]]:
    """The fit's genes under each other's names, the same names whatever the order of the genes."""
    rng = np.random.default_rng(_SEED)
    names = sorted(fit.genes)
    for _ in range(n_permutations):
        other = dict(zip(names, rng.permutation(np.array(names, dtype=object)), strict=True))
        yield [other[gene] for gene in fit.genes]
