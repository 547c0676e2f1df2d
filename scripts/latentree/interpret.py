"""Questions to a fit: which cell types use its factors, which gene sets name them, which come back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from latentree.config import DownstreamConfig, checked
from latentree.consensus_files import consensus_anndata, consensus_rows
from latentree.consensus_files import consensus_of as matched_consensus
from latentree.enrichment_tables import Enrichment, enrichment_note
from latentree.enrichment_tables import enrich as enriched_sets
from latentree.errors import InputError, listed
from latentree.fitted import Fit
from latentree.gene_sets import GeneSets, MatchedSets, match, match_files, organism_by_case
from latentree.resampling import draw_part
from latentree.scores import LoadedFit
from latentree.usage import usage_table

__all__ = ["FitConsensus", "consensus_of", "enrich", "halves_of", "usage_by_type"]


@dataclass(frozen=True)
class FitConsensus:
    """What the fits of several seeds of one model agree on.

    Attributes
    ----------
    factors
        AnnData as ``Fit.factors``, with ``seed`` = "consensus" and, in ``uns["latentree"]["factors"]``, how
        stable each factor is. :func:`enrich`, :func:`usage_by_type` and ``latentree.to_mudata`` take it.
    table
        A row for all factors together and one per factor: the columns of tables/consensus.tsv
        (docs/outputs.md) but for pca_reference. Factors of a few seeds only, for which n_factors leaves no
        place, are called x1, x2, ...
    """

    factors: ad.AnnData
    table: pd.DataFrame


def enrich(
    fit: Fit | ad.AnnData,
    gene_sets: str | Path | Sequence[str | Path] | Mapping[str, Sequence[str]],
    *,
    organism: str | None = None,
    gsea: bool = True,
    n_permutations: int = 20,
    n_top_genes: int = 50,
    min_set_size: int = 5,
    max_set_size: int = 500,
    threads: int = 1,
) -> Enrichment:
    """Gene sets that are enriched among the genes of each live factor.

    Parameters
    ----------
    fit
        A fit, or AnnData as factors.h5ad holds it; (n_genes, n_factors) loadings.
    gene_sets
        GMT files or tables of regulons (columns tf and target), one or several, or set name to gene names.
    organism
        "human" or "mouse", whose gene names the fit has; None: by their case.
    gsea
        Pre-ranked GSEA of the loadings beside over-representation; a second or so for each dense factor.
    n_permutations
        Times that the test is repeated with the genes' names permuted, for what chance gives.
    n_top_genes
        Active genes of models without exact zeros: so many of the largest loadings.
    min_set_size, max_set_size
        Sets with fewer or more modelled genes are not tested.
    threads
        CPU threads, for GSEA.

    Returns
    -------
    ``table`` (a row per factor, direction and set, as tables/enrichment.tsv), ``summary`` (numbers of
    enriched sets beside those by chance) and ``notes``. The background is the modelled genes; q-values are
    Benjamini-Hochberg over all factors and sets (:mod:`latentree.enrichment`).

    Raises
    ------
    InputError
        A file is missing or broken, no gene is shared with the sets, or an argument is unusable.
    """
    loaded = _loaded(fit)
    sizes = {"n_top_genes": n_top_genes, "min_set_size": min_set_size, "max_set_size": max_set_size}
    tests = {"gsea": gsea, "n_permutations": n_permutations}
    settings = checked(DownstreamConfig, {**sizes, "enrichment": tests}, "enrich")
    kind = organism or organism_by_case(loaded.genes) or "human"
    if kind not in ("human", "mouse"):
        raise InputError("organism", f"{kind!r} is not known", "Use 'human' or 'mouse'")
    sets = _matched(gene_sets, loaded.genes, kind)
    found = enriched_sets([loaded], sets.sets, settings, threads)
    notes = (*sets.notes, *found.notes, enrichment_note([loaded], sets.sets, settings))
    return Enrichment(found.table, found.summary, notes)


def usage_by_type(fit: Fit | ad.AnnData, cell_type: str = "cell_type") -> pd.DataFrame:
    """How much each cell type uses each live factor.

    Parameters
    ----------
    fit
        A fit, AnnData as factors.h5ad holds it, or what ``latentree.project`` gives.
    cell_type
        Column of its obs: types, or any other grouping of cells.

    Returns
    -------
    The columns of tables/usage.tsv: a row per factor and type with mean_usage (in sd over all cells),
    share_using and specificity (area under the ROC curve); see :func:`latentree.usage.usage_table`.

    Raises
    ------
    InputError
        There is no such column.
    """
    factors = _factors(fit)
    if cell_type not in factors.obs:
        raise InputError(
            "cell_type",
            f"no obs column {cell_type!r}; there is {listed(factors.obs.columns) or 'none'}",
            "Name a column of fit.factors.obs",
        )
    return usage_table([_loaded(factors, cell_type)])


def consensus_of(
    fits: Sequence[Fit | ad.AnnData], halves: Sequence[tuple[Fit | ad.AnnData, Fit | ad.AnnData]] = ()
) -> FitConsensus:
    """Match the factors of several seeds of one model, and tell which of them come back.

    Factors are matched one to one by loadings and by the scores of test cells (of all cells, where none is a
    test cell); the strength of a match is half of |r of loadings + r of scores|, and its level by chance is
    in the table.

    Parameters
    ----------
    fits
        Of one model and number of factors on the same cells and genes, with different seeds.
    halves
        Pairs of fits on :func:`halves_of` the cells: whether other cells give the same factors. Models that
        start from the data agree over seeds by construction, and only this tells then.

    Raises
    ------
    InputError
        The fits are not of one model, cells and genes, or a seed is there twice.
    """
    tables = [_factors(fit) for fit in fits]
    if not tables:
        raise InputError("fits", "there are none", "Give one fit per seed")
    first = _facts(tables[0])
    k = tables[0].obsm[f"X_{first['model']}"].shape[1]
    for table in tables[1:]:
        _comparable(tables[0], table, "fits")
        if not table.obs_names.equals(tables[0].obs_names):
            raise InputError("fits", "are of different cells", "Fit every seed to the same AnnData")
    pairs = [(_factors(a), _factors(b)) for a, b in halves]
    for half in (half for pair in pairs for half in pair):
        _comparable(tables[0], half, "halves")
        _has_test_cells(tables[0], half)
    seeds = [int(_facts(table)["seed"]) for table in tables]
    if len(set(seeds)) < len(seeds):
        raise InputError("fits", f"have the seeds {seeds}, one of them twice", "Give one fit per seed")
    consensus = matched_consensus(tables, pairs)
    rows = consensus_rows(str(first["model"]), k, seeds, consensus)
    return FitConsensus(consensus_anndata(tables[0], consensus), rows.drop(columns="pca_reference"))


def halves_of(adata: ad.AnnData, *, donor: str | None = None, seed: int = 0) -> tuple[ad.AnnData, ad.AnnData]:
    """Two halves of an atlas that share no training or validation cell; both keep all test cells.

    Parameters
    ----------
    adata
        With ``obs["split"]``, as ``latentree.read_atlas`` gives it; (n_cells, n_genes).
    donor
        obs column of donors: halves are of whole donors where these can be halved.
    seed
        Of the draw; the same as ``downstream.stability.seed`` of a config, where the halves are the same.

    Raises
    ------
    InputError
        There is no such column, or no column split.
    """
    for column in ["split"] if donor is None else ["split", donor]:
        if column not in adata.obs:
            raise InputError("adata", f"has no obs column {column!r}", "Use latentree.read_atlas")
    split = adata.obs["split"].to_numpy(dtype=str)
    donors = None if donor is None else adata.obs[donor].to_numpy(dtype=str)
    first, second = (draw_part(f"half{i}", split, seed, donors=donors).kept for i in range(2))
    return adata[first].copy(), adata[second].copy()


def _factors(fit: Fit | ad.AnnData) -> ad.AnnData:
    return fit if isinstance(fit, ad.AnnData) else fit.factors


def _facts(factors: ad.AnnData) -> Mapping[str, Any]:
    facts = factors.uns.get("latentree", {})
    if "model" not in facts or f"X_{facts['model']}" not in factors.obsm:
        raise InputError("fit", "is no AnnData of factors", "Give a fit, or what factors.h5ad holds")
    return dict(facts)


def _loaded(fit: Fit | ad.AnnData, cell_type: str = "cell_type") -> LoadedFit:
    """What tables are made of; of an AnnData whose cells have no type, all are of one."""
    factors = _factors(fit)
    _facts(factors)
    named = ad.AnnData(
        obs=pd.DataFrame({"cell_type": "", "split": "none"}, index=factors.obs_names),
        var=pd.DataFrame(index=factors.var_names),
        obsm=dict(factors.obsm),
        varm=dict(factors.varm),
        uns={"latentree": factors.uns["latentree"]},
    )
    if cell_type in factors.obs:
        named.obs["cell_type"] = np.asarray(factors.obs[cell_type].astype(str))
    return LoadedFit.from_anndata(named, {} if isinstance(fit, ad.AnnData) else fit.summary)


def _matched(
    gene_sets: str | Path | Sequence[str | Path] | Mapping[str, Sequence[str]],
    genes: Sequence[str],
    organism: str,
) -> MatchedSets:
    """The sets in the fit's own gene names."""
    if isinstance(gene_sets, Mapping):
        own = {name: tuple(dict.fromkeys(members)) for name, members in gene_sets.items()}
        return match(GeneSets("gene_sets", own), genes, organism)
    return match_files([gene_sets] if isinstance(gene_sets, str | Path) else gene_sets, genes, organism)


def _comparable(first: ad.AnnData, other: ad.AnnData, where: str) -> None:
    """Raise InputError where two fits cannot be matched."""
    models = [str(_facts(table)["model"]) for table in (first, other)]
    sizes = [table.obsm[f"X_{model}"].shape[1] for table, model in zip((first, other), models, strict=True)]
    if models[0] != models[1] or sizes[0] != sizes[1]:
        raise InputError(
            where,
            f"{models[1]} with {sizes[1]} factors is there beside {models[0]} with {sizes[0]}",
            "Give fits of one model and number of factors",
        )
    if not other.var_names.equals(first.var_names):
        raise InputError(where, "are of different genes", "Fit all to the same modelled genes")


def _has_test_cells(whole: ad.AnnData, half: ad.AnnData) -> None:
    """Raise InputError where a half lacks cells on which it is compared."""
    test = whole.obs_names[(whole.obs["split"] == "test").to_numpy()]
    lacking = test.difference(half.obs_names)
    if len(lacking):
        raise InputError(
            "halves",
            f"one lacks {len(lacking)} of the {len(test)} test cells: {listed(lacking, 3)}",
            "Make them by latentree.halves_of",
        )
