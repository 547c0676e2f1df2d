"""Where a Sparse VAE starts when features move together: one factor for each group of anchors.

Moran et al. (2022) prove that factors can be told apart where each has two features of its own. Here such
features are looked for: features that move together are grouped (average linkage on correlations), groups
that follow from other groups, by lines or by curves and interactions, are dropped, and the factors that
are left are cleaned by a sparse factor analysis of the features that depend on them in a line.

Deterministic; sees at most 1,000 cells.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from latentree.models.curves import Curves
from latentree.models.feature_groups import anchor_groups, group_factor, positive_definite
from latentree.models.starts import CONSTANT, Start, varimax_start

_MOST_CELLS = 1000
_LEAST_NOISE = 0.05
# a feature's weight at least where it depends on the factor, in sds: a curve may have no slope
_LEAST_WEIGHT = 0.3
# a feature is straight where curves save less than this share of what can be explained
_STRAIGHT = 0.15
# a factor is dropped below this uniqueness
_UNIQUE = 0.3
# what one feature adds to the scores counts as nothing below this leverage
_LEVERAGE = 0.05
# the rules, see choose_start
_RULE_FEATURES = 40
_AS_GOOD, _NEARLY_AS_GOOD = 0.9, 0.75
_CURVES_TELL, _WORTH_CURVES = 0.08, 0.05


@dataclass(frozen=True)
class StartChoice:
    """A start and why it was chosen.

    Attributes
    ----------
    name, start
        Which of the two it is.
    explained
        For "varimax" and "anchors" the share of a feature's variance that the factors explain by curves and
        interactions, where the factors are scored without that feature; mean over features.
    curve_gain
        Share of what lines in the anchors' factors leave unexplained that curves and interactions save;
        0 for varimax.
    encoder_mean
        "mlp" where the anchors were chosen and curves are worth it: then factors are more than weighted
        sums of features. Else "linear".
    """

    name: Literal["varimax", "anchors", "random"]
    start: Start
    explained: dict[str, float]
    curve_gain: float
    encoder_mean: Literal["linear", "mlp"]


@dataclass(frozen=True)
class _Factors:
    """A linear factor model of standardised features.

    ``loadings`` (n_genes, n_factors), ``noise`` (n_genes,), ``correlation`` and ``posterior`` (n_factors,
    n_factors): covariance of the factors a priori and given a cell.
    """

    loadings: np.ndarray
    noise: np.ndarray
    correlation: np.ndarray

    @property
    def posterior(self) -> np.ndarray:
        weighted = self.loadings / self.noise[:, None]
        return np.linalg.inv(np.linalg.inv(self.correlation) + weighted.T @ self.loadings)

    @property
    def scores(self) -> np.ndarray:
        """(n_genes, n_factors) such that ``x @ scores`` is the posterior mean."""
        return (self.loadings / self.noise[:, None]) @ self.posterior


@dataclass(frozen=True)
class _Explained:
    """``support`` (n_genes, n_factors) bool; ``linear``, ``curved`` (n_genes,) unexplained shares."""

    support: np.ndarray
    linear: np.ndarray
    curved: np.ndarray


@dataclass(frozen=True)
class _Sample:
    """``x`` (n_cells, n_genes) float64, cells evenly spread, features standardised; ``sd`` (n_genes,)."""

    x: np.ndarray
    sd: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "_Sample":
        # evenly spread: atlases often come sorted by type
        rows = np.linspace(0, len(values) - 1, min(len(values), _MOST_CELLS)).round().astype(np.int64)
        x = values[rows].astype(np.float64)
        x -= x.mean(0)
        variance = (x**2).mean(0)
        sd = np.sqrt(np.where(variance > CONSTANT, variance, 1.0))
        return cls(np.where(variance > CONSTANT, x / sd, 0.0), sd)


def choose_start(values: np.ndarray, varimax: Start, only_anchors: bool = False) -> StartChoice:
    """Anchors where they explain about as much as as many varimax factors do; else varimax.

    "Explain" is told by factors scored without the feature in question, so that no factor explains what
    it was made of. On cells most of what moves together is shared by many factors: the anchors explain .58
    to .82 of what varimax does (four atlases, 3 to 20 factors); on data with anchors .83 and more, mostly
    above .95 (38 synthetic truths). Curves tell the two apart besides, as cells have few (they save .003 to
    .055 of the unexplained variance there): where they save more, anchors need not explain as much. The
    measure is cheap: 40 features, before the anchors are refined.

    Parameters
    ----------
    values
        (n_cells, n_genes) scaled training values as the encoder sees them.
    varimax
        Start of the same values, with as many factors as the fit.
    only_anchors
        Take the anchors wherever there are any.
    """
    sample = _Sample.of(values)
    rule = np.linspace(0, values.shape[1] - 1, min(values.shape[1], _RULE_FEATURES)).round().astype(np.int64)
    n_factors = varimax.loadings.shape[1]
    explained = {"varimax": 0.0, "anchors": 0.0}
    groups = anchor_groups(sample.x, n_factors)
    if groups:
        first = _first_factors(sample.x, groups)
        told = _explain(sample.x, first, rule)
        explained["anchors"] = float(1 - told.curved[rule].mean())
        rotated = _explain(sample.x, _rotated(sample, len(groups)), rule)
        explained["varimax"] = float(1 - rotated.curved[rule].mean())
        gain = 1 - told.curved[rule].mean() / told.linear[rule].mean()
        least = _NEARLY_AS_GOOD if gain > _CURVES_TELL else _AS_GOOD
        as_good = only_anchors or explained["anchors"] >= least * explained["varimax"]
    if not groups or not as_good:
        return StartChoice("varimax", varimax, explained, 0.0, "linear")
    factors, found = _refined(sample.x, groups, first)
    gain = float(1 - found.curved.mean() / found.linear.mean())
    return StartChoice(
        name="anchors",
        start=_as_start(sample, factors, found, n_factors),
        explained=explained,
        curve_gain=gain,
        encoder_mean="mlp" if gain > _WORTH_CURVES else "linear",
    )


def _rotated(sample: _Sample, n_factors: int) -> _Factors:
    """The varimax start of this many factors."""
    start = varimax_start(sample.x.T @ sample.x / len(sample.x), n_factors, rotate="loadings")
    correlation = np.eye(n_factors) if start.correlation is None else start.correlation
    return _Factors(start.loadings, np.clip(start.noise_variance, _LEAST_NOISE, 1), correlation)


def anchors_start(values: np.ndarray, n_factors: int) -> Start | None:
    """A start with a factor for each group of anchors, and the others empty.

    ``support`` tells which features depend on which factor, by a line, a curve or in an interaction.

    Parameters
    ----------
    values
        (n_cells, n_genes) scaled training values.
    n_factors
        Factors of the fit; as many groups count at most.

    Returns
    -------
    None where no features move together.
    """
    sample = _Sample.of(values)
    groups = anchor_groups(sample.x, n_factors)
    if not groups:
        return None
    factors, found = _refined(sample.x, groups, _first_factors(sample.x, groups))
    return _as_start(sample, factors, found, n_factors)


def _first_factors(x: np.ndarray, groups: list[np.ndarray]) -> _Factors:
    """Factor analysis of the groups' members, each with its own factor alone."""
    support = np.zeros((x.shape[1], len(groups)), dtype=bool)
    loadings = np.zeros(support.shape)
    components = np.empty((len(x), len(groups)))
    for k, group in enumerate(groups):
        components[:, k] = group_factor(x[:, group])[0]
        support[group, k] = True
        loadings[group, k] = x[:, group].T @ components[:, k] / len(x)
    correlation = positive_definite(components.T @ components / len(x), 0.03)
    noise = np.clip(1 - (loadings**2).sum(1), _LEAST_NOISE, 1)
    return _analysed(x, _masked(_Factors(loadings, noise, correlation), support), support, 30)


def _masked(factors: _Factors, support: np.ndarray) -> _Factors:
    """The same model without the loadings outside the support."""
    return replace(factors, loadings=np.where(support, factors.loadings, 0))


def _refined(x: np.ndarray, groups: list[np.ndarray], factors: _Factors) -> tuple[_Factors, _Explained]:
    """Factors that are no functions of each other, of all features in a line with them; what they explain.

    The factors are sharper here than the groups' components were, so functions are looked for again.
    """
    while True:
        factors, found = _cleaned(x, groups, factors)
        uniqueness = _uniqueness(x, factors, found)
        sizes = np.array([len(group) for group in groups])
        if len(groups) == 1 or uniqueness.min() >= _UNIQUE:
            return factors, found
        least = int(np.where(uniqueness < _UNIQUE, uniqueness * sizes, np.inf).argmin())
        groups = [group for k, group in enumerate(groups) if k != least]
        kept = np.arange(len(sizes)) != least
        factors = _Factors(factors.loadings[:, kept], factors.noise, factors.correlation[np.ix_(kept, kept)])


def _cleaned(x: np.ndarray, groups: list[np.ndarray], factors: _Factors) -> tuple[_Factors, _Explained]:
    """Factors whose analysis takes in all features that depend on them in lines, and what they explain.

    Features that curves explain better are left out of it: what their curves share would pass for another
    factor, and pull one of these away.
    """
    for _ in range(2):
        found = _explain(x, factors, np.arange(x.shape[1]))
        straight = found.linear - found.curved < _STRAIGHT * (1 - found.curved)
        support = found.support & straight[:, None]
        for k, group in enumerate(groups):
            if support[:, k].sum() < 2:
                support[group, k] = True
        factors = _analysed(x, _masked(factors, support), support, 10)
    return factors, _explain(x, factors, np.arange(x.shape[1]))


def _analysed(x: np.ndarray, factors: _Factors, support: np.ndarray, n_iterations: int) -> _Factors:
    """Factor analysis with correlated factors and loadings on the support alone, by EM (Rubin 1982)."""
    correlation = x.T @ x / len(x)
    loadings, noise, prior = factors.loadings.copy(), factors.noise, factors.correlation
    for _ in range(n_iterations):
        cross, moment = _moments(correlation, _Factors(loadings, noise, prior))
        for j in np.flatnonzero(support.any(1)):
            loadings[j, support[j]] = _regressed(cross[:, j], moment, support[j])
        misfit = 1 - 2 * (loadings * cross.T).sum(1) + ((loadings @ moment) * loadings).sum(1)
        noise = np.clip(misfit, _LEAST_NOISE, 1)
        scale = np.sqrt(moment.diagonal())
        prior = positive_definite(moment / np.outer(scale, scale), 0.02)
        loadings = loadings * scale
    return _Factors(loadings, noise, prior)


def _moments(correlation: np.ndarray, factors: _Factors) -> tuple[np.ndarray, np.ndarray]:
    """E[z x] (n_factors, n_genes) and E[z z] (n_factors, n_factors) over the cells."""
    cross = factors.scores.T @ correlation
    moment = factors.posterior + cross @ factors.scores
    return cross, (moment + moment.T) / 2


def _regressed(cross: np.ndarray, moment: np.ndarray, support: np.ndarray) -> np.ndarray:
    """Loadings of one feature on the factors of its support."""
    block = moment[np.ix_(support, support)] + 1e-6 * np.eye(int(support.sum()))
    return np.linalg.solve(block, cross[support])


def _explain(x: np.ndarray, factors: _Factors, features: np.ndarray) -> _Explained:
    """What each of these features needs of the factors, scored without the feature itself."""
    support = np.zeros(factors.loadings.shape, dtype=bool)
    linear, curved = np.ones(len(support)), np.ones(len(support))
    for j, curves in _curves_without_each(x, factors, features):
        needs = curves.needs(curves.moments(x[:, j]))
        support[j, list(needs.factors)] = True
        linear[j], curved[j] = needs.linear, needs.curved
    return _Explained(support, linear, curved)


def _uniqueness(x: np.ndarray, factors: _Factors, found: _Explained) -> np.ndarray:
    """(n_factors,): what is lost without each factor, as a share of what others' lines cannot tell of it.

    Sums over the features that use the factor. 1 where the others' curves make up for nothing, as between
    normal factors however correlated; near 0 for a factor that is a curve, or a copy, of others.
    """
    lost, open_ = np.zeros(found.support.shape[1]), np.zeros(found.support.shape[1])
    used = np.flatnonzero(found.support.any(1))
    for j, curves in _curves_without_each(x, factors, used):
        moments = curves.moments(x[:, j])
        for k in np.flatnonzero(found.support[j]):
            needs = curves.needs(moments, without=int(k))
            lost[k] += needs.curved - found.curved[j]
            open_[k] += max(needs.linear - found.curved[j], 0)
    return lost / np.maximum(open_, 1e-9)


def _curves_without_each(
    x: np.ndarray, factors: _Factors, features: np.ndarray
) -> Iterator[tuple[int, Curves]]:
    """Each of these features with the curves of all factors, scored without the feature."""
    posterior, scores = factors.posterior, x @ factors.scores
    common: Curves | None = None
    for j in features:
        influence = posterior @ factors.loadings[j]
        leverage = factors.loadings[j] @ influence / factors.noise[j]
        if leverage > _LEVERAGE:
            surprise = (x[:, j] - scores @ factors.loadings[j]) / (factors.noise[j] * (1 - leverage))
            yield int(j), Curves(scores - np.outer(surprise, influence))
        else:
            common = common or Curves(scores)
            yield int(j), common


def _as_start(sample: _Sample, factors: _Factors, found: _Explained, n_factors: int) -> Start:
    """In units of the values, with empty factors behind those found."""
    cross, moment = _moments(sample.x.T @ sample.x / len(sample.x), factors)
    n_genes, n_found = found.support.shape
    padded = ((0, 0), (0, n_factors - n_found))
    loadings = np.zeros((n_genes, n_found))
    for j in np.flatnonzero(found.support.any(1)):
        slopes = _regressed(cross[:, j], moment, found.support[j])
        # a curve, or an interaction, may have no slope
        steep = np.maximum(np.abs(slopes), _LEAST_WEIGHT)
        loadings[j, found.support[j]] = np.where(slopes < 0, -steep, steep)
    posterior = np.ones(n_factors)
    posterior[:n_found] = factors.posterior.diagonal()
    correlation = np.eye(n_factors)
    correlation[:n_found, :n_found] = factors.correlation
    return Start(
        loadings=np.pad(loadings * sample.sd[:, None], padded),
        scores=np.pad(factors.scores / sample.sd[:, None], padded),
        noise_variance=np.clip(found.curved, _LEAST_NOISE, 1) * sample.sd**2,
        posterior_variance=posterior,
        offset=np.zeros(n_genes),
        support=np.pad(found.support, padded),
        correlation=correlation,
    )
