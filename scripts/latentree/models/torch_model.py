"""What the torch models share: from a module to the interface of :class:`FactorModel`."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Self

import numpy as np
import torch

from latentree.batches import Batches
from latentree.factor_settings import FactorModelSettings
from latentree.metrics.importance_weights import importance_weighted_per_cell
from latentree.models.base import FactorModel, FitReport, RunOptions, require_factors
from latentree.models.scaling import InputScaling, TrainingData, row_chunks
from latentree.seeds import derive_seed
from latentree.training import TorchModule, train

# draws of the latents for an estimate of log p
_IMPORTANCE_SAMPLES = 64


class TorchFactorModel(FactorModel):
    """A factor model whose parameters live in a :class:`TorchModule`, fitted by the shared loop."""

    module: TorchModule

    def see(self, data: TrainingData) -> None:
        """Note what of the cells the module's shapes depend on, and decide what settings leave open."""

    def see_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Note the same of a saved fit."""

    @abstractmethod
    def make_module(self, n_genes: int, generator: torch.Generator) -> TorchModule:
        """The module at its random start; shapes follow from settings, sizes and what was seen."""

    def start(self, module: TorchModule, data: TrainingData, generator: torch.Generator) -> None:
        """Set what the start takes from the training cells; ``self.scaling`` is there already."""

    def finish(self, module: TorchModule, data: TrainingData) -> None:
        """Set what the fitted module keeps about the training cells; in evaluation mode, on the device."""

    def fit(self, data: TrainingData, seed: int, options: RunOptions) -> FitReport:
        n_genes = data.x.shape[1]
        require_factors(self.n_factors, {"modelled genes": n_genes})
        self.see(data)
        self.scaling = InputScaling.fit(data, self.settings.input, self.settings.gene_scaling)
        generator = torch.Generator().manual_seed(derive_seed(seed, "start"))
        self.module = self.make_module(n_genes, generator)
        self.start(self.module, data, generator)
        self.module.to(options.device)
        batches = Batches(data, self.scaling, self.module, options.device)
        report = train(self.module, batches, self.settings, seed, options)
        self.finish(self.module, data)
        return report

    @torch.no_grad()
    def encode(self, scaled: np.ndarray, covariates: np.ndarray | None = None) -> np.ndarray:
        known = None if covariates is None else self._tensor(covariates)
        return self.module.encode_mean(self._tensor(scaled), known).cpu().numpy()

    @torch.no_grad()
    def decode(self, latents: np.ndarray, covariates: np.ndarray | None = None) -> np.ndarray:
        known = None if covariates is None else self._tensor(covariates)
        return self.module.decode_mean(self._tensor(latents), known).cpu().numpy()

    @torch.no_grad()
    def log_likelihood(self, data: TrainingData, rows: np.ndarray) -> np.ndarray | None:
        """Importance-weighted (Burda et al. 2016, 64 draws): a lower bound in expectation.

        Of x in its own units, or of counts. None where the module tells no weights, and with ``input: sqrt``
        where the likelihood is of these values.
        """
        jacobian = self.log_jacobian()
        if jacobian is None:
            return None
        self.module.eval()
        device = str(next(self.module.parameters()).device)
        cells = data.only(rows)
        batches = Batches(cells, self.scaling, self.module, device)
        generator = torch.Generator().manual_seed(0)
        found = np.empty(len(rows))
        for chunk in row_chunks(len(rows), data.x.shape[1]):
            batch = batches.rows(cells.train[chunk])
            weights = []
            for _ in range(_IMPORTANCE_SAMPLES):
                drawn = self.module.log_weights(batch, generator)
                if drawn is None:
                    return None
                weights.append(drawn.cpu().numpy())
            found[chunk] = importance_weighted_per_cell(np.stack(weights))
        return found - jacobian

    def log_jacobian(self) -> float | None:
        """Sum over genes of the logarithm of what x is divided by before the likelihood sees it.

        None: what the likelihood sees is no multiple of x.
        """
        return (
            float(np.log(self.scaling.scale.astype(np.float64)).sum())
            if self.scaling.input == "log"
            else None
        )

    def state(self) -> dict[str, np.ndarray]:
        tensors = self.module.state_dict()
        arrays = {f"module.{name}": value.cpu().numpy() for name, value in tensors.items()}
        return {**self.scaling.state(), **arrays}

    @classmethod
    def from_state(
        cls, settings: FactorModelSettings, n_factors: int, state: Mapping[str, np.ndarray]
    ) -> Self:
        model = cls(settings, n_factors)
        model.scaling = InputScaling.from_state(settings.input, state)
        model.see_state(state)
        model.module = model.make_module(model.scaling.n_genes, torch.Generator().manual_seed(0))
        model.module.load_state_dict(
            {
                name.removeprefix("module."): torch.from_numpy(np.array(array))
                for name, array in state.items()
                if name.startswith("module.")
            }
        )
        model.module.eval()
        return model

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        device = next(self.module.parameters()).device
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device)
