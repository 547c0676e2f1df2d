"""Rows of the summary as experiments make them: values, and claims about differences."""

from dataclasses import dataclass

import pandas as pd

from latentree.reproduction.averages import (
    TOO_FEW,
    Average,
    average,
    claim,
    paired_difference,
    values_of,
    within,
)
from latentree.reproduction.records import FIGURE_ONLY, Agreement, Row


@dataclass(frozen=True)
class RowMaker:
    """Makes the rows of one experiment from its measurements."""

    paper: str
    experiment: str
    measurements: pd.DataFrame

    def settings(self) -> list[str]:
        """Settings in the order measured."""
        return list(dict.fromkeys(self.measurements["setting"]))

    def models(self, setting: str) -> list[str]:
        """Models measured in a setting, in their order."""
        return list(dict.fromkeys(self.measurements.loc[self.measurements["setting"] == setting, "model"]))

    def average(self, setting: str, model: str, metric: str) -> Average:
        """Of one model's values over seeds."""
        return average(values_of(self.measurements, setting, model, metric))

    def value(
        self,
        setting: str,
        model: str,
        metric: str,
        published: str = FIGURE_ONLY,
        agrees: Agreement = "not comparable",
        explanation: str = "",
    ) -> Row:
        """One model's value beside the paper's."""
        found = self.average(setting, model, metric)
        return self.row(f"{setting}: {model}", metric, published, found, agrees, explanation)

    def values(self, metrics: list[str]) -> list[Row]:
        """Every setting's and model's values that the paper shows in figures only, or not at all."""
        return [
            self.value(setting, model, metric)
            for metric in metrics
            for setting in self.settings()
            for model in self.models(setting)
            if self.average(setting, model, metric).n
        ]

    def difference(
        self,
        setting: str,
        metric: str,
        first: str,
        second: str,
        *,
        above: bool,
        published: str | None = None,
        explanation: str = "",
        note: str = "",
    ) -> list[Row]:
        """The claim that the first model's value is above (below) the second's; no row without both.

        Parameters
        ----------
        published
            What the paper says; None: that claim, shown in a figure only.
        explanation, note
            Added where ours clearly has the other sign, and always.
        """
        found = paired_difference(self.measurements, setting, metric, first, second)
        if not found.n:
            return []
        said = published or f"{'above' if above else 'below'} 0 ({FIGURE_ONLY})"
        place = f"{setting}: {first} - {second}"
        return [self.claimed(place, metric, said, found, above=above, explanation=explanation, note=note)]

    def claimed(
        self,
        setting: str,
        metric: str,
        published: str,
        found: Average,
        *,
        above: bool,
        explanation: str = "",
        note: str = "",
    ) -> Row:
        """The claim that a difference is above (below) zero; texts as in :meth:`difference`."""
        agrees, why = claim(found, above)
        # what noise may have done needs no cause
        opposite = found.clearly_negative if above else found.clearly_positive
        told = "; ".join(text for text in (why, explanation if opposite else "", note) if text)
        return self.row(setting, metric, published, found, agrees, told)

    def bounded(
        self, setting: str, metric: str, published: str, found: Average, margin: float, *, above: bool
    ) -> Row:
        """The claim that a difference is not above (below) zero, but for a margin that is ours."""
        agrees, why = within(found, margin, above=above)
        said = f"{published}; here {'at most' if above else 'at least'} {margin if above else -margin:g}"
        return self.row(setting, metric, f"{said} with two standard errors", found, agrees, why)

    def bar(self, setting: str, metric: str, found: Average, limit: float, *, least: bool) -> list[Row]:
        """A goal that this project set itself, judged by the mean; no row of nothing measured."""
        if not found.n:
            return []
        reached = found.mean >= limit if least else found.mean <= limit
        said = f"our own bar, not the paper's: mean at {'least' if least else 'most'} {limit:g}"
        return [self.verdict(f"bar, {setting}", metric, said, found, reached, "the bar is missed")]

    def verdict(
        self, setting: str, metric: str, published: str, found: Average, agrees: bool, explanation: str = ""
    ) -> Row:
        """A claim that the experiment judges itself, by a limit that ``published`` tells; one seed cannot."""
        if found.n < 2:
            return self.row(setting, metric, published, found, explanation=TOO_FEW)
        return self.row(
            setting, metric, published, found, "yes" if agrees else "no", "" if agrees else explanation
        )

    def row(
        self,
        setting: str,
        metric: str,
        published: str,
        found: Average,
        agrees: Agreement = "not comparable",
        explanation: str = "",
    ) -> Row:
        """Any row of this experiment."""
        return Row(
            self.paper,
            self.experiment,
            setting,
            metric,
            published,
            found.mean,
            found.sd,
            found.n,
            agrees,
            explanation,
        )
