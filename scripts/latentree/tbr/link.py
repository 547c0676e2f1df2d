"""How the phenotype hangs on the linear predictor: as it is (identity), or as a probability (logistic)."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Link = Literal["identity", "logistic"]


def link_of(asked: Literal["auto", "identity", "logistic"], y: np.ndarray) -> Link:
    """The link that ``auto`` means: logistic where the phenotype is 0 or 1 everywhere."""
    if asked != "auto":
        return asked
    return "logistic" if is_binary(y) else "identity"


def is_binary(y: np.ndarray) -> bool:
    """Whether every value is 0 or 1."""
    return bool(np.isin(y, (0.0, 1.0)).all())


def deviances(predictor: Tensor, y: Tensor, link: Link) -> Tensor:
    """Squared errors, or -2 log p(y) of a Bernoulli; (n_cells,)."""
    if link == "identity":
        return (y - predictor).square()
    return 2 * functional.binary_cross_entropy_with_logits(predictor, y, reduction="none")


def mean_deviance(predictor: np.ndarray, y: np.ndarray, link: Link, multiplicity: np.ndarray | None) -> float:
    """Mean of :func:`deviances` over cells that count ``multiplicity`` times."""
    values = deviances(torch.from_numpy(predictor), torch.from_numpy(y.astype(predictor.dtype)), link).numpy()
    return float(np.average(values, weights=multiplicity))


def mean_of(predictor: np.ndarray, link: Link) -> np.ndarray:
    """Expected phenotype: the predictor itself, or the probability of 1."""
    if link == "identity":
        return predictor
    probability: np.ndarray = torch.sigmoid(torch.from_numpy(predictor)).numpy()
    return probability
