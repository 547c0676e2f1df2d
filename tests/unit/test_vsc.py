"""Variational sparse coding against Monte Carlo, closed forms and plain loops; small, seeded data."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from api_fixture import example_atlas
from models_fixture import N_FACTORS, N_GENES, as_data, fitted, log_counts
from torch.distributions import Bernoulli, MultivariateNormal, Normal

import latentree as lt
from latentree.batches import Batch
from latentree.checkpoints import Checkpoints
from latentree.errors import InputError
from latentree.metrics import gaussian_hoyer, latent_hoyer
from latentree.models.vsc import (
    VSCModule,
    VSCPosterior,
    bernoulli_kl,
    slab_share,
    soft_gate,
    spike_slab_kl,
    spike_slab_log_density,
)

QUICK = {"max_epochs": 2, "hidden": 8, "batch_size": 32}


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _posterior(seed: int, n_cells: int = 4, n_factors: int = 3) -> VSCPosterior:
    values = torch.randn(3, n_cells, n_factors, generator=_generator(seed), dtype=torch.float64)
    return VSCPosterior(values[0], values[1], 2 * values[2])


def _one(gate: float, mean: float, sd: float) -> VSCPosterior:
    values = (mean, 2 * math.log(sd), math.log(gate / (1 - gate)))
    return VSCPosterior(*(torch.tensor([[value]], dtype=torch.float64) for value in values))


def _module(**given: object) -> VSCModule:
    return fitted("vsc", log_counts(), **{**QUICK, **given}).module  # type: ignore[attr-defined]


# divergences and densities


def test_kl_of_spike_and_slab_is_that_of_draws() -> None:
    q, p = _posterior(0, 1), _posterior(1, 1)
    generator, n = _generator(2), 400_000
    on = torch.rand(n, 3, generator=generator) < q.gate_logit.sigmoid()
    draws = q.mean + (0.5 * q.log_var).exp() * torch.randn(n, 3, generator=generator, dtype=torch.float64)
    y = torch.where(on, draws, 0)
    differences = spike_slab_log_density(y, q) - spike_slab_log_density(y, p)
    error = float(differences.std()) / math.sqrt(n)
    assert float(differences.mean()) == pytest.approx(float(spike_slab_kl(q, p).sum()), abs=4 * error)


def test_kl_of_spike_and_slab_is_the_sum_of_torchs_two() -> None:
    q, p = _posterior(0), _posterior(1)
    slabs = [Normal(one.mean, (0.5 * one.log_var).exp()) for one in (q, p)]
    gates = [Bernoulli(logits=one.gate_logit) for one in (q, p)]
    kl = torch.distributions.kl_divergence
    expected = gates[0].probs * kl(*slabs) + kl(*gates)
    torch.testing.assert_close(spike_slab_kl(q, p), expected)
    torch.testing.assert_close(spike_slab_kl(q, q), torch.zeros_like(q.mean))
    assert (spike_slab_kl(q, p) > 0).all()


def test_kl_has_the_variances_where_the_supplement_writes_standard_deviations() -> None:
    # with gates open it is the normals' own
    q, p = _one(1 - 1e-12, 0.5, 0.8), _one(1 - 1e-12, -0.2, 1.5)
    expected = math.log(1.5 / 0.8) + (0.8**2 + 0.7**2) / (2 * 1.5**2) - 0.5
    assert float(spike_slab_kl(q, p)) == pytest.approx(expected, rel=1e-6)


def test_gates_that_are_shut_or_open_have_finite_divergences_and_gradients() -> None:
    logits = torch.tensor([-200.0, -30.0, 0.0, 30.0, 200.0], requires_grad=True)
    kl = bernoulli_kl(logits, torch.tensor(math.log(0.2 / 0.8)))
    expected = [math.log(1 / 0.8)] * 2 + [0.5 * math.log(0.5 / 0.2) + 0.5 * math.log(0.5 / 0.8)]
    assert kl.tolist() == pytest.approx([*expected, *[math.log(1 / 0.2)] * 2], rel=1e-5)
    (slopes,) = torch.autograd.grad(kl.sum(), logits)
    assert torch.isfinite(slopes).all()


def test_log_density_counts_off_factors_by_their_gate_alone() -> None:
    q = _posterior(3)
    y = torch.tensor([[0.0, 0.7, -1.0]] * 4, dtype=torch.float64)
    gate = q.gate_logit.sigmoid()
    slab = Normal(q.mean, (0.5 * q.log_var).exp()).log_prob(y)
    expected = (1 - gate[:, 0]).log() + (gate.log() + slab)[:, 1:].sum(1)
    torch.testing.assert_close(spike_slab_log_density(y, q), expected)


# draws


@pytest.mark.parametrize(("steepness", "expected"), [(10, 0.0744), (50, 0.0195), (200, 0.0106)])
def test_soft_gates_are_open_a_little_too_often_while_they_are_soft(steepness, expected) -> None:
    uniform = (torch.arange(200_000) + 0.5) / 200_000
    found = float(soft_gate(torch.tensor(0.01), uniform, steepness).mean())
    # the integral of the sigmoid over the draws
    bias = np.logaddexp(0, steepness * 0.01) - np.logaddexp(0, -steepness * 0.99)
    assert found == pytest.approx(bias / steepness, rel=1e-3)
    assert found == pytest.approx(expected, rel=0.01)


def test_slabs_join_after_the_gates() -> None:
    shares = [slab_share(progress, 0.2) for progress in (0, 0.1, 0.15, 0.175, 0.2, 1)]
    assert shares == pytest.approx([0, 0, 0, 0.5, 1, 1])
    assert slab_share(0, 0) == 1


def test_draws_are_standard_slabs_first_and_the_cells_own_at_last() -> None:
    cells = torch.ones(200_000, 1)
    q = VSCPosterior(2 * cells, -1.2 * cells, 0.4 * cells)
    module = _module(slab_warmup=0.2)
    gate = 1 / (1 + math.exp(-0.4))
    for progress, mean, sd in ((0.0, 0.0, 1.0), (0.175, 1.0, math.exp(-0.3)), (1.0, 2.0, math.exp(-0.6))):
        module.progress = progress
        y = module.sample(q, _generator())
        steepness = 50 + 150 * progress
        # the same draws, by hand: first the slab's, then the gate's
        generator = _generator()
        slab = mean + sd * torch.randn(cells.shape, generator=generator)
        gates = 1 / (1 + torch.exp(-steepness * (torch.rand(cells.shape, generator=generator) - 1 + gate)))
        torch.testing.assert_close(y, slab * gates, rtol=1e-4, atol=1e-5)
    exact = module.exact_sample(q, _generator())
    assert float((exact != 0).float().mean()) == pytest.approx(gate, abs=5e-3)
    assert float(exact[exact != 0].mean()) == pytest.approx(2, abs=0.01)
    torch.testing.assert_close(module.centre(q)[:1], torch.tensor([[2 * gate]]))


def test_draws_from_the_prior_switch_a_share_alpha_on() -> None:
    y = _module(alpha=0.3).prior_sample(50_000, _generator())
    assert y.shape == (50_000, N_FACTORS)
    on = y != 0
    assert float(on.float().mean()) == pytest.approx(0.3, abs=5e-3)
    assert float(y[on].std()) == pytest.approx(1, abs=0.01)


# the objective


def test_divergence_is_from_alphas_spike_and_slab() -> None:
    q = _posterior(0)
    gate, mean, var = q.gate_logit.sigmoid().numpy(), q.mean.numpy(), q.log_var.exp().numpy()
    slab = -0.5 * gate * (1 + np.log(var) - mean**2 - var)
    spike = gate * np.log(gate / 0.3) + (1 - gate) * np.log((1 - gate) / 0.7)
    found = _module(alpha=0.3).divergence(q, q.mean)
    np.testing.assert_allclose(found.numpy(), (slab + spike).sum(1))


def test_divergence_is_from_the_selected_pseudo_inputs_and_holds_their_gates_to_alpha() -> None:
    module = _module(alpha=0.3, pseudo_inputs=4).double()
    x = torch.randn(5, N_GENES, generator=_generator(), dtype=torch.float64)
    with torch.no_grad():
        q, pseudo = module.posterior(x), module.posterior(module.pseudo_inputs)
        found = module.divergence(q, q.mean)
    np.testing.assert_allclose(q.selection.sum(1).numpy(), 1)
    for n in range(5):
        kl, on = 0.0, 0.0
        for u in range(4):
            weight = float(q.selection[n, u])
            on += weight * float(pseudo.gate_logit[u].sigmoid().mean())
            for k in range(N_FACTORS):
                ours, theirs = (
                    Normal(one.mean[i, k], (one.log_var[i, k] / 2).exp()) for one, i in ((q, n), (pseudo, u))
                )
                a, b = (Bernoulli(logits=one.gate_logit[i, k]) for one, i in ((q, n), (pseudo, u)))
                both = torch.distributions.kl_divergence
                kl += weight * float(a.probs * both(ours, theirs) + both(a, b))
        rate = on * math.log(on / 0.3) + (1 - on) * math.log((1 - on) / 0.7)
        assert float(found[n]) == pytest.approx(kl + N_FACTORS * rate, rel=1e-5)


def test_pseudo_inputs_start_as_training_cells_and_are_learned() -> None:
    x = log_counts()
    model = fitted("vsc", x, **{**QUICK, "max_epochs": 1, "learning_rate": 1e-9}, pseudo_inputs=4)
    cells = model.scaling.apply(x[as_data(x).train])
    start = model.module.pseudo_inputs.detach().numpy()  # type: ignore[attr-defined]
    nearest = np.abs(cells[:, None] - start).max(2).min(0)
    assert nearest.max() < 1e-5
    learned = fitted("vsc", x, **QUICK, pseudo_inputs=4)
    assert np.abs(learned.module.pseudo_inputs.detach().numpy() - start).max() > 1e-4  # type: ignore[attr-defined]
    facts = learned.facts()
    assert sum(facts["selected_pseudo_inputs"]) == pytest.approx(1, rel=1e-5)
    assert learned.generate(7, seed=0).shape == (7, N_GENES)  # type: ignore[attr-defined]
    # what a cell itself has chosen is no prior to weigh draws by
    assert learned.log_likelihood(as_data(x), np.arange(3)) is None


def test_a_cell_stands_at_its_gates_times_its_slabs() -> None:
    x = log_counts()
    model = fitted("vsc", x, **QUICK)
    module = model.module  # type: ignore[attr-defined]
    with torch.no_grad():
        hidden = module.encoder(torch.from_numpy(model.scaling.apply(x)))
        gates = module.gate_head(hidden).sigmoid().numpy()
        means = module.mean_head(hidden).numpy()
    np.testing.assert_allclose(model.transform(x), gates * means, rtol=1e-4, atol=1e-6)
    on = gates[as_data(x).train].mean(0)
    facts = model.facts()
    np.testing.assert_allclose(facts["by_factor"]["gate_probability"], on, rtol=1e-4)
    assert facts["mean_factors_on"] == pytest.approx(on.sum(), rel=1e-4)


def test_importance_weights_find_the_density_of_a_linear_decoder() -> None:
    module = _module(alpha=0.3).double()
    decoder = torch.nn.Linear(N_FACTORS, N_GENES).double()
    with torch.no_grad():
        decoder.weight.copy_(0.4 * torch.randn(decoder.weight.shape, generator=_generator(1)))
        decoder.bias.zero_()
        module.likelihood.parameter.zero_()
        # few draws suffice where q is no sharper than the posterior
        for head in (module.mean_head, module.log_var_head, module.gate_head):
            head.weight.zero_()
            head.bias.zero_()
    module.decoder = decoder
    x = torch.randn(2, N_GENES, generator=_generator(2), dtype=torch.float64)
    with torch.no_grad():
        repeated = Batch(x.repeat_interleave(20_000, 0))
        weights = module.log_weights(repeated, _generator(3)).view(2, -1)
        found = torch.logsumexp(weights, 1) - math.log(weights.shape[1])
    expected = []
    for cell in x:
        terms = []
        for pattern in itertools.product((0.0, 1.0), repeat=N_FACTORS):
            on = torch.tensor(pattern, dtype=torch.float64)
            w = decoder.weight.detach() * on
            cells = MultivariateNormal(torch.zeros_like(cell), w @ w.T + torch.eye(N_GENES).double())
            n_on = int(on.sum())
            terms.append(n_on * math.log(0.3) + (N_FACTORS - n_on) * math.log(0.7) + cells.log_prob(cell))
        expected.append(float(torch.logsumexp(torch.stack(terms), 0)))
    assert found.tolist() == pytest.approx(expected, abs=0.05)


# fits


def test_factors_that_cells_lack_are_switched_off() -> None:
    # each of three programs is in a third of the cells
    rng = np.random.default_rng(0)
    kind = rng.integers(3, size=400)
    programs = np.kron(np.eye(3), np.ones(5))
    x = (3 * programs[kind] * rng.normal(1, 0.3, (400, 1)) + 0.3 * rng.normal(size=(400, 15))).astype(
        np.float32
    )
    model = fitted("vsc", x, max_epochs=30, hidden=20, batch_size=50, learning_rate=1e-2)
    z = model.transform(x)
    assert ((model.reconstruct(z) - x) ** 2).mean() < 0.15 * x.var(axis=0).mean()
    assert latent_hoyer(z).value > gaussian_hoyer(3) + 0.15
    assert 0.3 < model.facts()["mean_factors_on"] < 2.5


def test_a_resumed_or_loaded_fit_is_the_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atlas = example_atlas()
    settings = {"max_epochs": 6, "hidden": 8, "checkpoint_every": 2, "pseudo_inputs": 5}

    def fit(**more: object) -> lt.Fit:
        return lt.fit(atlas, "vsc", 3, settings=settings, progress=False, **more)  # type: ignore[arg-type]

    undisturbed = fit()
    save = Checkpoints.save

    def save_then_stop(*arguments: object) -> None:
        save(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_then_stop)
        with pytest.raises(KeyboardInterrupt):
            fit(checkpoint=tmp_path / "checkpoint")
    resumed = fit(checkpoint=tmp_path / "checkpoint")
    assert resumed.summary["resumed_from_epoch"] == 2
    for name, value in undisturbed.model.state().items():
        np.testing.assert_array_equal(resumed.model.state()[name], value, err_msg=name)
    resumed.save(tmp_path / "fit")
    loaded = lt.load(tmp_path / "fit")
    assert loaded.model.facts() == undisturbed.model.facts()
    np.testing.assert_array_equal(lt.project(loaded, atlas).obsm["X_vsc"], undisturbed.latents)
    told = loaded.summary["facts"]["by_factor"]["gate_probability"]
    own = loaded.model.facts()["by_factor"]["gate_probability"]
    assert told == [own[place] for place in loaded.arrangement.order]


def test_alpha_is_a_share() -> None:
    for alpha in (0, 1):
        with pytest.raises(InputError, match="alpha"):
            lt.fit(example_atlas(), "vsc", 3, settings={"alpha": alpha}, progress=False)
