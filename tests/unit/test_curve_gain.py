"""What curves save over lines, against least squares by another library."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LinearRegression

from latentree.model_settings import PCASettings
from latentree.models.base import FactorModel
from latentree.models.curve_gain import curve_gain
from latentree.models.pca import PCAModel
from latentree.models.scaling import InputScaling, TrainingData

N_CELLS, N_GENES = 300, 5
USED = np.array([[1, 0], [1, 0], [0, 1], [1, 1], [0, 0]], dtype=bool)


class Curved(PCAModel):
    """Knows the latents that made the cells, which are their first two genes, and gives curves back."""

    def __init__(self, curve: float) -> None:
        super().__init__(PCASettings(), 2)
        self._curve = curve

    def encode(self, scaled: np.ndarray, covariates: np.ndarray | None = None) -> np.ndarray:
        return scaled[:, :2].astype(np.float32)

    def decode(self, latents: np.ndarray, covariates: np.ndarray | None = None) -> np.ndarray:
        a, b = latents.T
        return np.stack([a, b, b + self._curve * b**2, a + b, 0 * a], axis=1)


def _data(curve: float, *, n_validation: int = 100) -> tuple[TrainingData, FactorModel]:
    rng = np.random.default_rng(0)
    model = Curved(curve)
    identity = np.zeros(N_GENES, np.float32), np.ones(N_GENES, np.float32), np.ones(N_GENES, np.float32)
    model.scaling = InputScaling("log", *identity)
    noise = 0.1 * rng.standard_normal((N_CELLS, N_GENES))
    x = model.decode(rng.standard_normal((N_CELLS, 2))) + noise
    rows = np.arange(N_CELLS)
    split = N_CELLS - 100
    return TrainingData(x.astype(np.float32), rows[:split], rows[split:][:n_validation]), model


@pytest.mark.parametrize("curve", [0.0, 0.5])
def test_gain_is_that_of_scikit_learns_lines(curve, monkeypatch):
    data, model = _data(curve)
    z = model.transform(data.x)
    errors = np.zeros(2)
    for gene in range(N_GENES):
        x, design = data.x[:, gene], np.where(USED[gene], z, 0)
        line = LinearRegression().fit(design[data.train], x[data.train])
        # the first genes are the latents, and lines leave nothing of them
        unit = max(((x - line.predict(design))[data.train] ** 2).mean(), 1e-6 * x[data.train].var())
        given = (line.predict(design), model.reconstruct(z)[:, gene])
        errors += [(((x - one)[data.validation] ** 2) / unit).sum() for one in given]
    expected = 1 - errors[1] / errors[0]
    assert curve_gain(model, data, USED) == pytest.approx(expected, rel=0.02, abs=2e-3)
    assert (expected > 0.3) == (curve > 0)
    monkeypatch.setattr("latentree.models.scaling.CHUNK_VALUES", 7 * N_GENES)
    in_chunks = TrainingData(sparse.csr_matrix(data.x), data.train, data.validation)
    assert curve_gain(model, in_chunks, USED) == pytest.approx(expected, rel=0.02, abs=2e-3)


def test_nothing_held_out_says_nothing():
    data, model = _data(0.5, n_validation=0)
    assert curve_gain(model, data, USED) is None


def test_a_gene_that_no_training_cell_has_does_not_decide():
    data, model = _data(0.5)
    x = data.x.copy()
    found = []
    for odd in (0, 1000):
        x[data.train, 4] = 0
        x[data.validation[:3], 4] = odd
        found.append(curve_gain(model, TrainingData(x, data.train, data.validation), USED))
    assert found[0] == found[1] > 0.3
