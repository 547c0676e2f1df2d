"""Pre-ranked gene set enrichment analysis of loadings, with gseapy, offline."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from latentree.enrichment import COLUMNS, SIGNIFICANT, GeneSetMatrix, benjamini_hochberg
from latentree.files import join_names

MIN_RANKED = 15
"""A factor with fewer loadings other than zero has no ranking worth the name."""
# random gene sets that the score of each size of set is compared with; rarer scores are sampled further
_N_RANDOM = 1000


@dataclass(frozen=True)
class Ranked:
    """What became of the factors of one fit.

    Attributes
    ----------
    table
        Columns ``COLUMNS``, a row for every tested pair of factor and set.
    skipped
        Factor to why it has no test.
    """

    table: pd.DataFrame
    skipped: dict[str, str]

    @property
    def n_enriched(self) -> int:
        """Sets enriched in some factor."""
        return int(self.table.loc[self.table["q_value"] < SIGNIFICANT, "gene_set"].nunique())


def prerank(
    loadings: Mapping[str, np.ndarray],
    genes: Sequence[str],
    sets: Mapping[str, Sequence[str]],
    *,
    min_set_size: int = 5,
    max_set_size: int = 500,
    seed: int = 0,
    threads: int = 1,
) -> Ranked:
    """Test whether the genes of a set gather at an end of each factor's ranking, for the factors of one fit.

    Genes are ranked by loading, zeros left out: a sparse model says of them that they are not in the
    factor. Enrichment scores are those of Subramanian et al. (2005) with weight 1, p-values those of
    fgsea's multilevel sampling, which resolves small ones; q-values are Benjamini-Hochberg over all pairs
    of the fit. Of a factor whose loadings have one sign, a set that gathers among the weakest ones counts as
    not enriched (p = 1), and so does a score of a sign that hardly any random set has.

    Parameters
    ----------
    loadings
        Factor name to its loadings, shape (n_genes,). Factors with fewer than ``MIN_RANKED`` loadings
        other than zero, or with equal ones only, are skipped.
    genes
        Gene names, length n_genes; their order does not matter.
    sets
        Set name to its genes.
    min_set_size, max_set_size
        Sets with fewer or more of the ranked genes are not tested, nor those that hold all of them.
    seed
        Of the random gene sets.
    threads
        For gseapy; their number changes no result.

    Returns
    -------
    Table with the columns ``COLUMNS``: factors as given, within one by p-value and set. n_set: ranked genes
    of the set; n_background: ranked genes; genes, n_overlap: the leading edge and its size, from the end of
    the ranking; direction: up or down; odds_ratio is empty.
    """
    tables, skipped = [], {}
    for factor, values in loadings.items():
        ranking = _ranking(values, genes)
        distinct = ranking.nunique()
        if len(ranking) < MIN_RANKED:
            skipped[factor] = f"{len(ranking)} loadings other than zero, {MIN_RANKED} are needed"
        elif distinct == 1:
            skipped[factor] = "all loadings are equal"
        else:
            largest = min(max_set_size, len(ranking) - 1)
            found = GeneSetMatrix(sets, list(ranking.index), min_set_size=min_set_size, max_set_size=largest)
            if not found.names:
                skipped[factor] = f"no set has {min_set_size} to {largest} of its {len(ranking)} ranked genes"
                continue
            try:
                tables.append(_one_factor(ranking, found, seed, threads).assign(factor=factor))
            except BaseException as error:
                # a panic of gseapy's Rust code is no Exception, and its class cannot be imported
                if type(error).__name__ != "PanicException":
                    raise
                skipped[factor] = f"gseapy gave up ({error})"
    if not tables:
        return Ranked(pd.DataFrame(columns=COLUMNS), skipped)
    table = pd.concat(tables, ignore_index=True)
    table["q_value"] = benjamini_hochberg(table["p_value"].to_numpy())
    place = {factor: i for i, factor in enumerate(loadings)}
    table = table.sort_values(
        ["factor", "p_value", "gene_set"],
        key=lambda column: column.map(place) if column.name == "factor" else column,
        ignore_index=True,
    )
    return Ranked(table.assign(method="gsea", odds_ratio=np.nan)[COLUMNS], skipped)


def _ranking(values: np.ndarray, genes: Sequence[str]) -> pd.Series:
    """Loadings other than zero by gene, the largest first.

    Equal ones stand in the order of a checksum of their names. By name itself, the HLA or RPL genes would
    stand in a row and look like a set that gathers.
    """
    named = [(gene, float(value)) for gene, value in zip(genes, values, strict=True) if value != 0]
    named.sort(key=lambda item: (-item[1], hashlib.sha256(item[0].encode()).hexdigest()))
    return pd.Series([value for _, value in named], index=[gene for gene, _ in named], dtype=np.float64)


def _one_factor(ranking: pd.Series, sets: GeneSetMatrix, seed: int, threads: int) -> pd.DataFrame:
    """gseapy's tests of one factor.

    gseapy gets tokens for genes and sets instead of their names, because it changes the case of names and
    joins genes by ``;``.
    """
    import gseapy

    place = {gene: i for i, gene in enumerate(ranking.index)}
    result = gseapy.prerank(
        pd.DataFrame({"gene": [f"T{i}" for i in range(len(ranking))], "loading": ranking.to_numpy()}),
        gene_sets={
            f"T{i}": sorted(f"T{place[sets.genes[j]]}" for j in sets.positions(i))
            for i in range(len(sets.names))
        },
        min_size=1,
        max_size=len(ranking),
        method="multilevel",
        permutation_num=_N_RANDOM,
        # the order is made above; gseapy's own sort does not keep that of equal values
        ascending=None,
        threads=threads,
        seed=seed,
        outdir=None,
        no_plot=True,
    ).res2d
    rows = np.array([int(token[1:]) for token in result["Term"]], dtype=np.int64)
    nes = result["NES"].to_numpy(dtype=np.float64)
    p_values = result["NOM p-val"].to_numpy(dtype=np.float64)
    weakest = ((nes < 0) & (ranking > 0).all()) | ((nes > 0) & (ranking < 0).all())
    edges = [
        [ranking.index[int(token[1:])] for token in text.split(";") if token] for text in result["Lead_genes"]
    ]
    return pd.DataFrame(
        {
            "gene_set": [sets.names[i] for i in rows],
            "n_overlap": [len(edge) for edge in edges],
            "n_set": sets.sizes[rows],
            "n_background": len(ranking),
            # no value: no random set had a score of that sign
            "p_value": np.where(weakest | np.isnan(p_values), 1.0, p_values),
            "genes": [join_names(edge) for edge in edges],
            "nes": nes,
            "direction": np.where(nes > 0, "up", "down"),
        }
    )
