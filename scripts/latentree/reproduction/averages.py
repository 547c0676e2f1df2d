"""Means over seeds, and whether a paper's claim holds beyond them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from latentree.reproduction.records import Agreement

CLEAR = 2.0
"""Standard errors by which a difference must be off zero to count as one."""

TOO_FEW = "too few seeds to tell"


@dataclass(frozen=True)
class Average:
    """Mean and standard deviation (ddof 1; NaN of one value) of ``n`` finite values; NaN of none."""

    mean: float
    sd: float
    n: int

    @property
    def standard_error(self) -> float:
        return self.sd / np.sqrt(self.n) if self.n > 1 else np.nan

    @property
    def clearly_positive(self) -> bool:
        """Above zero by ``CLEAR`` standard errors; of a single value never."""
        return self.n > 1 and self.mean > CLEAR * self.standard_error

    @property
    def clearly_negative(self) -> bool:
        return self.n > 1 and self.mean < -CLEAR * self.standard_error


def average(values: np.ndarray | pd.Series) -> Average:
    """Of the finite values."""
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return Average(np.nan, np.nan, 0)
    return Average(
        float(finite.mean()), float(finite.std(ddof=1)) if len(finite) > 1 else np.nan, len(finite)
    )


def values_of(measurements: pd.DataFrame, setting: str, model: str, metric: str) -> pd.Series:
    """The values by seed; empty where nothing was measured."""
    wanted = (
        (measurements["setting"] == setting)
        & (measurements["model"] == model)
        & (measurements["metric"] == metric)
    )
    return measurements[wanted].set_index("seed")["value"]


def paired_difference(
    measurements: pd.DataFrame, setting: str, metric: str, first: str, second: str
) -> Average:
    """First model minus second, over the seeds that both have."""
    return average(
        values_of(measurements, setting, first, metric) - values_of(measurements, setting, second, metric)
    )


def claim(difference: Average, above: bool) -> tuple[Agreement, str]:
    """Whether "the difference is above (or below) zero" holds, and why it does not.

    A difference that noise could explain is no agreement.
    """
    if difference.n < 2:
        return "not comparable", TOO_FEW
    if difference.clearly_positive if above else difference.clearly_negative:
        return "yes", ""
    if difference.clearly_negative if above else difference.clearly_positive:
        return "no", "the difference has the other sign"
    return "no", "no difference beyond two standard errors"


def within(found: Average, margin: float, *, above: bool) -> tuple[Agreement, str]:
    """Whether "not above (below) zero by more than the margin" holds, and why it does not or cannot be told.

    That nothing was found proves nothing: the bound two standard errors off must be inside the margin.
    """
    if found.n < 2:
        return "not comparable", TOO_FEW
    excess, room = found.mean if above else -found.mean, CLEAR * found.standard_error
    if excess + room <= margin:
        return "yes", ""
    if excess - room > margin:
        return "no", f"beyond the margin of {margin:g}"
    return "not comparable", f"two standard errors reach beyond the margin of {margin:g}: too noisy to tell"
