"""How a Sparse VAE decides what its settings leave open, from the training and validation cells alone.

No rule looks at labels or at test cells.
"""

import math

import numpy as np

from latentree.errors import InputError
from latentree.models.anchors import StartChoice, choose_start
from latentree.models.scaling import InputScaling, TrainingData, row_chunks, scaled_cells
from latentree.models.starts import Start, axis_reliability, leading_axes, random_start, varimax_start
from latentree.models.vae_likelihood import resolve_likelihood
from latentree.sparse_vae_settings import SparseVAESettings

# what an epoch of few cells lacks in steps, more epochs make up for; regressions of the counts are a start so
# near that larger and fewer steps do
_EPOCHS, _FEWEST_STEPS = 60, 1000
_EPOCHS_ON_COUNTS, _FEWEST_STEPS_ON_COUNTS = 40, 300
_LARGEST_BATCH, _BATCHES_PER_EPOCH = 256, 5
# cells at most that the rules look at, and axes in which those of halves are looked for
_RULE_CELLS, _RELIABILITY_CELLS, _AXES_PER_FACTOR = 1000, 10_000, 5


def resolve(settings: SparseVAESettings, data: TrainingData) -> SparseVAESettings:
    """Settings in which nothing is open but ``start`` and ``encoder_mean``.

    Raises
    ------
    InputError
        The values do not suit the likelihood.
    """
    settings = resolve_likelihood(settings, data)
    is_nb = settings.likelihood == "nb"
    few_cells = math.ceil(len(data.train) / _BATCHES_PER_EPOCH)
    batch_size = settings.batch_size or min(_LARGEST_BATCH, max(1, few_cells))
    n_steps = math.ceil(len(data.train) / batch_size)
    epochs, steps = (_EPOCHS_ON_COUNTS, _FEWEST_STEPS_ON_COUNTS) if is_nb else (_EPOCHS, _FEWEST_STEPS)
    return settings.model_copy(
        update={
            "input": _given(settings.input, "sqrt" if is_nb else "log"),
            "gene_scaling": (0.5 if is_nb else 1.0)
            if settings.gene_scaling is None
            else settings.gene_scaling,
            "decoder": _given(settings.decoder, "linear" if is_nb else "mlp"),
            "lambda1": settings.lambda1 or min(settings.lambda0, 0.03 if is_nb else 0.07),
            "batch_size": batch_size,
            "max_epochs": settings.max_epochs or max(epochs, math.ceil(steps / n_steps)),
        }
    )


def with_start(
    settings: SparseVAESettings,
    scaling: InputScaling,
    data: TrainingData,
    n_factors: int,
    rng: np.random.Generator,
) -> tuple[SparseVAESettings, Start, dict[str, float]]:
    """The start; the settings with all decided that follows from it; and what each start explained.

    One rule for cells and for data of few features: anchors are taken where they explain held-out features
    about as well as varimax factors do, and only where curves and interactions are worth it may the
    posterior mean leave the span of the scores and the decoder bend freely.
    """
    choice = _choice(settings, scaling, data, n_factors, rng)
    is_nb = settings.likelihood == "nb"
    curved = choice.encoder_mean == "mlp" and not is_nb
    still = "scores" if is_nb else "linear"
    decided = {
        "start": choice.name,
        # random weights have no scores that could be kept
        "encoder_mean": "mlp" if curved or choice.name == "random" else still,
        "hidden_decoder": 32 if curved else 16,
        "decoder_ridge": 0.01 if curved else 0.3,
        "learning_rate": 0.01 if is_nb else 0.005 if curved else 0.003,
    }
    left_open = {key: value for key, value in decided.items() if getattr(settings, key) in (None, "auto")}
    return settings.model_copy(update=left_open), choice.start, choice.explained


def _choice(
    settings: SparseVAESettings,
    scaling: InputScaling,
    data: TrainingData,
    n_factors: int,
    rng: np.random.Generator,
) -> StartChoice:
    covariance = training_covariance(scaling, data)
    if settings.start == "random":
        start = random_start(np.diag(covariance), n_factors, rng)
        return StartChoice("random", start, {}, 0.0, "mlp")
    # with a normal likelihood the damping cost more held-out error (zeisel 2.5%) than it steadied
    is_nb = settings.likelihood == "nb"
    reliability = _reliability(covariance, scaling, data, n_factors) if is_nb else None
    varimax = varimax_start(covariance, n_factors, reliability=reliability)
    # the rule tells curves in the values of a normal likelihood; on counts it is not asked
    if settings.start == "varimax" or (settings.start == "auto" and is_nb):
        return StartChoice("varimax", varimax, {}, 0.0, "linear")
    del covariance
    values = scaled_cells(scaling, data, data.spread(_RULE_CELLS))
    choice = choose_start(values, varimax, only_anchors=settings.start == "anchors")
    if settings.start == "anchors" and choice.name != "anchors":
        raise InputError(
            "start: anchors",
            "no two features move together closely enough to be the anchors of a factor",
            "Use start: auto or varimax",
        )
    return choice


def _reliability(
    covariance: np.ndarray, scaling: InputScaling, data: TrainingData, n_factors: int
) -> np.ndarray:
    """Of the leading axes, told from halves of training cells within a few more axes.

    From so many cells at most that it costs little; on a larger atlas axes are more reliable than this says.
    """
    n_axes = min(len(covariance), _AXES_PER_FACTOR * n_factors)
    vectors = leading_axes(covariance, n_axes)[1]
    cells = data.spread(_RELIABILITY_CELLS)
    scores = np.empty((len(cells), n_axes))
    for rows in row_chunks(len(cells), scaling.n_genes):
        scores[rows] = scaled_cells(scaling, data, cells[rows]) @ vectors
    return axis_reliability(scores, n_factors)


def training_covariance(scaling: InputScaling, data: TrainingData) -> np.ndarray:
    """(n_genes, n_genes) of the scaled training cells, which are centred; float64, by chunks."""
    total = np.zeros((scaling.n_genes, scaling.n_genes))
    for rows in row_chunks(len(data.train), scaling.n_genes):
        scaled = scaled_cells(scaling, data, data.train[rows])
        total += scaled.T @ scaled
    return total / len(data.train)


def _given(value: str, otherwise: str) -> str:
    return otherwise if value == "auto" else value
