"""Small, seeded cells and quick fits of them, for the tests of the models."""

import numpy as np

from latentree.model_settings import MODEL_SETTINGS
from latentree.models import model_class
from latentree.models.base import FactorModel, RunOptions
from latentree.models.gene_groups import EXEMPT, GeneGroups
from latentree.models.scaling import Matrix, TrainingData

N_CELLS, N_GENES, N_FACTORS = 120, 15, 3
_QUICK_VAE: dict[str, object] = {
    "max_epochs": 5,
    "hidden": 8,
    "batch_size": 32,
    "learning_rate": 3e-3,
    "kl_warmup": 0.2,
    "dropout": 0.1,
}
VAES = ["vae", "beta_vae", "vsc", "oi_vae", "dd_vae", "intel_vae"]
MODELS = ["pca", "ica", "nmf", *VAES]
QUICK = dict.fromkeys(VAES, _QUICK_VAE)


def log_counts(seed: int = 0, n_cells: int = N_CELLS) -> np.ndarray:
    rng = np.random.default_rng(seed)
    means = rng.gamma(1, 1, (n_cells, N_FACTORS)) @ rng.gamma(0.5, 2, (N_FACTORS, N_GENES))
    return np.log1p(rng.poisson(means)).astype(np.float32)


def as_data(x: Matrix) -> TrainingData:
    """A fifth of the cells validates; neighbouring genes are in the same of three sets, the last in none."""
    rows = np.random.default_rng(1).permutation(x.shape[0])
    cut = int(0.8 * len(rows))
    groups = GeneGroups(("a", "b", "c", EXEMPT), np.arange(x.shape[1]) * 4 // x.shape[1])
    return TrainingData(x, np.sort(rows[:cut]), np.sort(rows[cut:]), groups=groups)


def fitted(
    name: str, x: Matrix, n_factors: int = N_FACTORS, seed: int = 0, **given_settings: object
) -> FactorModel:
    model = model_class(name)(MODEL_SETTINGS[name](**{**QUICK.get(name, {}), **given_settings}), n_factors)
    model.report = model.fit(as_data(x), seed, RunOptions())  # type: ignore[attr-defined]
    return model
