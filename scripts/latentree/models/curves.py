"""Which factors a feature needs when it may depend on them by curves and interactions.

Forward selection over blocks of columns: a line with three hinges for each factor, and products for each
pair. All of it runs on moments, so that a feature costs a few small solves. Pure numpy.
"""

import itertools
from dataclasses import dataclass

import numpy as np

_KNOTS = (0.15, 0.5, 0.85)
_CURVE = 1 + len(_KNOTS)
_PAIR = 3
# squared lengths, in units of the residual variance, that a block of noise does not reach (1 in 10,000 or
# rarer): a line alone, a whole curve, a pair
_LINE_GAIN, _BLOCK_GAIN = 16.0, 24.0
_MOST_CURVES, _MOST_PAIRS = 4, 2
_RIDGE = 1e-6


@dataclass(frozen=True)
class Needs:
    """What a target needs.

    Attributes
    ----------
    factors
        Those chosen, by curves or in pairs, in the order in which they were.
    linear, curved
        Share of the target's variance that lines in these factors, and curves and pairs, are expected to
        leave in new cells (Akaike's final prediction error). 1 where no factor was chosen.
    """

    factors: tuple[int, ...]
    linear: float
    curved: float


class Curves:
    """Columns of some factors' scores, and their moments.

    Parameters
    ----------
    scores
        (n_cells, n_factors).
    """

    def __init__(self, scores: np.ndarray) -> None:
        self.n_cells, self.n_factors = scores.shape
        self.pairs = list(itertools.combinations(range(self.n_factors), 2))
        scaled = scores / np.maximum(scores.std(0), 1e-12)
        knots = np.quantile(scaled, _KNOTS, axis=0)
        curves = np.stack([scaled, *(np.maximum(scaled - knot, 0) for knot in knots)], axis=2)
        columns = [curves.reshape(self.n_cells, -1)]
        if self.pairs:
            first, second = np.array(self.pairs).T
            a, b = scaled[:, first], scaled[:, second]
            columns.append(np.stack([a * b, np.abs(a) * b, a * np.abs(b)], axis=2).reshape(self.n_cells, -1))
        self.columns = np.concatenate(columns, axis=1)
        self.columns -= self.columns.mean(0)
        self.columns /= np.maximum(np.sqrt((self.columns**2).mean(0)), 1e-9)
        self.gram = self.columns.T @ self.columns / self.n_cells

    def moments(self, target: np.ndarray) -> np.ndarray:
        """(n_columns,) or (n_columns, n_targets) of standardised targets."""
        return self.columns.T @ target / self.n_cells

    def needs(self, moments: np.ndarray, least: float = 0.02, without: int | None = None) -> Needs:
        """Forward selection for one standardised target.

        Parameters
        ----------
        moments
            (n_columns,) of the target.
        least
            Share of the target's variance that a block must explain beyond the others.
        without
            A factor that may not be chosen.
        """
        gram, moment, rest = self.gram.copy(), moments.copy(), 1.0
        chosen: list[int] = []
        taken: list[np.ndarray] = []
        n_lines = _CURVE * self.n_factors
        for _ in range(min(_MOST_CURVES, self.n_factors)):
            gains = _gains(gram, moment, 0, self.n_factors, _CURVE)
            line = np.arange(0, n_lines, _CURVE)
            lines = moment[line] ** 2 / np.maximum(gram[line, line], _RIDGE)
            noise = rest / self.n_cells
            allowed = ((lines > _LINE_GAIN * noise) | (gains > _BLOCK_GAIN * noise)) & (gains > least)
            allowed[chosen + ([] if without is None else [without])] = False
            if not allowed.any():
                break
            factor = int(np.argmax(np.where(allowed, gains, -1)))
            chosen.append(factor)
            taken.append(np.arange(_CURVE * factor, _CURVE * (factor + 1)))
            gram, moment, rest = _swept(gram, moment, rest, taken[-1])
        pairs = np.array(self.pairs)
        for _ in range(_MOST_PAIRS if len(pairs) else 0):
            gains = _gains(gram, moment, n_lines, len(pairs), _PAIR)
            if without is not None:
                gains[(pairs == without).any(1)] = 0
            pair = int(np.argmax(gains))
            if gains[pair] < max(_BLOCK_GAIN * rest / self.n_cells, least):
                break
            chosen += [int(factor) for factor in pairs[pair] if factor not in chosen]
            taken.append(np.arange(n_lines + _PAIR * pair, n_lines + _PAIR * (pair + 1)))
            gram, moment, rest = _swept(gram, moment, rest, taken[-1])
        if not chosen:
            return Needs((), 1.0, 1.0)
        line = _CURVE * np.array(chosen)
        linear = 1 - moments[line] @ np.linalg.solve(
            self.gram[np.ix_(line, line)] + _RIDGE * np.eye(len(line)), moments[line]
        )
        n_columns = sum(map(len, taken))
        return Needs(tuple(chosen), self._expected(linear, len(line)), self._expected(rest, n_columns))

    def _expected(self, rest: float, n_columns: int) -> float:
        """Akaike's final prediction error."""
        return max(rest, 0) * (self.n_cells + n_columns) / max(self.n_cells - n_columns, 1)


def _gains(gram: np.ndarray, moment: np.ndarray, start: int, n_blocks: int, size: int) -> np.ndarray:
    """(n_blocks,) share of variance that each block of columns would explain, given what was swept out."""
    index = start + np.arange(n_blocks * size).reshape(n_blocks, size)
    blocks = gram[index[:, :, None], index[:, None, :]] + 1e-4 * np.eye(size)
    right = moment[index]
    return (right * np.linalg.solve(blocks, right[:, :, None])[:, :, 0]).sum(1)


def _swept(
    gram: np.ndarray, moment: np.ndarray, rest: float, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Moments of what these columns leave."""
    block = gram[np.ix_(columns, columns)] + _RIDGE * np.eye(len(columns))
    across = np.linalg.solve(block, gram[columns])
    explained = np.linalg.solve(block, moment[columns])
    return (
        gram - gram[:, columns] @ across,
        moment - gram[:, columns] @ explained,
        rest - float(moment[columns] @ explained),
    )
