"""Does a fitted Sparse VAE meet the paper's conditions for identifiable factors?

Moran et al. (2022), Theorem 2: each factor needs two anchor genes that depend on it alone, and two factors
must covary by less than the smaller of their variances.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

_FEWEST_ANCHORS = 2
# a decoder whose curves save less of the held-out error than this is not worth its time
_LEAST_GAIN = 0.01


@dataclass(frozen=True)
class Diagnostics:
    """What a user should know about a fitted Sparse VAE.

    Attributes
    ----------
    n_factors, n_alive
        Factors asked for, and those with at least one gene.
    n_genes, genes_without_factor
        Genes, and those whose weights are all zero: they are constants of the model.
    share_of_zeros
        Share of the weights that are exactly zero.
    n_anchors
        For each factor the genes that depend on it alone.
    anchored_factors
        Living factors with at least two of these, as the paper's condition asks.
    covariance_ratio
        Largest |covariance| of two living factors over the smaller of their variances; 0 for fewer than two.
    start
        Where the fit started.
    start_explained
        Share of a feature's variance that each start's factors explain without it, where starts were
        compared; empty where the start was given.
    curve_gain
        Share of the held-out squared error that the decoder's curves save over straight lines on the same
        factors; None where it draws lines, or nothing was held out.
    """

    n_factors: int
    n_alive: int
    n_genes: int
    genes_without_factor: int
    share_of_zeros: float
    n_anchors: tuple[int, ...]
    anchored_factors: int
    covariance_ratio: float
    start: str = ""
    start_explained: Mapping[str, float] = field(default_factory=dict)
    curve_gain: float | None = None

    def sentences(self) -> tuple[str, ...]:
        """What is amiss, in plain words; empty where all is well."""
        if self.n_alive == 0:
            return (
                "All factors are empty: the model says that no gene depends on any factor, "
                "its latents are zero and mean nothing",
            )
        found = []
        if self.n_alive < self.n_factors:
            found.append(f"{self.n_factors - self.n_alive} of {self.n_factors} factors are empty")
        if self.genes_without_factor:
            found.append(f"{self.genes_without_factor} of {self.n_genes} genes depend on no factor")
        n_unanchored = self.n_alive - self.anchored_factors
        if n_unanchored:
            found.append(
                f"{n_unanchored} of {self.n_alive} living factors have fewer than {_FEWEST_ANCHORS} genes of "
                "their own, so the paper's condition for identifiable factors is not met"
            )
        if self.covariance_ratio >= 1:
            found.append(
                f"two factors covary by {self.covariance_ratio:.2f} times the smaller of their variances, "
                "where the paper's condition for identifiable factors asks for less than 1"
            )
        if self.curve_gain is not None and self.curve_gain < _LEAST_GAIN:
            found.append(
                f"the decoder's curves save {self.curve_gain:.1%} of the held-out error that straight lines "
                "leave: decoder: linear would say nearly the same, sooner"
            )
        return tuple(found)


def diagnose(used: np.ndarray, second_moment: np.ndarray) -> Diagnostics:
    """Look at the weights' zeros and the factors' covariance.

    Parameters
    ----------
    used
        (n_genes, n_factors) bool, where a gene depends on a factor.
    second_moment
        (n_factors, n_factors) of the latents over cells.
    """
    alive = used.any(axis=0)
    own = used & (used.sum(axis=1, keepdims=True) == 1)
    moment = np.abs(second_moment[np.ix_(alive, alive)])
    ratio = moment / np.minimum.outer(np.diag(moment), np.diag(moment))
    np.fill_diagonal(ratio, 0)
    return Diagnostics(
        n_factors=used.shape[1],
        n_alive=int(alive.sum()),
        n_genes=len(used),
        genes_without_factor=int((~used.any(axis=1)).sum()),
        share_of_zeros=float((~used).mean()),
        n_anchors=tuple(int(n) for n in own.sum(axis=0)),
        anchored_factors=int((own.sum(axis=0) >= _FEWEST_ANCHORS).sum()),
        covariance_ratio=float(ratio.max(initial=0.0)),
    )
