"""How far batches mix in the latents, in sentences."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from latentree.report.verdicts import Verdict, fit_name

_TOPIC = "Batches"
_APART = 0.5
"""A cell has fewer than half of the neighbours from other batches that chance would give it."""


def batch_verdicts(metrics: pd.DataFrame, atlas: Mapping[str, Any]) -> dict[str, list[Verdict]]:
    """What may be said of batch mixing on test cells, by topic; PCA, which knows no batches, is there too."""
    rows = metrics[(metrics["metric"] == "batch_mixing") & (metrics["split"] == "test")]
    if rows.empty:
        return {}
    groups = rows.groupby(["model", "n_factors"], sort=False)["value"]
    levels = {fit_name(model, k): float(values.mean()) for (model, k), values in groups}
    told = ", ".join(f"{name} {level:.2f}" for name, level in levels.items())
    said = [
        Verdict(
            _TOPIC,
            f"Mixing of batches among a cell's neighbours of its type (1: as by chance, 0: apart): {told}. "
            "Batches that differ in more than technique should not mix wholly.",
        )
    ]
    apart = [name for name, level in levels.items() if level < _APART]
    if apart:
        text = f"Batches lie apart in {', '.join(apart)}: their factors tell of batches as well as of cells."
        said.append(Verdict(_TOPIC, text, "caution"))
    if atlas["batch"] == atlas["split_by"]:
        text = (
            "Batches were split whole: no test cell is of a batch that a model was told, so this tells "
            "nothing of how far being told helps."
        )
        said.append(Verdict(_TOPIC, text, "caution"))
    return {_TOPIC: said}
