"""How well a fit predicts a measured phenotype of test cells, beside what needs no fit."""

import numpy as np
from sklearn.metrics import roc_auc_score

# a predicted probability is never surer than this
_SUREST = 1e-6


def type_means(y: np.ndarray, environments: np.ndarray, train: np.ndarray, binary: bool) -> np.ndarray:
    """What each cell's type and the training cells alone predict, (n_cells,).

    The mean of the type's training cells, all training cells' where it has none; of 0 and 1 with one
    cell of each added, so that no prediction is certain.
    """
    overall = float(y[train].mean())
    predicted = np.full(len(y), overall)
    for name in set(environments.tolist()):
        mine = y[train][environments[train] == name]
        if len(mine):
            value = (mine.sum() + 1) / (len(mine) + 2) if binary else mine.mean()
            predicted[environments == name] = value
    return predicted


def scores(y: np.ndarray, predictions: dict[str, np.ndarray], *, binary: bool) -> dict[str, float]:
    """Metrics of several predictions of the same cells, the metric's name with each prediction's suffix.

    Parameters
    ----------
    y
        (n_cells,), of test cells.
    predictions
        By suffix ("" for the fit itself), (n_cells,) each; probabilities where y is binary.
    binary
        log_loss (nats), accuracy (at one half) and auroc; else nmse (squared error over the variance of
        y) and r2.
    """
    of_one = _binary if binary else _continuous
    return {
        f"{metric}{suffix}": value
        for suffix, predicted in predictions.items()
        for metric, value in of_one(y, predicted).items()
    }


def _binary(y: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    p = np.clip(predicted, _SUREST, 1 - _SUREST)
    found = {
        "log_loss": float(-np.mean(y * np.log(p) + (1 - y) * np.log1p(-p))),
        "accuracy": float(np.mean((p > 0.5) == (y == 1))),
    }
    # not defined where all test cells have one value
    found["auroc"] = float(roc_auc_score(y, predicted)) if len(set(y.tolist())) == 2 else float("nan")
    return found


def _continuous(y: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    variance = float(y.var())
    nmse = float(np.mean((y - predicted) ** 2)) / variance if variance > 0 else float("nan")
    return {"nmse": nmse, "r2": 1 - nmse}
