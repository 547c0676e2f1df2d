"""The VAE and its layers against oracles from elsewhere; small, seeded data."""

import numpy as np
import pytest
import torch
from models_fixture import N_GENES, as_data, fitted, log_counts

from latentree.batches import Batch
from latentree.models.layers import StackedLinear, dropout, gaussian_kl, linear, noise


def test_layers_draw_from_their_generator_alone() -> None:
    before = torch.get_rng_state()
    a, b = (linear(4, 3, torch.Generator().manual_seed(5)) for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    x = dropout(torch.ones(400, 50), 0.25, generator)
    noise((3, 2), generator, torch.device("cpu"))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(a.weight, b.weight)
    assert torch.equal(a.bias, b.bias)
    # torch's own default: uniform within 1 / sqrt(n_in)
    wide = linear(100, 1000, generator)
    assert 0.0999 < float(wide.weight.detach().abs().max()) <= 0.1
    assert float(wide.weight.detach().std()) == pytest.approx(0.1 / np.sqrt(3), rel=0.01)
    assert sorted(set(x.flatten().tolist())) == pytest.approx([0, 1 / 0.75])
    assert float(x.mean()) == pytest.approx(1, abs=0.02)


def test_a_stack_of_layers_is_the_layers_side_by_side() -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(3, 7, 100, generator=generator)
    for bias in (True, False):
        stack = StackedLinear(3, 100, 400, generator, bias=bias)
        assert (stack.bias is not None) == bias
        for fit in range(3):
            alone = torch.nn.functional.linear(x[fit], stack.weight[fit], stack.bias[fit] if bias else None)
            torch.testing.assert_close(stack(x)[fit], alone)
        assert 0.0999 < float(stack.weight.detach().abs().max()) <= 0.1
        assert float(stack.weight.detach().std()) == pytest.approx(0.1 / np.sqrt(3), rel=0.01)
    assert not torch.equal(stack.weight[0], stack.weight[1])


def test_kl_equals_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_var = torch.randn(4, 3, generator=generator), torch.randn(4, 3, generator=generator)
    posterior = torch.distributions.Normal(mean, (0.5 * log_var).exp())
    prior = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(posterior, prior).sum(dim=1)
    torch.testing.assert_close(gaussian_kl(mean, log_var), expected)


def test_vae_loss_is_the_expected_evidence_bound() -> None:
    x = log_counts()
    model = fitted("vae", x, kl_warmup=0.0, dropout=0.0)
    module = model.module  # type: ignore[attr-defined]
    scaled = torch.from_numpy(model.scaling.apply(x))
    parts = module.loss_parts(Batch(scaled), torch.Generator().manual_seed(0), 0.0)
    mean = module.encode_mean(scaled)
    log_var = module.log_var_head(module.encoder(scaled))
    draw = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    decoded = module.decode_mean(mean + (0.5 * log_var).exp() * draw)
    likelihood = torch.distributions.Normal(decoded, module.likelihood.parameter[0].exp())
    torch.testing.assert_close(parts["reconstruction"], -likelihood.log_prob(scaled).sum(dim=1).mean())
    torch.testing.assert_close(parts["kl"], gaussian_kl(mean, log_var).mean())
    assert set(parts) == {"reconstruction", "kl", "prior_sigma"}


def test_vae_switches_its_kl_on_slowly() -> None:
    module = fitted("vae", log_counts(), kl_warmup=0.5, dropout=0.0).module  # type: ignore[attr-defined]
    x = torch.randn(8, N_GENES, generator=torch.Generator().manual_seed(0))
    kl = [
        float(module.loss_parts(Batch(x), torch.Generator().manual_seed(0), progress)["kl"].detach())
        for progress in (0.0, 0.25, 0.5, 0.9)
    ]
    assert kl[0] == 0
    assert kl[1] == pytest.approx(kl[2] / 2, rel=1e-5)
    assert kl[3] == pytest.approx(kl[2], rel=1e-5)


def test_vae_loadings_are_the_slopes_of_the_data() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(500, 1))
    slopes = np.linspace(-2, 2, N_GENES)
    x = (z * slopes + 0.1 * rng.normal(size=(500, N_GENES))).astype(np.float32)
    model = fitted("vae", x, n_factors=1, max_epochs=60, batch_size=32)
    latents = model.transform(x)[:, 0]
    expected = np.array([np.polyfit(latents, gene, 1)[0] for gene in x.T])
    np.testing.assert_allclose(model.loadings()[:, 0], expected, atol=0.2 * np.abs(expected).max())
    assert abs(np.corrcoef(latents, z[:, 0])[0, 1]) > 0.98


def test_vae_learns_a_curve_that_no_line_follows() -> None:
    rng = np.random.default_rng(0)
    z = rng.uniform(0, 3, (600, 1))
    x = np.concatenate([z, z**2, np.sin(2 * z), np.cos(2 * z)], axis=1)
    x = (x + 0.05 * rng.normal(size=x.shape)).astype(np.float32)
    error = {}
    for name, extra in (("pca", {}), ("vae", {"max_epochs": 150, "batch_size": 64, "hidden": 50})):
        model = fitted(name, x, n_factors=1, gene_scaling=1.0, **extra)
        held_out = x[as_data(x).validation]
        error[name] = float(((model.reconstruct(model.transform(held_out)) - held_out) ** 2).mean())
    assert error["vae"] < 0.3 * error["pca"]
