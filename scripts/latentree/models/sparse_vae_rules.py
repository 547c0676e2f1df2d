"""How a Sparse VAE decides what its settings leave open, from the training and validation cells alone.

No rule looks at labels or at test cells.
"""

import math

import numpy as np

from latentree.errors import InputError
from latentree.models.base import InputScaling, TrainingData, row_chunks
from latentree.models.starts import Start, random_start, varimax_start
from latentree.settings import SparseVAESettings

# what an epoch of few cells lacks in steps, more epochs make up for
_EPOCHS, _FEWEST_STEPS = 60, 1000
_LARGEST_BATCH, _BATCHES_PER_EPOCH = 256, 5


def resolve(settings: SparseVAESettings, data: TrainingData) -> SparseVAESettings:
    """Settings in which nothing is open but ``start`` and ``encoder_mean``.

    Raises
    ------
    InputError
        ``likelihood: nb`` without counts.
    """
    if settings.likelihood == "nb" and data.counts is None:
        raise InputError(
            "likelihood: nb",
            "there are no counts behind these values",
            "Read the atlas with read_atlas from a file that holds counts, or use likelihood: gaussian",
        )
    likelihood = settings.likelihood
    if likelihood == "auto":
        likelihood = "gaussian" if data.counts is None else "nb"
    is_nb = likelihood == "nb"
    batch_size = settings.batch_size or min(
        _LARGEST_BATCH, max(1, math.ceil(len(data.train) / _BATCHES_PER_EPOCH))
    )
    n_steps = math.ceil(len(data.train) / batch_size)
    max_epochs = settings.max_epochs or max(_EPOCHS, math.ceil(_FEWEST_STEPS / n_steps))
    return settings.model_copy(
        update={
            "likelihood": likelihood,
            "input": _given(settings.input, "sqrt" if is_nb else "log"),
            "decoder": _given(settings.decoder, "linear" if is_nb else "mlp"),
            "lambda1": settings.lambda1 or min(settings.lambda0, 0.05 if is_nb else 0.1),
            "batch_size": batch_size,
            "max_epochs": max_epochs,
        }
    )


def with_start(
    settings: SparseVAESettings,
    scaling: InputScaling,
    data: TrainingData,
    n_factors: int,
    rng: np.random.Generator,
) -> tuple[SparseVAESettings, Start]:
    """The start, and the settings with ``start`` and ``encoder_mean`` decided."""
    covariance = training_covariance(scaling, data)
    start = _given(settings.start, "varimax")
    still = "scores" if settings.likelihood == "nb" else "linear"
    mean = _given(settings.encoder_mean, "mlp" if start == "random" else still)
    settings = settings.model_copy(update={"start": start, "encoder_mean": mean})
    if start == "random":
        return settings, random_start(np.diag(covariance), n_factors, rng)
    return settings, varimax_start(covariance, n_factors)


def training_covariance(scaling: InputScaling, data: TrainingData) -> np.ndarray:
    """(n_genes, n_genes) of the scaled training cells, which are centred; float64, by chunks."""
    total = np.zeros((scaling.n_genes, scaling.n_genes))
    for rows in row_chunks(len(data.train), scaling.n_genes):
        scaled = scaling.apply(data.x[data.train[rows]])
        total += scaled.T @ scaled
    return total / len(data.train)


def _given(value: str, otherwise: str) -> str:
    return otherwise if value == "auto" else value
