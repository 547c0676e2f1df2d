"""Two small modules to fit, their cells, and what the tests of the fit loop and its checkpoints compare."""

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from latentree.adam import Adam
from latentree.batches import Batch, Batches
from latentree.factor_settings import TorchModelSettings
from latentree.models.base import FitReport, RunOptions
from latentree.models.layers import linear, noise
from latentree.models.scaling import InputScaling, TrainingData
from latentree.training import TorchModule, train

N_GENES = 6


class Autoencoder(TorchModule):
    """A small linear autoencoder with noise, a buffer that moves, and switches for trouble."""

    steps: Tensor

    def __init__(self, *, breaks_at: int | None = None, interrupts_at: int | None = None) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.encoder = linear(N_GENES, 2, generator)
        self.decoder = linear(2, N_GENES, generator)
        self.register_buffer("steps", torch.zeros(()))
        self.breaks_at, self.interrupts_at = breaks_at, interrupts_at
        self.epoch = 0

    def loss_parts(self, batch: Batch, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        x = batch.x
        z = self.encoder(x)
        z = z + 0.1 * noise(tuple(z.shape), generator, z.device)
        size = (z**2).sum(dim=1).mean()
        return {
            "reconstruction": ((x - self.decoder(z)) ** 2).sum(dim=1).mean(),
            "kl": size * (float("nan") if self.epoch == self.breaks_at else 0.01),
        }

    def validation_parts(self, batch: Batch) -> dict[str, Tensor]:
        x = batch.x
        return {"reconstruction": ((x - self.decode_mean(self.encode_mean(x))) ** 2).sum(dim=1).mean()}

    def encode_mean(self, x: Tensor, covariates: Tensor | None = None) -> Tensor:
        return self.encoder(x)

    def decode_mean(self, z: Tensor, covariates: Tensor | None = None) -> Tensor:
        return self.decoder(z)

    def on_epoch_start(self, progress: float) -> None:
        self.epoch += 1
        if self.epoch == self.interrupts_at:
            raise KeyboardInterrupt

    def after_step(self, learning_rate: float, optimizer: Adam) -> None:
        # a proximal step that depends on Adam's own state and on the buffer
        self.steps += 1
        second = optimizer.state[self.decoder.weight]["exp_avg_sq"]
        self.decoder.weight -= 1e-3 * learning_rate * self.steps.sqrt() / (second.sqrt() + 1)


def example_data(n_cells: int = 50, *, is_sparse: bool = False) -> TrainingData:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n_cells, 2)) @ rng.normal(size=(2, N_GENES)) + 0.3 * rng.normal(
        size=(n_cells, N_GENES)
    )
    x = np.where(rng.random(x.shape) < 0.3, 0, x).astype(np.float32)
    rows = rng.permutation(n_cells)
    return TrainingData(sparse.csr_matrix(x) if is_sparse else x, np.sort(rows[:40]), np.sort(rows[40:]))


SETTINGS = TorchModelSettings(
    max_epochs=12, batch_size=16, learning_rate=0.05, patience=None, checkpoint_every=3
)


def run(
    module: TorchModule,
    settings: TorchModelSettings = SETTINGS,
    data: TrainingData | None = None,
    seed: int = 0,
    options: RunOptions | None = None,
) -> FitReport:
    data = data if data is not None else example_data()
    options = options if options is not None else RunOptions()
    batches = Batches(data, InputScaling.fit(data, "log", 1.0), module, options.device)
    return train(module, batches, settings, seed, options)


def parameters(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in module.state_dict().items()}


def without_times(report: FitReport) -> list[dict[str, float]]:
    return [
        {key: value for key, value in row.items() if not key.endswith("_seconds")} for row in report.history
    ]


def assert_same_bits(a: nn.Module, b: nn.Module) -> None:
    for name, value in parameters(a).items():
        np.testing.assert_array_equal(value, parameters(b)[name], err_msg=name)


class Mean(TorchModule):
    """One number per gene, no noise: small enough to be fitted by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.full((N_GENES,), 2.0))

    def loss_parts(self, batch: Batch, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        return self.validation_parts(batch)

    def validation_parts(self, batch: Batch) -> dict[str, Tensor]:
        return {"error": ((batch.x - self.mean) ** 2).sum(dim=1).mean()}

    def encode_mean(self, x: Tensor, covariates: Tensor | None = None) -> Tensor:
        return x

    def decode_mean(self, z: Tensor, covariates: Tensor | None = None) -> Tensor:
        return z
