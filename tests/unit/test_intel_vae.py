"""InteL-VAE: what a mapping changes in a VAE, and what it does not; small, seeded data."""

import math

import numpy as np
import pytest
import torch
from models_fixture import QUICK, as_data, fitted, log_counts

from latentree.batches import Batch
from latentree.errors import InputError
from latentree.metrics import latent_hoyer
from latentree.model_settings import IntelVAESettings
from latentree.models.intel_vae import IntelVAEModel, default_blocks

FAST = {**QUICK["vae"], "gamma": 5.0}


def _fitted(x: np.ndarray, **given: object) -> IntelVAEModel:
    model = fitted("intel_vae", x, **{**FAST, **given})  # type: ignore[arg-type]
    assert isinstance(model, IntelVAEModel)
    return model


def _ring(n_cells: int = 400, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, n_cells)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return (ring + 0.05 * rng.normal(size=ring.shape)).astype(np.float32)


def test_the_identity_is_the_vae_bit_for_bit():
    x = log_counts()
    plain, mapped = fitted("vae", x, **QUICK["vae"]), _fitted(x, mapping="identity")
    state = mapped.state()
    del state["module.on_share"]
    assert set(state) == set(plain.state())
    for name, array in plain.state().items():
        np.testing.assert_array_equal(state[name], array)
    times = ("cpu_seconds", "wall_seconds")
    histories = [
        [{k: v for k, v in row.items() if k not in times} for row in model.report.history]  # type: ignore[attr-defined]
        for model in (plain, mapped)
    ]
    assert histories[0] == histories[1]


def test_loss_is_the_bound_of_mapped_codes_and_the_regulariser():
    model = _fitted(log_counts(), dropout=0.0, kl_warmup=0.0, beta=2.0, gamma=3.0, gamma_ramp=0.5)
    module = model.module
    x = torch.from_numpy(model.scaling.apply(log_counts()))
    draw = torch.randn(len(x), 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        parts = module.loss_parts(Batch(x), torch.Generator().manual_seed(0), 0.25)
        q = module.posterior(x)
        y = q.mean + (0.5 * q.log_var).exp() * draw
        z = y * module.mapping.gates(y)
        density = torch.distributions.Normal(module.decoder(z), module.likelihood.parameter[0].exp())
        kl = torch.distributions.kl_divergence(
            torch.distributions.Normal(q.mean, (0.5 * q.log_var).exp()), torch.distributions.Normal(0.0, 1.0)
        )
        torch.testing.assert_close(parts["reconstruction"], -density.log_prob(x).sum(1).mean())
        torch.testing.assert_close(parts["kl"], 2 * kl.sum(1).mean())
        # half-way up its ramp
        torch.testing.assert_close(parts["sparsity"], 1.5 * module.mapping.penalty(y))
        torch.testing.assert_close(
            module.encode_mean(x), module.mapping(q.mean), msg="cells are shown as the image of their mean"
        )


@pytest.mark.parametrize(
    ("mapping", "given"),
    [
        ("sparse", {"penalise": "codes"}),
        ("clusters", {"n_clusters": 4}),
        ("circle", {}),
        ("two_holes", {}),
        ("hierarchy", {"blocks": (1, 2), "block_slope": 0.1}),
    ],
)
def test_every_mapping_fits_and_comes_back_from_its_state(mapping, given):
    x = log_counts()
    model = _fitted(x, mapping=mapping, **given)
    assert all(math.isfinite(row["loss"]) for row in model.report.history)  # type: ignore[attr-defined]
    again = IntelVAEModel.from_state(model.settings, 3, model.state())
    np.testing.assert_array_equal(again.transform(x), model.transform(x))
    assert again.facts() == model.facts()
    assert np.isfinite(model.generate(20, seed=1)).all()


def test_a_large_weight_makes_latents_sparse():
    x = log_counts(n_cells=300)
    long = {"n_factors": 6, "max_epochs": 40, "hidden": 32, "dropout": 0.0}
    model = {gamma: _fitted(x, gamma=gamma, **long) for gamma in (0.0, 30.0)}
    sparsity = {gamma: latent_hoyer(one.transform(x)).value for gamma, one in model.items()}
    assert sparsity[30.0] > sparsity[0.0] + 0.2
    on = {gamma: one.facts()["latents_on_per_cell"] for gamma, one in model.items()}
    assert on[30.0] < on[0.0]
    latents = model[30.0].transform(x[as_data(x).train])
    counted = (np.abs(latents) > 0.1 * latents.std(axis=0)).sum(axis=1).mean()
    assert on[30.0] == pytest.approx(counted, rel=1e-3)


def test_a_ring_starts_and_ends_around_zero():
    x = _ring()
    settings = {"n_factors": 2, "gene_scaling": 1.0, "hidden": 32, "dropout": 0.0, "learning_rate": 1e-2}
    model = _fitted(x, mapping="circle", max_epochs=40, kl_warmup=0.5, **settings)
    codes = model.transform(x)
    turned = np.unwrap(np.arctan2(*codes[np.argsort(np.arctan2(x[:, 1], x[:, 0]))].T))
    assert abs(turned[-1] - turned[0]) == pytest.approx(2 * np.pi, abs=0.5)
    # new cells lie on the ring too: their means are nowhere near its middle
    assert np.linalg.norm(model.generate(500, seed=0), axis=1).min() > 0.6


def test_shares_of_clusters_are_learned():
    rng = np.random.default_rng(0)
    rare = rng.uniform(size=500) < 0.2
    x = (np.where(rare[:, None], 2.0, -2.0) + 0.3 * rng.normal(size=(500, 4))).astype(np.float32)
    long = {"max_epochs": 40, "hidden": 16, "learning_rate": 1e-2, "dropout": 0.0, "kl_warmup": 0.3}
    model = _fitted(x, n_factors=1, mapping="clusters", n_clusters=2, **long)
    stepped = [one for group in model.module.parameter_groups() for one in group["params"]]
    assert len(stepped) == len(list(model.module.parameters()))
    assert min(model.facts()["cluster_shares"][0]) == pytest.approx(0.2, abs=0.08)


def test_settings_that_do_not_fit_are_refused():
    x = log_counts()
    with pytest.raises(InputError, match="circle needs 2 latents"):
        _fitted(x, n_factors=1, mapping="circle")
    with pytest.raises(InputError, match="make 4 latents"):
        _fitted(x, mapping="hierarchy", blocks=(2, 2))
    with pytest.raises(ValueError, match="blocks are sizes"):
        IntelVAESettings(blocks=(2, 0))
    for n_factors in range(1, 20):
        assert sum(default_blocks(n_factors)) == n_factors
        assert min(default_blocks(n_factors)) > 0
    assert default_blocks(15) == (3, 4, 8)
