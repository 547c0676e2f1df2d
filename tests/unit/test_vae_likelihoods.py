"""The likelihoods and batches that any VAE can be told of, against closed forms; small, seeded data."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from models_fixture import N_FACTORS, N_GENES, as_data, fitted, log_counts
from scipy import sparse, stats
from scipy.stats import multivariate_normal
from torch import Tensor, nn
from training_fixture import SETTINGS, Autoencoder, run

from latentree.adam import Adam
from latentree.errors import InputError
from latentree.model_settings import VAESettings
from latentree.models.base import RunOptions
from latentree.models.scaling import Counts, InputScaling, Matrix, TrainingData
from latentree.models.vae import Posterior, VAEModel
from latentree.models.vae_likelihood import (
    line_through,
    make_likelihood,
    resolve_likelihood,
    start_likelihood,
)

QUICK = {"max_epochs": 25, "hidden": 20, "batch_size": 32, "learning_rate": 1e-2, "dropout": 0.0}


def _counted(n_cells: int = 300, *, is_sparse: bool = True) -> TrainingData:
    """Counts of three programs with libraries that vary twofold, and log1p of counts per 10k of them."""
    rng = np.random.default_rng(0)
    amounts, programs = rng.gamma(0.7, 1, (n_cells, 3)), rng.gamma(0.5, 10, (3, N_GENES))
    counts = rng.poisson(amounts @ programs * rng.uniform(0.7, 1.4, (n_cells, 1))).astype(np.float32)
    counts[:, 0] += 1
    library = counts.sum(1, dtype=np.float64) + 100
    x = np.log1p(counts / library[:, None] * 1e4).astype(np.float32)
    form = sparse.csr_matrix if is_sparse else np.asarray
    data = as_data(form(x))
    return TrainingData(data.x, data.train, data.validation, Counts(form(counts), library))


def _dense(x: Matrix) -> np.ndarray:
    return x if isinstance(x, np.ndarray) else x.toarray()


def _fit(data: TrainingData, n_factors: int = N_FACTORS, **given: object) -> VAEModel:
    model = VAEModel(VAESettings(**{**QUICK, **given}), n_factors)  # type: ignore[arg-type]
    model.fit(data, 0, RunOptions())
    return model


# which likelihood


def test_auto_is_counts_where_there_are_counts() -> None:
    data = _counted(50)
    auto = VAESettings(likelihood="auto", hidden=7)
    assert resolve_likelihood(auto, data).likelihood == "nb"
    assert resolve_likelihood(auto, as_data(data.x)) == VAESettings(likelihood="gaussian", hidden=7)
    for name in ("gaussian", "laplace", "bernoulli", "nb"):
        settings = VAESettings(likelihood=name)
        assert resolve_likelihood(settings, data) is settings


def test_values_that_do_not_suit_a_likelihood_are_refused() -> None:
    x = log_counts()
    with pytest.raises(InputError, match=r"likelihood: nb: there are no counts"):
        fitted("vae", x, likelihood="nb")
    x[3, 3] = -1.5
    for cells in (x, sparse.csr_matrix(x)):
        with pytest.raises(InputError, match=r"likelihood: bernoulli: values are negative \(lowest -1.5\)"):
            fitted("vae", cells, likelihood="bernoulli")
    shares = log_counts() / 10
    with pytest.raises(InputError, match=r"input: sqrt: the values are shares in \[0, 1\]"):
        fitted("vae", shares, likelihood="bernoulli", input="sqrt")


# where it starts


@pytest.mark.parametrize("is_sparse", [False, True])
def test_likelihoods_start_where_the_training_cells_are(is_sparse: bool) -> None:
    data = _counted(300, is_sparse=is_sparse)
    scaling = InputScaling.fit(data, "log", 0.5)
    x, counts = _dense(data.x)[data.train], _dense(data.counts.values)[data.train]
    scaled = scaling.apply(x)
    starts = {}
    for name in ("gaussian", "laplace", "bernoulli", "nb"):
        likelihood = make_likelihood(name, N_GENES)
        starts[name] = likelihood, start_likelihood(likelihood, scaling, data)
    # centred values: an average cell is 0
    assert starts["gaussian"][1] is None
    assert starts["laplace"][1] is None
    spread = starts["gaussian"][0].parameter.detach()[0].exp().numpy()
    np.testing.assert_allclose(spread, scaled.std(0), rtol=1e-3)
    np.testing.assert_allclose(
        starts["laplace"][0].parameter.detach()[0].exp().numpy(), spread / math.sqrt(2), rtol=1e-3
    )
    seen = (x > 0).mean(0).clip(1e-3, 1 - 1e-3)
    np.testing.assert_allclose(1 / (1 + np.exp(-starts["bernoulli"][1])), seen, rtol=1e-4)
    rate = (counts.sum(0, dtype=np.float64) + 0.5) / data.counts.library[data.train].sum()
    np.testing.assert_allclose(np.exp(starts["nb"][1]), rate, rtol=1e-4)


def test_dispersions_start_near_those_that_made_the_counts() -> None:
    rng = np.random.default_rng(0)
    theta = np.array([0.5, 2.0, 8.0])
    library = rng.uniform(500, 2000, 20_000)
    means = library[:, None] * np.array([0.02, 0.01, 0.05])
    counts = rng.poisson(means * rng.gamma(theta, 1 / theta, means.shape)).astype(np.float32)
    data = TrainingData(counts, np.arange(20_000), np.arange(0), Counts(counts, library))
    likelihood = make_likelihood("nb", 3)
    level = start_likelihood(likelihood, InputScaling.fit(data, "log", 0.0), data)
    np.testing.assert_allclose(np.exp(level), [0.02, 0.01, 0.05], rtol=0.05)
    np.testing.assert_allclose(likelihood.parameter.detach()[0].exp().numpy(), theta, rtol=0.15)


@pytest.mark.parametrize("is_sparse", [False, True])
def test_lines_are_those_of_least_squares(is_sparse: bool) -> None:
    rng = np.random.default_rng(0)
    fitted_means = rng.normal(5, 1, (60, 4)).astype(np.float32)
    fitted_means[:, 3] = 2.5  # nothing to draw a line along
    x = np.maximum(2 * fitted_means - 9 + rng.normal(size=(60, 4)), 0).astype(np.float32)
    level, slope = line_through(fitted_means, sparse.csr_matrix(x) if is_sparse else x)
    for gene in range(3):
        expected = np.polyfit(fitted_means[:, gene].astype(float), x[:, gene].astype(float), 1)
        np.testing.assert_allclose([slope[gene], level[gene]], expected, rtol=1e-4, atol=1e-5)
    assert slope[3] == 0
    assert level[3] == pytest.approx(x[:, 3].mean())


# fits


@pytest.mark.parametrize("name", ["gaussian", "laplace", "bernoulli", "nb"])
def test_a_vae_of_any_likelihood_gives_the_cells_back_on_their_own_scale(name: str) -> None:
    data = _counted()
    model = _fit(data, likelihood=name)
    latents = model.transform(data.x)
    given_back = model.reconstruct(latents)
    x = _dense(data.x)
    assert np.isfinite(given_back).all()
    if name == "laplace":
        # its best guess is the median, of which the zeros are many
        errors = [np.abs(x - guess).mean() for guess in (given_back, np.median(x, 0))]
        assert errors[0] < 0.87 * errors[1]
    else:
        np.testing.assert_allclose(given_back.mean(0), x.mean(0), atol=0.35)
        r2 = 1 - ((given_back - x) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()
        assert r2 > 0.25
    assert np.isfinite(model.loadings()).all()
    made = model.generate(500, seed=0)
    assert np.isfinite(made).all()
    assert x.mean() - 1 < made.mean() < x.mean() + 1
    found = model.log_likelihood(data, data.validation)
    assert found is not None
    assert np.isfinite(found).all()
    again = VAEModel.from_state(model.settings, N_FACTORS, model.state())
    np.testing.assert_array_equal(again.reconstruct(latents), given_back)
    np.testing.assert_array_equal(again.log_likelihood(data, data.validation), found)


def test_shares_are_learned_as_they_are() -> None:
    rng = np.random.default_rng(0)
    pixels = np.kron(np.eye(3), np.ones(5))[rng.integers(3, size=300)]
    pixels = np.where(rng.random(pixels.shape) < 0.05, 1 - pixels, pixels).astype(np.float32)
    model = _fit(as_data(pixels), likelihood="bernoulli")
    given_back = model.reconstruct(model.transform(pixels))
    assert given_back.min() >= 0
    assert given_back.max() <= 1
    assert ((given_back > 0.5) == (pixels > 0.5)).mean() > 0.9
    noise = -(0.05 * math.log(0.05) + 0.95 * math.log(0.95)) * N_GENES + math.log(3)
    found = -model.log_likelihood(as_data(pixels), np.arange(300)).mean()
    assert found == pytest.approx(noise, rel=0.35)


# what it says about p(x)


def _with_decoder(decoder: nn.Module, given: TrainingData, **settings: object) -> VAEModel:
    """A fit of one epoch whose decoder is then another, and whose noise levels are 1."""
    model = _fit(given, max_epochs=1, **settings)
    model.module.decoder = decoder
    with torch.no_grad():
        model.module.likelihood.parameter.zero_()
    return model


def _linear(slopes: Tensor, level: Tensor) -> nn.Linear:
    decoder = nn.Linear(*reversed(slopes.shape))
    with torch.no_grad():
        decoder.weight.copy_(slopes)
        decoder.bias.copy_(level)
    return decoder


def test_log_likelihood_of_a_linear_decoder_is_the_normal_one() -> None:
    x = log_counts()
    rng = np.random.default_rng(0)
    # orthogonal slopes: the posterior's factors are independent, as q says
    slopes = np.linalg.qr(rng.normal(size=(N_GENES, N_FACTORS)))[0] * np.array([0.5, 1.0, 1.5])
    level = rng.normal(size=N_GENES)
    decoder = _linear(*(torch.from_numpy(value).float() for value in (slopes, level)))
    model = _with_decoder(decoder, as_data(x))
    precision = 1 + (slopes**2).sum(0)

    def exact(scaled: Tensor, covariates: Tensor | None = None) -> Posterior:
        mean = (scaled - torch.from_numpy(level)) @ torch.from_numpy(slopes) / torch.from_numpy(precision)
        log_var = -torch.from_numpy(np.log(precision)).expand_as(mean)
        return Posterior(mean.float(), log_var.float())

    scale, centre = (v.astype(np.float64) for v in (model.scaling.scale, model.scaling.centre))
    # of x in its own units
    covariance = (slopes @ slopes.T + np.eye(N_GENES)) * np.outer(scale, scale)
    rows = np.array([3, 50, 7])
    expected = multivariate_normal(level * scale + centre, covariance).logpdf(x[rows])
    model.module.posterior = exact  # type: ignore[method-assign]
    found = model.log_likelihood(as_data(x), rows)
    np.testing.assert_allclose(found, expected, rtol=1e-4)

    def wider(scaled: Tensor, covariates: Tensor | None = None) -> Posterior:
        q = exact(scaled)
        return Posterior(q.mean + 0.1, q.log_var + 0.4)

    model.module.posterior = wider  # type: ignore[method-assign]
    found = model.log_likelihood(as_data(x), rows)
    assert (found != expected).all()
    np.testing.assert_allclose(found, expected, atol=0.5)


@pytest.mark.parametrize("name", ["laplace", "bernoulli", "nb"])
def test_log_likelihood_of_a_decoder_that_ignores_latents_is_the_genes_own(name: str) -> None:
    data = _counted(60)
    level = np.linspace(-3, -1, N_GENES)
    decoder = _linear(torch.zeros(N_GENES, N_FACTORS), torch.from_numpy(level))
    model = _with_decoder(decoder, data, likelihood=name)
    rows = data.validation
    x = _dense(data.x)[rows].astype(np.float64)
    if name == "laplace":
        scale = model.scaling.scale.astype(np.float64)
        expected = stats.laplace.logpdf(x, level * scale + model.scaling.centre, scale)
    elif name == "bernoulli":
        expected = stats.bernoulli.logpmf(x > 0, 1 / (1 + np.exp(-level)))
    else:
        means = data.counts.library[rows, None] * np.exp(level)
        expected = stats.nbinom.logpmf(_dense(data.counts.values)[rows], 1, 1 / (1 + means))
    # q is the prior, so that weights do not vary
    with torch.no_grad():
        for head in (model.module.mean_head, model.module.log_var_head):
            head.weight.zero_()
            head.bias.zero_()
    np.testing.assert_allclose(model.log_likelihood(data, rows), expected.sum(1), rtol=1e-4)


def test_square_roots_have_no_density_of_x() -> None:
    data = _counted(60)
    assert _fit(data, max_epochs=1, input="sqrt").log_likelihood(data, data.validation) is None
    counted = _fit(data, max_epochs=1, input="sqrt", likelihood="nb").log_likelihood(data, data.validation)
    assert counted is not None


# batches


def _batches(n_cells: int = 300) -> tuple[TrainingData, np.ndarray]:
    """Two programs and, in the second of two batches, every other gene higher; the batch of each cell."""
    rng = np.random.default_rng(0)
    batch = (rng.random(n_cells) < 0.4).astype(np.int64)
    offset = np.where(np.arange(N_GENES) % 2, 2.0, 0.0)
    x = rng.normal(size=(n_cells, 2)) @ rng.normal(size=(2, N_GENES)) + np.outer(batch, offset)
    x = (x + 0.5 * rng.normal(size=x.shape)).astype(np.float32)
    data = as_data(x)
    return replace(data, covariates=np.eye(2, dtype=np.float32)[batch]), batch


def _separation(latents: np.ndarray, batch: np.ndarray) -> float:
    """Share of the latents' variance that lies between the batches."""
    means = np.stack([latents[batch == level].mean(0) for level in (0, 1)])[batch]
    return float(means.var(0).sum() / latents.var(0).sum())


def test_a_vae_told_the_batches_keeps_them_out_of_the_latents() -> None:
    told, batch = _batches()
    untold = replace(told, covariates=None)
    separation, errors = {}, {}
    for name, data in (("told", told), ("untold", untold)):
        model = _fit(data, n_factors=2)
        rows = data.validation
        known = data.covariates_of(rows)
        latents = model.transform(data.x[rows], known)
        separation[name] = _separation(latents, batch[rows])
        errors[name] = ((model.reconstruct(latents, known) - data.x[rows]) ** 2).mean()
    assert separation["told"] < 0.1
    assert separation["untold"] > 0.3
    assert errors["told"] < 0.75 * errors["untold"]


def test_cells_of_unknown_batch_are_of_the_average_one() -> None:
    data, batch = _batches()
    model = _fit(data, n_factors=2, max_epochs=5)
    x = data.x[:20]
    shares = np.bincount(batch[data.train]) / len(data.train)
    average = np.tile(shares.astype(np.float32), (20, 1))
    latents = model.transform(x)
    np.testing.assert_allclose(latents, model.transform(x, average), rtol=1e-4, atol=1e-6)
    assert np.abs(latents - model.transform(x, data.covariates_of(slice(20)))).max() > 1e-3
    np.testing.assert_allclose(
        model.reconstruct(latents), model.reconstruct(latents, average), rtol=1e-4, atol=1e-6
    )
    again = VAEModel.from_state(model.settings, 2, model.state())
    np.testing.assert_array_equal(again.transform(x), latents)
    assert model.generate(5, seed=0).shape == (5, N_GENES)


# steep places


class _Recorded(Autoencoder):
    """Keeps the gradients that Adam has taken its steps with."""

    def __init__(self) -> None:
        super().__init__()
        self.gradients: list[Tensor] = []

    def after_step(self, learning_rate: float, optimizer: Adam) -> None:
        super().after_step(learning_rate, optimizer)
        self.gradients.append(torch.cat([value.grad.flatten() for value in self.parameters()]))


def test_gradients_are_cut_to_the_norm_that_a_module_names() -> None:
    free, held = _Recorded(), _Recorded()
    held.gradient_clip = 0.5
    for module in (free, held):
        run(module, SETTINGS)
    norms = [float(gradient.norm()) for gradient in free.gradients]
    assert min(norms) > 0.5
    assert max(float(gradient.norm()) for gradient in held.gradients) < 0.5 + 1e-5
    # the same direction: of all parameters together
    torch.testing.assert_close(held.gradients[0], free.gradients[0] * 0.5 / norms[0], rtol=1e-4, atol=1e-6)
