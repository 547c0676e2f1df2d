"""Fits of all seeds in, their consensus out: an AnnData like a fit's, fit.json's content, rows of a table."""

from collections.abc import Mapping, Sequence
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from latentree.consensus import Consensus, SeedFit, build_consensus
from latentree.factor_matching import FactorSet
from latentree.scores import factor_names
from latentree.seeds import CONSENSUS

CONSENSUS_COLUMNS = [
    "model",
    "n_factors",
    "factor",
    "stability_mean",
    "stability_lowest",
    "seeds_found",
    "n_seeds",
    "half_agreement",
    "chance_95",
    "pca_reference",
    "halves_of_cells",
    "stable",
    "members",
    "note",
]
_ONE_SEED = "one seed only: stability over seeds cannot be known"
_BY_CONSTRUCTION = (
    "the seeds agree by construction, which says nothing of other cells; halves of the cells do"
)
_BEYOND = "beyond n_factors, so not in factors.h5ad"
# of a fit's summary what holds for all seeds
_SHARED = ("model", "n_factors", "settings", "versions", "atlas_sha256", "scale", "n_cells", "n_genes")


def consensus_of(fits: Sequence[ad.AnnData], halves: Sequence[tuple[ad.AnnData, ad.AnnData]]) -> Consensus:
    """The consensus of one model's fits, matched on test cells.

    Parameters
    ----------
    fits
        factors.h5ad of every seed, of the same cells.
    halves
        factors.h5ad of pairs of refits on disjoint halves of the cells; without effect where the atlas has no
        test cells, because the halves then have no cell in common.
    """
    test = (fits[0].obs["split"] == "test").to_numpy()
    judged = fits[0].obs_names[test if test.any() else np.ones(len(test), dtype=bool)]
    pairs = [(_factor_set(a, judged), _factor_set(b, judged)) for a, b in halves] if test.any() else []
    return build_consensus([_seed_fit(fit, judged) for fit in fits], pairs)


def _seed_fit(fit: ad.AnnData, judged: pd.Index) -> SeedFit:
    model = fit.uns["latentree"]["model"]
    inclusion = fit.varm.get(f"{model}_inclusion")
    return SeedFit(
        factors=_factor_set(fit, judged),
        latents=np.asarray(fit.obsm[f"X_{model}"]),
        variance_share=fit.uns["latentree"]["factors"]["variance_share"].to_numpy(dtype=np.float64),
        inclusion=None if inclusion is None else np.asarray(inclusion),
    )


def _factor_set(fit: ad.AnnData, judged: pd.Index) -> FactorSet:
    facts = fit.uns["latentree"]
    return FactorSet(
        loadings=np.asarray(fit.varm[f"{facts['model']}_loadings"]),
        scores=np.asarray(fit.obsm[f"X_{facts['model']}"])[fit.obs_names.get_indexer(judged)],
        alive=facts["factors"]["alive"].to_numpy(dtype=bool),
    )


def consensus_anndata(first: ad.AnnData, consensus: Consensus) -> ad.AnnData:
    """factors.h5ad of a consensus, with the keys of a fit's; ``first`` is the first seed's."""
    facts = first.uns["latentree"]
    model = facts["model"]
    known = [column for column in ("cell_type", "split") if column in first.obs]
    factors = ad.AnnData(obs=first.obs[known].copy(), var=pd.DataFrame(index=first.var_names))
    factors.obsm[f"X_{model}"] = consensus.latents
    factors.varm[f"{model}_loadings"] = consensus.loadings
    if consensus.inclusion is not None:
        factors.varm[f"{model}_inclusion"] = consensus.inclusion
    n_factors = len(consensus.alive)
    table = pd.DataFrame(
        {
            "factor": factor_names(n_factors),
            "n_active_genes": (consensus.loadings != 0).sum(axis=0).astype(np.int64),
            "variance_share": consensus.variance_share,
            "alive": consensus.alive,
            "flipped": consensus.flipped,
            **_of_all_places(consensus),
        },
        index=[str(place) for place in range(n_factors)],
    )
    kept = ("model", "settings_json", "versions_json", "atlas_sha256", "scale")
    factors.uns["latentree"] = {
        **{key: facts[key] for key in kept if key in facts},
        "seed": CONSENSUS,
        "chance_95": consensus.stability.chance_95,
        "n_seeds": consensus.stability.n_seeds,
        "factors": table,
    }
    return factors


def _of_all_places(consensus: Consensus) -> dict[str, np.ndarray]:
    """What the table of factors says of stability, (n_factors,); dead ones have none."""
    stability, n_live, n_factors = consensus.stability, consensus.n_live, len(consensus.alive)
    columns: dict[str, np.ndarray] = {}
    for name, values in (
        ("stability_mean", stability.mean),
        ("stability_lowest", stability.lowest),
        ("half_agreement", stability.half_agreement),
        ("halves_of_cells", stability.halves_of_cells),
    ):
        columns[name] = np.full(n_factors, np.nan)
        columns[name][:n_live] = values[:n_live]
    columns["seeds_found"] = np.zeros(n_factors, dtype=np.int64)
    columns["seeds_found"][:n_live] = stability.seeds_found[:n_live]
    columns["stable"] = np.full(n_factors, "no", dtype=object)
    columns["stable"][:n_live] = stability.verdicts[:n_live]
    return columns


def consensus_summary(summaries: Sequence[Mapping[str, Any]], consensus: Consensus) -> dict[str, Any]:
    """fit.json of a consensus: what holds for all seeds, and how they agree."""
    stability = consensus.stability
    shown = stability.verdicts[: consensus.n_live]
    return {
        **{key: summaries[0][key] for key in _SHARED if key in summaries[0]},
        "seed": CONSENSUS,
        "seeds": [summary["seed"] for summary in summaries],
        "alive_factors": consensus.n_live,
        "stable_factors": shown.count("yes"),
        "beyond_n_factors": len(stability.mean) - consensus.n_live,
        "half_agreement": _json_number(stability.all_half_agreement),
        "halves_of_cells": _json_number(stability.all_halves_of_cells),
        "chance_95": _json_number(stability.chance_95),
        "members": [
            _members(group, [summary["seed"] for summary in summaries]) for group in consensus.members.T
        ],
    }


def _members(group: np.ndarray, seeds: Sequence[int]) -> dict[str, str]:
    """Which factor of each seed is in a group (n_seeds,), by the seed; seeds without one are left out."""
    return {str(seed): f"f{own + 1}" for seed, own in zip(seeds, group, strict=True) if own >= 0}


def _json_number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def consensus_rows(model: str, n_factors: int, seeds: Sequence[int], consensus: Consensus) -> pd.DataFrame:
    """Rows of consensus.tsv: all factors together, each live one, and groups beyond n_factors (x1, x2, ...).

    Columns ``CONSENSUS_COLUMNS``, ``pca_reference`` empty.
    """
    stability = consensus.stability
    n_live, n_groups = consensus.n_live, len(stability.mean)
    names = [*factor_names(n_live), *(f"x{i}" for i in range(1, n_groups - n_live + 1))]
    general = _ONE_SEED if len(seeds) == 1 else _BY_CONSTRUCTION if stability.by_construction else ""
    notes = [general] * n_live + [_BEYOND] * (n_groups - n_live)
    table = pd.DataFrame(
        {
            "factor": names,
            "stability_mean": stability.mean,
            "stability_lowest": stability.lowest,
            "seeds_found": stability.seeds_found,
            "half_agreement": stability.half_agreement,
            "halves_of_cells": stability.halves_of_cells,
            "stable": stability.verdicts,
            "members": [_in_one_field(_members(group, seeds)) for group in consensus.members.T],
            "note": notes,
        }
    )
    if n_groups:
        shown = table.iloc[:n_live]
        counted = ""
        # none stable and none known to be are not the same
        if not (shown["stable"] == "unknown").all():
            counted = f"{(shown['stable'] == 'yes').sum()} of {n_live} live factors are stable"
        overall = {
            "factor": "all",
            "stability_mean": shown["stability_mean"].mean(),
            "stability_lowest": shown["stability_lowest"].min(),
            "seeds_found": shown["seeds_found"].mean(),
            "half_agreement": stability.all_half_agreement,
            "halves_of_cells": stability.all_halves_of_cells,
            "stable": "",
            "members": "",
            "note": "; ".join(filter(None, (counted, general))),
        }
        table = pd.concat([pd.DataFrame([overall]), table], ignore_index=True)
    return table.assign(
        model=model,
        n_factors=n_factors,
        n_seeds=stability.n_seeds,
        chance_95=stability.chance_95,
        pca_reference=np.nan,
    )[CONSENSUS_COLUMNS]


def _in_one_field(members: Mapping[str, str]) -> str:
    """``0:f3;1:f1``"""
    return ";".join(f"{seed}:{factor}" for seed, factor in members.items())


def consensus_table(parts: Sequence[pd.DataFrame], stability: pd.DataFrame) -> pd.DataFrame:
    """consensus.tsv: the rows of all models, beside what PCA reaches on disjoint halves of the cells.

    Parameters
    ----------
    parts
        Of :func:`consensus_rows`.
    stability
        stability.tsv; its rows of ``pca`` between ``halves``, which compare scores alone and so flatter PCA,
        stand in where PCA is no model of the config.
    """
    table = pd.concat(parts, ignore_index=True).sort_values(["model", "n_factors"], kind="stable")
    by_scores = stability[(stability["model"] == "pca") & (stability["comparison"] == "halves")]
    as_here = table[(table["model"] == "pca") & ~table["factor"].str.startswith("x")]
    levels = [
        _all_and_mean(by_scores, "agreement"),
        _all_and_mean(as_here.dropna(subset="halves_of_cells"), "halves_of_cells"),
    ]
    known = {key: level for found in levels for key, level in found.items()}
    reference = [
        known.get((k, factor == "all"), np.nan)
        for k, factor in zip(table["n_factors"], table["factor"], strict=True)
    ]
    return table.assign(pca_reference=reference)[CONSENSUS_COLUMNS].reset_index(drop=True)


def _all_and_mean(rows: pd.DataFrame, column: str) -> dict[tuple[int, bool], float]:
    """For each n_factors the row ``all`` (True), and the mean of the factors' rows (False)."""
    levels: dict[tuple[int, bool], float] = {}
    for together in (True, False):
        means = rows[(rows["factor"] == "all") == together].groupby("n_factors")[column].mean()
        levels |= {(int(str(k)), together): float(level) for k, level in means.items()}
    return levels
