"""oi-VAE: its objective, its zeros, its groups from data to saved fit; small, seeded data."""

import anndata
import numpy as np
import pytest
import torch
from models_fixture import QUICK, log_counts

from latentree import api
from latentree.batches import Batch
from latentree.errors import InputError
from latentree.gene_grouping import group_genes
from latentree.model_settings import OIVAESettings
from latentree.models.base import RunOptions
from latentree.models.gene_groups import EXEMPT, GeneGroups
from latentree.models.oi_vae import OIVAEModel
from latentree.models.scaling import TrainingData

N_GENES = 15
SETS = {"first": [f"G{j}" for j in range(5)], "second": [f"G{j}" for j in range(5, 11)]}
FAST = {**QUICK["vae"], "width": 2, "patience": None}


def _cells(n_cells: int = 120) -> anndata.AnnData:
    adata = anndata.AnnData(log_counts(n_cells=n_cells))
    adata.var_names = [f"G{j}" for j in range(N_GENES)]
    return adata


def _fit(adata: anndata.AnnData | None = None, **given: object) -> api.Fit:
    settings = {**FAST, "gene_sets": SETS, **given}
    return api.fit(adata or _cells(), "oi_vae", 3, settings=settings, progress=False)


def _groups() -> GeneGroups:
    return GeneGroups(("first", "second", EXEMPT), np.repeat([0, 1, 2], [5, 6, 4]))


def _model(x: np.ndarray, **given: object) -> OIVAEModel:
    model = OIVAEModel(OIVAESettings(**{**FAST, **given}), 3)  # type: ignore[arg-type]
    rows = np.arange(len(x))
    model.fit(TrainingData(x, rows, rows[:0], groups=_groups()), 0, RunOptions())
    return model


def test_loss_is_the_bound_with_the_priors_of_the_sets():
    x = log_counts()
    model = _model(x, dropout=0.0, kl_warmup=0.0, lam=0.3, theta_weight=0.5)
    module, decoder = model.module, model.module.decoder
    scaled = torch.from_numpy(model.scaling.apply(x))
    module.train()
    with torch.no_grad():
        parts = module.loss_parts(Batch(scaled), torch.Generator().manual_seed(0), 1.0)
        norms = torch.tensor([[float(w.norm()) for w in group] for group in decoder.sets.weights])
        lasso = 0.3 * (norms.sum(1) * torch.tensor([5.0, 6.0]).sqrt()).sum()
        theta = torch.cat([decoder.sets.heads.flatten(), decoder.sets.shift.flatten()])
    torch.testing.assert_close(parts["group_lasso"], lasso)
    torch.testing.assert_close(parts["prior_theta"], 0.25 * theta.square().sum())
    module.eval()
    assert set(module.validation_parts(Batch(scaled))) == {"reconstruction", "kl"}


def test_the_group_lasso_is_not_back_propagated():
    model = _model(log_counts())
    model.module.train()
    parts = model.module.loss_parts(Batch(torch.zeros(4, N_GENES)), torch.Generator().manual_seed(0), 1.0)
    assert not parts["group_lasso"].requires_grad


@pytest.mark.parametrize("eta", [None, 1e-2])
def test_a_strong_penalty_empties_sets_exactly_and_loadings_say_so(eta):
    weak, strong = _model(log_counts(), lam=0.0, eta=eta), _model(log_counts(), lam=1e3, eta=eta)
    assert (weak.group_weights().weights > 0).all()
    assert (weak.loadings() != 0).all()
    assert (strong.group_weights().weights == 0).all()
    in_sets = np.arange(11)
    assert (strong.loadings()[in_sets] == 0).all()
    # what has no set has no penalty
    assert (strong.loadings()[11:] != 0).all()


def test_penalties_of_the_objective_are_divided_by_the_cells():
    x = log_counts()
    of_cell, of_objective = (
        _model(x, lam=1.0, theta_weight=1.0),
        _model(x, lam=len(x), penalty_unit="objective", theta_weight=len(x)),
    )
    for name, array in of_cell.state().items():
        if name not in ("module.lam", "module.penalty_scale"):
            np.testing.assert_allclose(array, of_objective.state()[name], rtol=1e-3, atol=1e-4)


def test_a_fit_is_the_same_after_saving_and_needs_neither_data_nor_file(tmp_path):
    gmt = tmp_path / "sets.gmt"
    gmt.write_text("".join(f"{name}\t\t" + "\t".join(genes) + "\n" for name, genes in SETS.items()))
    adata = _cells()
    fit = _fit(adata, gene_sets=gmt)
    fit.save(tmp_path / "fit")
    gmt.unlink()
    again = api.load(tmp_path / "fit")
    np.testing.assert_array_equal(api.project(again, adata).obsm["X_oi_vae"], fit.latents)
    assert again.model.groups.names == ("first", "second", EXEMPT)
    weights = again.factors.uns["latentree"]["group_weights"]
    assert list(weights["gene_set"]) == ["first", "second"]
    assert list(weights["n_genes"]) == [5, 6]
    np.testing.assert_array_equal(
        weights["weight"], fit.model.group_weights().weights[:, fit.arrangement.order]
    )
    np.testing.assert_array_equal(_fit(adata).latents, fit.latents)


def test_a_killed_fit_goes_on_and_other_sets_start_anew(tmp_path, monkeypatch):
    whole = _fit(checkpoint_every=2)
    other = {"first": SETS["second"], "second": SETS["first"]}
    kept = {"checkpoint": tmp_path / "kept", "progress": False}
    settings = {**FAST, "gene_sets": SETS, "checkpoint_every": 2}
    api.fit(_cells(), "oi_vae", 3, settings=settings, **kept)
    resumed = api.fit(_cells(), "oi_vae", 3, settings=settings, **kept)
    assert resumed.summary["resumed_from_epoch"] == 4
    np.testing.assert_array_equal(resumed.latents, whole.latents)
    fresh = api.fit(_cells(), "oi_vae", 3, settings={**settings, "gene_sets": other}, **kept)
    assert fresh.summary["resumed_from_epoch"] is None


def test_batches_shift_genes_of_sets():
    adata = _cells()
    adata.obs["batch"] = np.where(np.arange(adata.n_obs) % 2, "a", "b")
    fit = _fit(adata, batch="batch")
    assert np.isfinite(fit.latents).all()
    assert (fit.model.module.decoder.shifts.weight != 0).any()


def test_the_control_has_other_genes_in_sets_of_the_same_sizes():
    given, control = _fit(), _fit(permuted=True)
    np.testing.assert_array_equal(given.model.groups.sizes, control.model.groups.sizes)
    assert (given.model.groups.member != control.model.groups.member).any()


def test_missing_and_useless_sets_are_told():
    with pytest.raises(InputError, match="none are given"):
        _fit(gene_sets=None)
    with pytest.raises(InputError, match="none of 2 sets has 9 of 15 modelled genes"):
        _fit(min_set_size=9)
    with pytest.raises(InputError, match="is among"):
        _fit(gene_sets={"a": ["X1", "X2"]})
    with pytest.raises(InputError, match="no such file"):
        _fit(gene_sets="nowhere.gmt")


def test_specificity_counts_genes_that_are_not_modelled():
    genes = [f"G{j}" for j in range(40)]
    sets = {"broad": tuple(genes[:3] + genes[20:]), "narrow": tuple(genes[:6])}
    settings = OIVAESettings(gene_sets=sets, min_set_size=3)
    assert group_genes(settings, genes[:10], genes, "human", 0).names == ("narrow", EXEMPT)
