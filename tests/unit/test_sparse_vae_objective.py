"""The Sparse VAE's objective against the formulas."""

import pytest
import torch
from torch import Tensor
from torch.distributions import Laplace, MultivariateNormal, NegativeBinomial, Normal, kl_divergence

from latentree.batches import Batch
from latentree.models.likelihoods import GaussianLikelihood
from latentree.models.sparse_vae_module import Sizes, SparseVAEModule
from latentree.sparse_vae_settings import SparseVAESettings

N_FITS, N_CELLS, N_GENES, N_FACTORS, N_TRAIN = 2, 20, 7, 3, 50
RESOLVED = {
    "likelihood": "gaussian",
    "input": "log",
    "decoder": "linear",
    "start": "varimax",
    "encoder_mean": "linear",
    "hidden_decoder": 16,
    "hidden_encoder": 50,
    "lambda0": 0.4,
    "lambda1": 0.1,
    "ladder_steps": 8,
    "refit_fraction": 0.2,
    "mixing_penalty": 0.3,
    "decoder_ridge": 0.3,
    "learning_rate": 3e-3,
    "max_epochs": 10,
    "batch_size": 20,
}


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _module(n_fits: int = N_FITS, **settings: object) -> SparseVAEModule:
    """A module away from its start: 7 genes, with a Gaussian likelihood in units of 2; 50 training cells."""
    generator = _generator(3)
    checked = SparseVAESettings.model_validate({**RESOLVED, **settings})
    module = SparseVAEModule(checked, Sizes(n_fits, N_GENES, N_FACTORS), generator)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(generator=generator).mul_(0.5)
        module.encoder.scores.normal_(generator=generator).mul_(0.2)
        # variances that leave the predictors of counts in their range
        module.encoder.log_variance.weight.mul_(0.02)
        module.inclusion.uniform_(generator=generator)
        moving = torch.randn(n_fits, 40, N_FACTORS, generator=generator)
        moving[..., 1] += moving[..., 0]
        for _ in range(100):
            module.prior.update(moving, torch.full_like(moving, -1), module.alive)
        module.n_train = N_TRAIN
        if isinstance(module.likelihood, GaussianLikelihood):
            for fit in range(n_fits):
                module.likelihood.start(fit, torch.ones(N_GENES), torch.full((N_GENES,), 2.0), N_TRAIN)
        module.likelihood.parameter.normal_(generator=generator)
    return module


def _batch(module: SparseVAEModule) -> Batch:
    generator = _generator(4)
    shape = (module.sizes.n_fits, N_CELLS, N_GENES)
    x = torch.randn(shape, generator=generator)
    features = torch.stack([x[fit] @ module.encoder.scores[fit] for fit in range(len(x))])
    counts = torch.poisson(torch.rand(shape, generator=generator) * 5, generator=generator)
    return Batch(x, counts, torch.randn(len(x), N_CELLS, 1, generator=generator), features)


def _log_likelihood(module: SparseVAEModule, batch: Batch, z: Tensor) -> Tensor:
    """Of each fit: sum over genes, mean over cells."""
    predictor = module.decoder.predictor(z, module.weights)
    size = module.likelihood.parameter.exp()[:, None]
    if module.settings.likelihood == "gaussian":
        return Normal(predictor, size).log_prob(batch.x / 2).sum(2).mean(1)
    odds = predictor + batch.log_library - size.log()
    return NegativeBinomial(size, logits=odds).log_prob(batch.counts).sum(2).mean(1)


@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
@pytest.mark.parametrize("decoder", ["mlp", "linear", "additive"])
def test_the_objective_is_the_papers_with_sums_over_genes_and_factors(decoder, likelihood):
    module = _module(
        decoder=decoder, likelihood=likelihood, penalty_unit="objective", lambda0=5, lambda1=2, ladder_steps=1
    )
    batch = _batch(module)
    parts = module.loss_parts(batch, _generator(5), progress=0.5)

    draws = torch.randn(N_FITS, N_CELLS, N_FACTORS, generator=_generator(5))
    mean, log_variance = module.encoder(batch.x, batch.features)
    torch.testing.assert_close(mean, batch.features @ module.encoder.mixing)
    z = mean + draws * (log_variance / 2).exp()
    posterior = MultivariateNormal(mean, torch.diag_embed(log_variance.exp()))
    prior = MultivariateNormal(torch.zeros(N_FACTORS), module.prior.correlation[:, None])
    # Laplace log densities without their constants, at the expected rate; the priors count once for 50 cells
    # a group of terms is penalised like that of a group lasso, by the root of their number
    rate = module.weights.shape[-1] ** 0.5 * (2 * module.inclusion + 5 * (1 - module.inclusion))
    sizes = module.weights.square().sum(-1).sqrt()
    density = Laplace(torch.zeros_like(rate), 1 / rate)
    prior_w = (density.log_prob(torch.zeros_like(rate)) - density.log_prob(sizes)).sum((1, 2)) / N_TRAIN
    scale, sigma = 0.5843743741551833 / 3, module.likelihood.parameter.exp()
    prior_sigma = (5 * sigma.log() + 1.5 * scale / sigma**2).sum(1) / N_TRAIN
    expected = {
        "reconstruction": -_log_likelihood(module, batch, z),
        "kl": kl_divergence(posterior, prior).mean(1),
        "prior_sigma": prior_sigma if likelihood == "gaussian" else torch.zeros(N_FITS),
        "prior_w": prior_w,
        "mixing_encoder": 0.3 * (module.encoder.mixing - torch.eye(N_FACTORS)).square().sum((1, 2)),
        "ridge_decoder": 0.3 * module.decoder.heads.square().sum((1, 2))
        if decoder == "mlp"
        else torch.zeros(N_FITS),
    }
    assert list(parts) == list(expected)
    for name, value in expected.items():
        assert parts[name].shape == (N_FITS,), name
        torch.testing.assert_close(
            parts[name], value, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )

    at_mean = module.validation_parts(batch)
    assert list(at_mean) == ["reconstruction", "kl"]
    torch.testing.assert_close(
        at_mean["reconstruction"], -_log_likelihood(module, batch, mean), rtol=1e-4, atol=0
    )
    torch.testing.assert_close(at_mean["kl"], expected["kl"], rtol=1e-4, atol=1e-5)


def test_a_network_mean_adds_to_the_mixed_scores():
    module = _module(encoder_mean="mlp")
    batch, encoder = _batch(module), module.encoder
    mean, _ = encoder(batch.x, batch.features)
    hidden = torch.relu(encoder.hidden2(torch.relu(encoder.hidden1(batch.x))))
    torch.testing.assert_close(mean, encoder.mean(hidden) + batch.features @ encoder.mixing)
    torch.testing.assert_close(module.cell_features(batch.x[0]), batch.x[0] @ encoder.scores[0])


def test_a_fit_of_a_stack_has_the_loss_it_has_alone():
    stack = _module()
    batch = _batch(stack)
    together = stack.validation_parts(batch)
    for fit in range(N_FITS):
        cells = Batch(batch.x[fit], features=batch.features[fit])
        alone = stack.only(fit).validation_parts(cells)
        for name, value in alone.items():
            torch.testing.assert_close(value, together[name][fit : fit + 1])


def test_the_penalty_has_a_gradient_only_where_no_proximal_step_follows():
    losses = []
    for settings in ({}, {"proximal": False}):
        module = _module(**settings)
        losses.append(module.loss_parts(_batch(module), torch.Generator(), progress=0.5)["prior_w"])
    proximal, plain = losses
    assert not proximal.requires_grad
    assert plain.requires_grad
    torch.testing.assert_close(proximal, plain.detach())


def test_rates_per_cell_do_not_depend_on_the_number_of_cells():
    few, many = _module(), _module()
    many.n_train = 5000
    for module in (few, many):
        module.inclusion.fill_(1)
    losses = [m.loss_parts(_batch(m), torch.Generator(), progress=0.5)["prior_w"] for m in (few, many)]
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(losses[0], 0.1 * few.weights.detach().abs().sum((1, 2, 3)))


def test_the_refit_has_no_penalty_a_falling_rate_and_a_frozen_support():
    module = _module()
    parts = module.loss_parts(_batch(module), torch.Generator(), progress=0.85)
    assert parts["prior_w"].tolist() == [0, 0]
    factors = [module.learning_rate_factor(p) for p in (0, 0.8, 0.9, 1)]
    assert factors == pytest.approx([1, 1, 0.525, 0.05])
    module.support[1, 2] = False
    module.after_step(1e-3, torch.optim.Adam(module.parameter_groups()))
    assert not module.weights[1, 2].any()
    assert module.weights[1, 3].all()
    assert module.weights[0].all()


def test_emptied_factors_leave_the_posterior_and_cost_nothing():
    module = _module()
    module.alive[0, 1] = False
    batch = _batch(module)
    mean, log_variance = module._posterior_of(batch)
    assert not mean[0, :, 1].any()
    assert not log_variance[0, :, 1].any()
    assert mean[1, :, 1].all()
    assert mean[0, :, 0].all()


@pytest.mark.parametrize("residual", [True, False])
def test_curves_start_where_the_objective_has_no_slope(residual):
    module = _module(decoder="mlp", residual=residual, decoder_ridge=0.05)
    batch = _batch(module)
    decoder, likelihood = module.decoder, module.likelihood

    def slopes() -> list[Tensor]:
        loss = decoder.loss(batch.features, module.weights, likelihood, likelihood.target(batch), None)
        return list(
            torch.autograd.grad((loss + 0.05 * decoder.ridge()).sum(), [decoder.heads, decoder.offset])
        )

    before = slopes()
    module.start_curves_at(1, batch.features[1], batch.x[1])
    heads, offset = slopes()
    for found, first in ((heads, before[0]), (offset, before[1])):
        assert torch.equal(found[0], first[0])
        assert float(found[1].abs().max()) < 1e-2 * float(first[1].abs().max())


@pytest.mark.parametrize("changes", [{"decoder": "linear"}, {"decoder": "additive"}, {"likelihood": "nb"}])
def test_curves_that_least_squares_cannot_start_keep_their_lines(changes):
    module = _module(**{"decoder": "mlp", **changes})
    batch = _batch(module)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module.start_curves_at(0, batch.features[0], batch.x[0])
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
