"""Sparse VAE (Moran, Sridhar, Wang, Blei 2022): every gene depends on a few latent factors.

``value_j ~ p(. | f(w_j * z)_j)`` with one decoder f for all genes, ``z ~ N(0, C)`` and a spike-and-slab lasso
on the weights W (n_genes, n_factors). The objective is the paper's, per cell: the log-likelihood is summed
over genes and the KL over factors, the priors of noise and W are divided by the number of cells. (The
reference code averages where it should sum; see docs/sparse_vae.md.)

``recipe: robust`` starts at data-driven factors, keeps the posterior means in their span where that suffices,
prunes W by proximal steps up a ladder of spikes and refits what is left without penalty. ``recipe: paper`` is
the paper's model and start.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import torch

from latentree.batches import Batch, Batches, StackedBatches
from latentree.models.base import FitReport, RunOptions, require_factors
from latentree.models.curve_gain import curve_gain
from latentree.models.identifiability import Diagnostics, diagnose
from latentree.models.likelihoods import GaussianLikelihood
from latentree.models.scaling import InputScaling, TrainingData, scaled_cells
from latentree.models.sparse_vae_module import Sizes, SparseVAEModule
from latentree.models.sparse_vae_rules import resolve, with_start
from latentree.models.sparse_vae_start import in_units_of_likelihood
from latentree.models.starts import Start
from latentree.models.torch_model import TorchFactorModel
from latentree.models.vae_likelihood import line_through
from latentree.seeds import derive_seed
from latentree.sparse_vae_settings import SparseVAESettings
from latentree.training import TorchModule, train

# training cells at most on which the effects that are reported as loadings are measured
_EFFECT_CELLS = 1024
# fits of one batched model: more outgrow the cache (125 took 1.5 times as long each as 25)
_LARGEST_STACK = 25
# training cells at most through which a start's curves are drawn
_CURVE_CELLS = 2000


class SparseVAEModel(TorchFactorModel):
    """The Sparse VAE as one of latentree's factor models."""

    name = "sparse_vae"
    settings: SparseVAESettings
    module: SparseVAEModule
    start_explained: Mapping[str, float] = MappingProxyType({})
    curve_gain: float | None = None
    n_batches: int = 0

    def fit(self, data: TrainingData, seed: int, options: RunOptions) -> FitReport:
        return fit_stack([self], [data], [seed], options)[0]

    def prepare(self, data: TrainingData, seed: int) -> Start:
        """Decide what is to be decided from the data; sets ``settings`` and ``scaling``."""
        require_factors(self.n_factors, {"modelled genes": data.x.shape[1]})
        settings = resolve(self.settings, data)
        assert settings.input != "auto"
        assert settings.gene_scaling is not None
        # whether a gene is seen cannot be told from centred values
        by_batch = settings.likelihood != "bernoulli"
        self.scaling = InputScaling.fit(data, settings.input, settings.gene_scaling, by_batch=by_batch)
        self.n_batches = 0 if data.covariates is None else data.covariates.shape[1]
        rng = np.random.default_rng(derive_seed(seed, "start"))
        self.settings, start, self.start_explained = with_start(
            settings, self.scaling, data, self.n_factors, rng
        )
        return start

    def make_module(self, n_genes: int, generator: torch.Generator) -> SparseVAEModule:
        return SparseVAEModule(self.settings, Sizes(1, n_genes, self.n_factors, self.n_batches), generator)

    def see_state(self, state: Mapping[str, np.ndarray]) -> None:
        effects = state.get("module.batch_effects")
        self.n_batches = 0 if effects is None else effects.shape[2]

    def put_start(self, module: SparseVAEModule, fit: int, start: Start, data: TrainingData) -> None:
        """Hand a start, made for the scaled values, to one fit of a module in its likelihood's units."""
        start = in_units_of_likelihood(start, module.likelihood, fit, self.scaling, data, self.settings)
        module.start_at(fit, start, len(data.train))
        if data.covariates is not None:
            module.mean_covariates[fit] = torch.from_numpy(data.covariates[data.train].mean(0))
        if start.support is not None:
            x = scaled_cells(self.scaling, data, data.spread(_CURVE_CELLS))
            module.start_curves_at(fit, torch.from_numpy(x @ start.scores).float(), torch.from_numpy(x))

    def finish(self, module: TorchModule, data: TrainingData) -> None:
        values = self._tensor(scaled_cells(self.scaling, data, data.spread(_EFFECT_CELLS)))
        self.module.finish(Batch(values, features=self.module.cell_features(values)))
        if not self._is_of_x:
            self._draw_line(data)
        if self.settings.decoder != "linear":
            self.curve_gain = curve_gain(self, data, self.module.support[0].cpu().numpy())

    def diagnostics(self) -> Diagnostics:
        """How far the fit meets the paper's conditions; the objective's parts are in the history."""
        module = self.module
        found = diagnose(module.support[0].cpu().numpy(), module.prior.second_moment[0].cpu().numpy())
        return replace(
            found,
            start=self.settings.start,
            start_explained=dict(self.start_explained),
            curve_gain=self.curve_gain,
        )

    # -- what it says about genes

    def loadings(self) -> np.ndarray:
        """Change per unit of each factor (:meth:`Decoder.effects`), zero exactly where W is.

        Of x; of the logarithm of the mean count (nb), of the log odds (bernoulli).
        """
        effects = self.module.effects[0].cpu().numpy()
        if not self._is_of_x:
            return effects
        return self.scaling.slopes(
            effects * self._unit()[:, None], at=np.zeros(len(effects), dtype=np.float32)
        )

    def inclusion(self) -> np.ndarray:
        """Probability that each weight belongs to the slab."""
        return self.module.inclusion[0].cpu().numpy()

    def log_jacobian(self) -> float | None:
        if not self._is_of_x:
            return 0.0
        of_scaling = super().log_jacobian()
        return (
            None if of_scaling is None else of_scaling + float(np.log(self._unit(), dtype=np.float64).sum())
        )

    # -- from latents to x

    def decode(self, latents: np.ndarray, covariates: np.ndarray | None = None) -> np.ndarray:
        predictor = super().decode(latents, covariates)
        return predictor * self._unit() if self._is_of_x else predictor

    def _unit(self) -> np.ndarray:
        """(n_genes,) what the scaled values of each gene are divided by before the likelihood sees them."""
        likelihood = self.module.likelihood
        if not isinstance(likelihood, GaussianLikelihood):
            return np.ones(self.scaling.n_genes, dtype=np.float32)
        return likelihood.unit[0].cpu().numpy()

    @property
    def _is_of_x(self) -> bool:
        """Whether the likelihood is of x, but for its scaling."""
        return self.settings.likelihood in ("gaussian", "laplace")

    def reconstruct(self, latents: np.ndarray, covariates: np.ndarray | None = None) -> np.ndarray:
        """Means (n_cells, n_genes) float32 on the scale of x.

        The mean of a logarithm is not the logarithm of a mean: where the likelihood is not of x, a gene's x
        is a line over its mean (:meth:`Likelihood.mean`), drawn through the training cells.
        """
        if self._is_of_x:
            return super().reconstruct(latents, covariates)
        level, slope = self.module.line[0].cpu().numpy()
        return (level + slope * self._means(latents, covariates)).astype(np.float32, copy=False)

    def _means(self, latents: np.ndarray, covariates: np.ndarray | None) -> np.ndarray:
        """The likelihood's means, (n_cells, n_genes)."""
        predictor = self.decode(np.asarray(latents, dtype=np.float32), covariates)
        return self.module.likelihood.mean(torch.from_numpy(predictor)).numpy()

    def _draw_line(self, data: TrainingData) -> None:
        """Least squares of each gene's x on these means, over training cells."""
        rows = data.spread(_EFFECT_CELLS)
        cells, known = data.x[rows], data.covariates_of(rows)
        line = line_through(self._means(self.transform(cells, known), known), cells)
        self.module.line[0] = torch.from_numpy(line).to(self.module.line.device)


def fit_stack(
    models: list[SparseVAEModel], data: list[TrainingData], seeds: list[int], options: RunOptions
) -> list[FitReport]:
    """Fit several models at once, each to its own cells, as far as their settings come out the same.

    Parameters
    ----------
    models
        Not fitted yet.
    data
        Cells of each; the same numbers of genes, training and validation cells.
    seeds
        One each; those of a batched model are drawn from together, so that a fit in a stack is not the
        fit alone to the last bit.
    """
    starts = [model.prepare(cells, seed) for model, cells, seed in zip(models, data, seeds, strict=True)]
    reports: dict[int, FitReport] = {}
    remaining = list(range(len(models)))
    while remaining:
        alike_in = models[remaining[0]].settings, models[remaining[0]].n_batches
        alike = [
            place for place in remaining if (models[place].settings, models[place].n_batches) == alike_in
        ][:_LARGEST_STACK]
        remaining = [place for place in remaining if place not in alike]
        found = _fit_alike(
            [models[place] for place in alike],
            [data[place] for place in alike],
            [starts[place] for place in alike],
            derive_seed(seeds[alike[0]], len(alike)),
            options,
        )
        reports |= dict(zip(alike, found, strict=True))
    return [reports[place] for place in range(len(models))]


def _fit_alike(
    models: list[SparseVAEModel],
    data: list[TrainingData],
    starts: list[Start],
    seed: int,
    options: RunOptions,
) -> list[FitReport]:
    """Fit models of the same resolved settings as one batched module."""
    first = models[0]
    sizes = Sizes(len(models), data[0].x.shape[1], first.n_factors, first.n_batches)
    module = SparseVAEModule(first.settings, sizes, torch.Generator().manual_seed(derive_seed(seed, "start")))
    for place, (model, start, cells) in enumerate(zip(models, starts, data, strict=True)):
        model.put_start(module, place, start, cells)
    module.to(options.device)
    each = []
    for place, (model, cells) in enumerate(zip(models, data, strict=True)):
        model.module = module.only(place)
        each.append(Batches(cells, model.scaling, model.module, options.device))
    batches = each[0] if len(each) == 1 else StackedBatches(each)
    report = train(module, batches, first.settings, seed, options)
    reports = []
    for place, (model, cells) in enumerate(zip(models, data, strict=True)):
        model.module = module.only(place)
        model.finish(model.module, cells)
        reports.append(replace(report, notes=report.notes + model.diagnostics().sentences()))
    return reports
