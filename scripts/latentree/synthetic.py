"""Data with known sparse, non-linear factors: the paper's synthetic set and five truths of our own.

Every truth has at least two anchors per factor (features of that factor alone), the condition under which
Moran et al. (2022) prove that factors can be told apart, and a mask that says which feature uses which.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

Curve = Callable[[np.ndarray], np.ndarray]

MONOTONE: Mapping[str, Curve] = MappingProxyType(
    {
        "linear": lambda z: z,
        "saturating": np.tanh,
        "exponential": lambda z: np.exp(0.7 * z),
        "softplus": lambda z: np.logaddexp(0, 2 * z),
        "cubic": lambda z: z + 0.3 * z**3,
        "step": lambda z: 1 / (1 + np.exp(-4 * (z - 0.5))),
    }
)
NON_MONOTONE: Mapping[str, Curve] = MappingProxyType(
    {
        "square": np.square,
        "absolute": np.abs,
        "sine": lambda z: np.sin(2 * z),
        "bump": lambda z: np.exp(-2 * (z - 0.5) ** 2),
        "valley": lambda z: z**2 - z,
    }
)
INTERACTIONS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = MappingProxyType(
    {
        "product": lambda y, z: y * z,
        "gate": lambda y, z: np.maximum(y, 0) * z,
        "distance": lambda y, z: np.hypot(y, z),
        "both": lambda y, z: np.tanh(y + z) + 0.5 * y,
    }
)


@dataclass(frozen=True)
class SyntheticData:
    """Values (n_cells, n_genes) float32, and the factors (n_cells, n_factors) float32 they come from.

    ``mask`` (n_genes, n_factors) bool tells which feature depends on which factor; ``signal`` (n_cells,
    n_genes) float32 is the values without noise.
    """

    name: str
    values: np.ndarray
    factors: np.ndarray
    mask: np.ndarray
    signal: np.ndarray

    @property
    def noise_floor(self) -> float:
        """Mean squared error of whoever knows the factors and the curves."""
        return float(np.mean((self.values - self.signal) ** 2))


def correlated_factors(correlation: np.ndarray, n_cells: int, rng: np.random.Generator) -> np.ndarray:
    """(n_cells, n_factors) from N(0, correlation)."""
    return rng.standard_normal((n_cells, len(correlation))) @ np.linalg.cholesky(correlation).T


def even_correlation(n_factors: int, rho: float) -> np.ndarray:
    """(n_factors, n_factors) with ``rho`` everywhere off the diagonal."""
    return np.full((n_factors, n_factors), rho) + (1 - rho) * np.eye(n_factors)


def paper_data(rho: float, rng: np.random.Generator, n_cells: int = 1000) -> SyntheticData:
    """The synthetic set of Moran et al. (2022): 7 features of 2 factors (covariance ``rho``)."""
    z = correlated_factors(even_correlation(2, rho), n_cells, rng)
    first, second = z.T
    signal = [first, 2 * first, 3 * first**2, 4 * second, 5 * second, 6 * np.sin(second), 7 * first * second]
    uses = [(0,), (0,), (0,), (1,), (1,), (1,), (0, 1)]
    return _data(f"paper_rho{rho:g}", np.column_stack(signal), z, _mask(uses, 2), 0.5, rng)


def curves_data(rng: np.random.Generator, n_cells: int = 1000) -> SyntheticData:
    """4 factors (correlation .3), 40 features: curves, monotone or not, of one or two factors."""
    return _compose("curves", rng, n_cells, even_correlation(4, 0.3), n_genes=40, n_anchors=3)


def interactions_data(rng: np.random.Generator, n_cells: int = 1500) -> SyntheticData:
    """5 factors (correlation .6), 60 features, most of those that are no anchors by interactions."""
    return _compose(
        "interactions", rng, n_cells, even_correlation(5, 0.6), n_genes=60, n_anchors=3, interacting=0.8
    )


def few_anchors_data(rng: np.random.Generator, n_cells: int = 1500) -> SyntheticData:
    """6 factors (neighbours correlate .5), 36 features: two linear anchors each, all else bent."""
    lags = np.abs(np.subtract.outer(np.arange(6), np.arange(6)))
    return _compose(
        "few_anchors", rng, n_cells, 0.5**lags, n_genes=36, n_anchors=2, linear=True, noise_sd=0.35
    )


def wide_data(rng: np.random.Generator, n_cells: int = 2000) -> SyntheticData:
    """8 factors in two blocks (correlation .6 within), 200 features of one to three factors."""
    correlation = np.kron(np.eye(2), np.full((4, 4), 0.6)) + 0.4 * np.eye(8)
    return _compose("wide", rng, n_cells, correlation, n_genes=200, n_anchors=5, most_factors=3, noise_sd=0.6)


def network_data(rng: np.random.Generator, n_cells: int = 1500) -> SyntheticData:
    """The paper's own decoder at random: 5 factors (correlation .4), 50 features, one network of w * z."""
    n_factors, n_genes, n_noise, n_hidden = 5, 50, 10, 30
    z = correlated_factors(even_correlation(n_factors, 0.4), n_cells, rng)
    uses: list[tuple[int, ...]] = [(k,) for k in range(n_factors) for _ in range(3)]
    uses += [_draw(n_factors, 1 + j % 3, rng) for j in range(n_genes - n_noise - len(uses))]
    mask = _mask([*uses, *[()] * n_noise], n_factors)
    weights = mask * rng.uniform(0.7, 1.5, mask.shape) * rng.choice([-1, 1], mask.shape)
    first = rng.standard_normal((n_factors, n_hidden))
    second = rng.standard_normal((n_hidden, n_hidden)) / np.sqrt(n_hidden)
    heads = rng.standard_normal((n_hidden, n_genes)) / np.sqrt(n_hidden)
    signal = np.empty((n_cells, n_genes))
    for j in range(n_genes):
        masked = z * weights[j]
        # the linear path keeps curves from being even by chance, which would leave a factor without anchors
        signal[:, j] = np.tanh(np.tanh(masked @ first) @ second) @ heads[:, j] + 0.7 * masked.sum(1)
    return _data("network", _unit(signal), z, mask, 0.4, rng)


TRUTHS: Mapping[str, Callable[[np.random.Generator], SyntheticData]] = MappingProxyType(
    {
        "curves": curves_data,
        "interactions": interactions_data,
        "few_anchors": few_anchors_data,
        "wide": wide_data,
        "network": network_data,
    }
)


def _compose(
    name: str,
    rng: np.random.Generator,
    n_cells: int,
    correlation: np.ndarray,
    *,
    n_genes: int,
    n_anchors: int,
    linear: bool = False,
    interacting: float = 0.3,
    most_factors: int = 2,
    noise_sd: float = 0.4,
    noise_share: float = 0.2,
) -> SyntheticData:
    """Anchors by monotone curves (or linear), bent features of one or more factors, and pure noise.

    Signals have unit variance before noise of ``noise_sd`` comes on top; ``noise_share`` of the features
    are noise alone; of the features that are no anchors a share ``interacting`` joins two factors.
    """
    n_factors = len(correlation)
    z = correlated_factors(correlation, n_cells, rng)
    n_noise = round(noise_share * n_genes)
    signal: list[np.ndarray] = []
    uses: list[tuple[int, ...]] = []
    monotone, bent, joint = list(MONOTONE.values()), list(NON_MONOTONE.values()), list(INTERACTIONS.values())
    for k in range(n_factors):
        for i in range(n_anchors):
            # a line first, so that no factor is known by bent curves alone
            curve = monotone[0] if linear or i == 0 else monotone[rng.integers(len(monotone))]
            signal.append(rng.choice([-1, 1]) * curve(z[:, k]))
            uses.append((k,))
    for _ in range(n_genes - n_noise - len(uses)):
        if rng.random() < interacting:
            chosen = _draw(n_factors, 2, rng)
            signal.append(joint[rng.integers(len(joint))](z[:, chosen[0]], z[:, chosen[1]]))
        else:
            chosen = _draw(n_factors, int(rng.integers(1, most_factors + 1)), rng)
            both = monotone + bent
            parts = [_unit(both[rng.integers(len(both))](z[:, [k]]))[:, 0] for k in chosen]
            signal.append(np.column_stack(parts) @ (rng.uniform(0.7, 1.3, len(parts)) * rng.choice([-1, 1])))
        uses.append(chosen)
    signal += [np.zeros(n_cells)] * n_noise
    mask = _mask([*uses, *[()] * n_noise], n_factors)
    return _data(name, _unit(np.column_stack(signal)), z, mask, noise_sd, rng)


def _draw(n_factors: int, n_drawn: int, rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(k) for k in rng.choice(n_factors, n_drawn, replace=False))


def _mask(uses: list[tuple[int, ...]], n_factors: int) -> np.ndarray:
    mask = np.zeros((len(uses), n_factors), dtype=bool)
    for j, factors in enumerate(uses):
        mask[j, list(factors)] = True
    return mask


def _unit(signal: np.ndarray) -> np.ndarray:
    """Centred columns of unit variance; constant ones become 0."""
    centred = signal - signal.mean(0)
    sd = centred.std(0)
    return centred / np.where(sd > 1e-12, sd, 1)


def _data(
    name: str,
    signal: np.ndarray,
    factors: np.ndarray,
    mask: np.ndarray,
    noise_sd: float,
    rng: np.random.Generator,
) -> SyntheticData:
    values = signal + noise_sd * rng.standard_normal(signal.shape)
    return SyntheticData(
        name=name,
        values=values.astype(np.float32),
        factors=factors.astype(np.float32),
        mask=mask,
        signal=signal.astype(np.float32),
    )
