"""The Sparse VAE's objective against the formulas."""

import pytest
import torch
from torch.distributions import Laplace, MultivariateNormal, Normal, kl_divergence

from latentree.models.sparse_vae import SparseVAEModule
from latentree.settings import SparseVAESettings


def _module(**settings: object) -> SparseVAEModule:
    """A module away from its start: 7 genes in units of 2, 3 factors, 50 training cells."""
    generator = torch.Generator().manual_seed(3)
    module = SparseVAEModule(SparseVAESettings.model_validate(settings), 7, 3, generator)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(generator=generator).mul_(0.5)
        module.inclusion.uniform_(generator=generator)
        module.prior.correlation.copy_(torch.tensor([[1, 0.5, 0], [0.5, 1, 0.2], [0, 0.2, 1]]))
        module.noise.start(torch.ones(7), 50)
        module.noise.log_sigma.normal_(generator=generator)
        module.gene_unit.fill_(2)
    return module


@pytest.mark.parametrize("decoder", ["mlp", "linear"])
def test_the_objective_is_the_papers_with_sums_over_genes_and_factors(decoder):
    module = _module(decoder=decoder, penalty_unit="objective", lambda0=5, lambda1=2, ladder_steps=1)
    x = torch.randn(20, 7, generator=torch.Generator().manual_seed(4))
    parts = module.loss_parts(x, torch.Generator().manual_seed(5), progress=0.5)

    draws = torch.randn(20, 3, generator=torch.Generator().manual_seed(5))
    mean, log_variance = module.encoder(x)
    z = mean + draws * (log_variance / 2).exp()
    sigma = module.noise.log_sigma.exp()
    predicted = module.decoder.mean(z, module.weights)
    log_likelihood = Normal(predicted, sigma).log_prob(x / 2).sum(1).mean()
    posterior = MultivariateNormal(mean, torch.diag_embed(log_variance.exp()))
    kl = kl_divergence(posterior, MultivariateNormal(torch.zeros(3), module.prior.correlation)).mean()
    # Laplace log densities without their constants, at the expected rate; the priors count once for 50 cells
    rate = 2 * module.inclusion + 5 * (1 - module.inclusion)
    density = Laplace(torch.zeros(7, 3), 1 / rate)
    prior_w = (density.log_prob(torch.zeros(7, 3)) - density.log_prob(module.weights)).sum() / 50
    scale = 0.5843743741551833 / 3
    prior_sigma = (5 * sigma.log() + 1.5 * scale / sigma**2).sum() / 50
    mixing = 0.3 * (module.encoder.mixing - torch.eye(3)).square().sum()

    expected = {
        "reconstruction": -log_likelihood,
        "kl": kl,
        "prior_sigma": prior_sigma,
        "prior_w": prior_w,
        "mixing_encoder": mixing,
    }
    for name, value in expected.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-5)
    ridge = 0.3 * module.decoder.heads.square().sum() if decoder == "mlp" else torch.zeros(())
    torch.testing.assert_close(parts["ridge_decoder"], ridge)
    assert set(parts) == {*expected, "ridge_decoder"}


def test_the_penalty_has_a_gradient_only_where_no_proximal_step_follows():
    x = torch.randn(20, 7, generator=torch.Generator().manual_seed(4))
    proximal = _module().loss_parts(x, torch.Generator(), progress=0.5)["prior_w"]
    plain = _module(proximal=False).loss_parts(x, torch.Generator(), progress=0.5)["prior_w"]
    assert not proximal.requires_grad
    assert plain.requires_grad
    torch.testing.assert_close(proximal, plain.detach())


def test_rates_per_cell_do_not_depend_on_the_number_of_cells():
    x = torch.randn(20, 7, generator=torch.Generator().manual_seed(4))
    few, many = _module(), _module()
    many.noise.n_train.fill_(5000)
    for module in (few, many):
        module.inclusion.fill_(1)
    losses = [module.loss_parts(x, torch.Generator(), progress=0.5)["prior_w"] for module in (few, many)]
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(losses[0], 0.1 * few.weights.detach().abs().sum())


def test_the_refit_has_no_penalty_a_falling_rate_and_a_frozen_support():
    module = _module()
    parts = module.loss_parts(torch.zeros(20, 7), torch.Generator(), progress=0.85)
    assert parts["prior_w"].item() == 0
    factors = [module.learning_rate_factor(p) for p in (0, 0.8, 0.9, 1)]
    assert factors == pytest.approx([1, 1, 0.525, 0.05])
    module.support[2] = False
    module.after_step(1e-3, torch.optim.Adam(module.parameter_groups()))
    assert not module.weights[2].any()
    assert module.weights[3].all()
