"""Groups of genes: a partition made of gene sets, which may overlap and leave genes out.

oi-VAE (Ainsworth et al. 2018) needs every gene in exactly one group. Knows nothing of files and torch.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

EXEMPT = "(other)"
"""Name of the last group: genes without a set of their own, on which there is no penalty."""


@dataclass(frozen=True)
class GeneGroups:
    """Each gene's group.

    Parameters
    ----------
    names
        Of the groups; the last is the exempt one, :data:`EXEMPT`, which may be empty.
    member
        (n_genes,) int64: place of each gene's group among ``names``.
    """

    names: tuple[str, ...]
    member: np.ndarray

    def __post_init__(self) -> None:
        if not self.names or self.names[-1] != EXEMPT:
            raise ValueError(f"the last group must be {EXEMPT!r}")
        if len(self.member) and not (self.member.min() >= 0 and self.member.max() < len(self.names)):
            raise ValueError("member names a group that is not there")

    @property
    def n_sets(self) -> int:
        """Groups that are gene sets: all but the exempt one."""
        return len(self.names) - 1

    @property
    def sizes(self) -> np.ndarray:
        """(n_groups,) int64 numbers of genes, the exempt group's last."""
        return np.bincount(self.member, minlength=len(self.names)).astype(np.int64)

    def state(self) -> dict[str, np.ndarray]:
        """As arrays of numbers, which a saved fit is made of; names as the bytes of JSON."""
        text = json.dumps(self.names, ensure_ascii=False).encode()
        return {"groups.member": self.member, "groups.names": np.frombuffer(text, dtype=np.uint8)}

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        names = json.loads(bytes(np.asarray(state["groups.names"], dtype=np.uint8)))
        return cls(tuple(names), np.array(state["groups.member"], dtype=np.int64))


@dataclass(frozen=True)
class GroupWeights:
    """How much each factor moves each gene set.

    Parameters
    ----------
    names
        Of the sets, without the exempt group.
    n_genes
        (n_sets,) int64 genes that the set has for itself.
    member
        (n_genes,) int64 place of each modelled gene's set among the names; ``n_sets`` for exempt genes.
    weights
        (n_sets, n_factors) float32 norms ``||W^(g)_.j||_2``; exactly zero where the factor does not touch
        the set.
    """

    names: tuple[str, ...]
    n_genes: np.ndarray
    member: np.ndarray
    weights: np.ndarray


def partition(sets: Mapping[str, Sequence[str]], genes: Sequence[str], min_size: int = 5) -> GeneGroups:
    """Give each gene to the most specific set that holds it, such that every set has genes enough.

    The smallest set is the most specific (as it is given, genes beyond ``genes`` among them; of equal ones
    the first by name). From the most specific set on, one that has fewer than ``min_size`` genes for itself
    is dropped, and its genes go to their next sets. What no set takes is exempt.

    Parameters
    ----------
    sets
        Name to genes; sets may overlap.
    genes
        (n_genes,) all genes, distinct.
    min_size
        Genes that a group needs.

    Returns
    -------
    Groups from the most to the least specific set, then the exempt one.
    """
    place = {gene: j for j, gene in enumerate(genes)}
    free = set(range(len(genes)))
    kept: list[tuple[str, list[int]]] = []
    for name in sorted(sets, key=lambda name: (len(set(sets[name])), name)):
        own = free & {place[gene] for gene in sets[name] if gene in place}
        if len(own) >= min_size:
            kept.append((name, sorted(own)))
            free -= own
    member = np.full(len(genes), len(kept), dtype=np.int64)
    for group, (_, columns) in enumerate(kept):
        member[columns] = group
    return GeneGroups((*(name for name, _ in kept), EXEMPT), member)


def permuted(groups: GeneGroups, rng: np.random.Generator) -> GeneGroups:
    """Control: groups of the same sizes with random genes.

    Only genes of sets change places. The exempt group keeps its own, so that all that differs is which genes
    are together.
    """
    member = groups.member.copy()
    in_sets = np.flatnonzero(member < groups.n_sets)
    member[in_sets] = rng.permutation(member[in_sets])
    return GeneGroups(groups.names, member)
