"""Small, seeded cells and quick fits of them, for the tests of the models."""

import numpy as np

from latentree.model_settings import MODEL_SETTINGS
from latentree.models import model_class
from latentree.models.base import FactorModel, RunOptions
from latentree.models.scaling import Matrix, TrainingData

N_CELLS, N_GENES, N_FACTORS = 120, 15, 3
MODELS = ["pca", "ica", "nmf", "vae"]
QUICK = {
    "vae": {
        "max_epochs": 5,
        "hidden": 8,
        "batch_size": 32,
        "learning_rate": 3e-3,
        "kl_warmup": 0.2,
        "dropout": 0.1,
    }
}


def log_counts(seed: int = 0, n_cells: int = N_CELLS) -> np.ndarray:
    rng = np.random.default_rng(seed)
    means = rng.gamma(1, 1, (n_cells, N_FACTORS)) @ rng.gamma(0.5, 2, (N_FACTORS, N_GENES))
    return np.log1p(rng.poisson(means)).astype(np.float32)


def as_data(x: Matrix) -> TrainingData:
    rows = np.random.default_rng(1).permutation(x.shape[0])
    cut = int(0.8 * len(rows))
    return TrainingData(x, np.sort(rows[:cut]), np.sort(rows[cut:]))


def fitted(
    name: str, x: Matrix, n_factors: int = N_FACTORS, seed: int = 0, **given_settings: object
) -> FactorModel:
    model = model_class(name)(MODEL_SETTINGS[name](**{**QUICK.get(name, {}), **given_settings}), n_factors)
    model.report = model.fit(as_data(x), seed, RunOptions())  # type: ignore[attr-defined]
    return model
