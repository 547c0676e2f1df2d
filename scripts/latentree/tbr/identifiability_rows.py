"""What a fit can tell apart, as rows of tables/tbr_identifiability.tsv."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from latentree.tbr.result import TBRFit


def identifiability_rows(
    fit: TBRFit, warnings: Collection[str], marks: Mapping[str, Any], n_changes: Any = ""
) -> pd.DataFrame:
    """What the fit can tell apart: estimator, n_latents, n_changes, seed, quantity, value, note.

    A warning is a row of the quantity ``warning`` with the sentence as its note.
    """
    known = fit.identifiability.table[["quantity", "value", "note"]]
    table = pd.concat([known, _numbers_tried(fit), _candidates(fit)])
    said = pd.DataFrame({"quantity": "warning", "value": np.nan, "note": list(dict.fromkeys(warnings))})
    rows = pd.concat([table, said], ignore_index=True) if len(said) else table
    rows = rows.assign(**marks, n_latents=fit.weights.shape[1], n_changes=n_changes)
    return rows[["estimator", "n_latents", "n_changes", "seed", "quantity", "value", "note"]]


def _numbers_tried(fit: TBRFit) -> pd.DataFrame:
    """Where the number of latents was chosen: the error that weights of each number leave, a row each."""
    tried = fit.n_latents_tried
    if tried.empty:
        return pd.DataFrame({"quantity": [], "value": [], "note": []})
    return pd.DataFrame(
        {
            "quantity": [f"validation_error_{n}_latents" for n in tried["n_latents"]],
            "value": tried["validation_error"].to_numpy(),
            "note": "of weights of so low a rank; n_latents: auto chose among them",
        }
    )


def _candidates(fit: TBRFit) -> pd.DataFrame:
    """Where the network or joint's penalty was chosen: the error of each whole fit, a row each."""
    tried = fit.candidates
    if len(tried) < 2:
        return pd.DataFrame({"quantity": [], "value": [], "note": []})
    return pd.DataFrame(
        {
            "quantity": [
                f"validation_error_{phi}_penalty_{penalty:g}"
                for phi, penalty in zip(tried["phi"], tried["penalty"], strict=True)
            ],
            "value": tried["validation_error"].to_numpy(),
            "note": "of the whole fit with this network and penalty; the one with the smallest was taken",
        }
    )
