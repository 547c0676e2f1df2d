"""What all factor models share: their input, its scaling, and the interface the rest of latentree sees.

Knows nothing of AnnData, files or torch.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from latentree.errors import InputError
from latentree.factor_settings import FactorModelSettings
from latentree.models.gene_groups import GroupWeights
from latentree.models.identifiability import Diagnostics
from latentree.models.scaling import InputScaling, Matrix, TrainingData, row_chunks


@dataclass(frozen=True)
class RunOptions:
    """How a fit runs; no number of the result depends on these except through rounding.

    Parameters
    ----------
    device
        "cpu" or "cuda", already resolved.
    threads
        CPU threads.
    checkpoint
        Folder for checkpoints; None: none are written.
    checkpoint_key
        Hash of settings, data and code: a checkpoint with another key is not used.
    progress
        Show a progress bar, or short lines where stderr is no terminal.
    """

    device: str = "cpu"
    threads: int = 1
    checkpoint: Path | None = None
    checkpoint_key: str = ""
    progress: bool = False


@dataclass(frozen=True)
class FitReport:
    """What a fit tells about itself.

    Parameters
    ----------
    history
        A row per epoch: epoch (from 1), the loss by its parts, loss, validation_loss, learning_rate,
        cpu_seconds, wall_seconds (of that epoch). Empty for models without epochs.
    converged
        False where the model ran into its limit of iterations.
    best_epoch
        The epoch whose weights were kept; None where the last ones were, or without epochs.
    resumed_from_epoch
        Epochs that a checkpoint gave; None where the fit started anew.
    notes
        Plain sentences for the summary, such as a warning about convergence.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    converged: bool = True
    best_epoch: int | None = None
    resumed_from_epoch: int | None = None
    notes: tuple[str, ...] = ()


class FactorModel(ABC):
    """A model of cells by factors. A subclass says how to fit, encode, decode and keep its state.

    ``encode`` and ``decode`` see scaled values (see :class:`InputScaling`) of one chunk; what the rest of
    latentree calls (``transform``, ``reconstruct``) is on the scale of x and in chunks.
    """

    name: ClassVar[str]

    def __init__(self, settings: FactorModelSettings, n_factors: int) -> None:
        self.settings: Any = settings
        self.n_factors = n_factors
        self.scaling: InputScaling

    @abstractmethod
    def fit(self, data: TrainingData, seed: int, options: RunOptions) -> FitReport:
        """Fit on ``data.train``; sets ``self.scaling`` first.

        Raises
        ------
        InputError
            Where n_factors or the values do not suit the model.
        """

    @abstractmethod
    def encode(self, scaled: np.ndarray, covariates: np.ndarray | None = None) -> np.ndarray:
        """Posterior means (n_cells, n_factors) float32 of scaled values (n_cells, n_genes).

        ``covariates`` (n_cells, n_batches): models that know batches take the average one without it, the
        others do not look at it.
        """

    @abstractmethod
    def decode(self, latents: np.ndarray, covariates: np.ndarray | None = None) -> np.ndarray:
        """Scaled means (n_cells, n_genes) float32 of latents (n_cells, n_factors)."""

    @abstractmethod
    def loadings(self) -> np.ndarray:
        """(n_genes, n_factors) float32: change of the mean of x per unit of each latent, at the data's mean.

        Exact zeros where the model says zero.
        """

    def inclusion(self) -> np.ndarray | None:
        """(n_genes, n_factors) float32 in [0, 1]: probability that a gene uses a factor, where known."""
        return None

    def group_weights(self) -> GroupWeights | None:
        """How much each factor moves each gene set, where the model knows sets."""
        return None

    def log_likelihood(self, data: TrainingData, rows: np.ndarray) -> np.ndarray | None:
        """(n_rows,) estimates of each cell's log p in nats; None: the model has no density.

        Of x, or of the counts where the likelihood is of counts.
        """
        return None

    def facts(self) -> dict[str, Any]:
        """What else the fit has found, ready for JSON; by_factor: lists of a number for each factor."""
        return {}

    def diagnostics(self) -> Diagnostics | None:
        """How far the fit can be trusted to be the only one of its kind, where the model knows."""
        return None

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """All arrays that :meth:`from_state` needs, the scaling's among them."""

    @classmethod
    @abstractmethod
    def from_state(
        cls, settings: FactorModelSettings, n_factors: int, state: Mapping[str, np.ndarray]
    ) -> Self:
        """The fitted model again."""

    def transform(self, x: Matrix, covariates: np.ndarray | None = None) -> np.ndarray:
        """Posterior means (n_cells, n_factors) float32 of cells on the scale of x."""
        latents = np.empty((x.shape[0], self.n_factors), dtype=np.float32)
        for rows in row_chunks(x.shape[0], self.scaling.n_genes):
            known = None if covariates is None else covariates[rows]
            latents[rows] = self.encode(self.scaling.apply(x[rows], known), known)
        return latents

    def reconstruct(self, latents: np.ndarray, covariates: np.ndarray | None = None) -> np.ndarray:
        """Means (n_cells, n_genes) float32 on the scale of x; call it by chunks on large atlases."""
        scaled = self.decode(np.asarray(latents, dtype=np.float32), covariates)
        return self.scaling.invert(scaled, covariates)


def require_factors(n_factors: int, limits: Mapping[str, int]) -> None:
    """Refuse more factors than the smallest of the limits, such as ``{"modelled genes": 200}``.

    Raises
    ------
    InputError
        Names n_factors, its value and the limit.
    """
    what, limit = min(limits.items(), key=lambda item: item[1])
    if not 1 <= n_factors <= limit:
        raise InputError(
            "n_factors",
            f"{n_factors} factors were asked for, but there are {limit} {what}",
            f"Set n_factors between 1 and {limit}",
        )
