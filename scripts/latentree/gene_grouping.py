"""From the gene sets that a model is told of to the groups of its genes."""

from collections.abc import Sequence

import numpy as np

from latentree.errors import InputError
from latentree.gene_sets import GeneSets, MatchedSets, match, match_files
from latentree.model_settings import OIVAESettings
from latentree.models.gene_groups import GeneGroups, partition, permuted
from latentree.seeds import derive_seed


def group_genes(
    settings: OIVAESettings,
    modelled: Sequence[str],
    genes: Sequence[str],
    organism: str | None,
    seed: int,
) -> GeneGroups:
    """Groups of the modelled genes, in their order.

    Parameters
    ----------
    modelled, genes
        The genes to group, and all that the cells have, by which the more specific of two sets is known.
    organism
        "human" or "mouse"; None: by the spelling of the genes.
    seed
        Of the control, where settings ask for permuted sets.

    Raises
    ------
    InputError
        No sets are given, a file of sets is broken, or no set has enough modelled genes.
    """
    if not settings.gene_sets:
        raise InputError(
            "gene_sets",
            "oi_vae needs gene sets, and none are given",
            'Give settings={"gene_sets": "sets.gmt"} or a dict of sets; in a config, gene_sets of the atlas',
        )
    found = _matched(settings, genes, organism)
    groups = partition(found.sets, modelled, settings.min_set_size)
    if groups.n_sets == 0:
        raise InputError(
            "gene_sets",
            f"none of {len(found.sets)} sets has {settings.min_set_size} of {len(modelled)} modelled genes "
            "for itself",
            "Model more genes, give other sets, or lower min_set_size",
        )
    if settings.permuted:
        return permuted(groups, np.random.default_rng(derive_seed(seed, "permuted gene sets")))
    return groups


def _matched(settings: OIVAESettings, genes: Sequence[str], organism: str | None) -> MatchedSets:
    """The sets in the cells' own gene names."""
    sets = settings.gene_sets
    assert sets is not None
    if organism is None:
        # genes that look like neither are compared as they are
        looks = GeneSets("adata.var_names", {"all": tuple(genes)}).organism
        organism = looks or "human"
        if isinstance(sets, dict) and looks is None:
            organism = GeneSets("gene_sets", sets).organism or organism
    if isinstance(sets, dict):
        return match(GeneSets("gene_sets", sets), genes, organism)
    return match_files([sets] if isinstance(sets, str) else sets, genes, organism)
