"""One fit loop for every torch model: schedule, early stopping, checkpoints, progress, finite check."""

import logging
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from latentree.adam import Adam
from latentree.batches import Batch, Batches, StackedBatches
from latentree.checkpoints import Checkpoints, Tensors
from latentree.errors import InputError
from latentree.factor_settings import TorchModelSettings
from latentree.fit_progress import Progress
from latentree.models.base import FitReport, RunOptions
from latentree.seeds import derive_seed

logger = logging.getLogger(__name__)


class NonFiniteLossError(InputError):
    """A part of the loss became NaN or infinite; the message names the part and the epoch."""


class TorchModule(nn.Module, ABC):
    """A model as the fit loop sees it. Batches of cells in, latents (n_cells, n_factors).

    All state that a resumed fit needs is a parameter or a registered buffer. Random numbers come from the
    generator that is handed in, never from torch's global one (so no ``nn.Dropout``).
    """

    settles_at: float = 0.0
    """Share of the epochs after which the objective has its final form (warm-ups are over). Earlier epochs
    minimise something else than the validation loss, so none of them counts as the best."""

    gradient_clip: float | None = None
    """Norm of all of Adam's gradients together at most, where the objective has steep places."""

    reads_values: bool = True
    reads_counts: bool = False
    """What a step looks at, so that batches hold nothing else."""

    def cell_features(self, x: Tensor) -> Tensor | None:
        """What of scaled cells (n_cells, n_genes) stays the same in all steps, (n_cells, n_features)."""
        return None

    @abstractmethod
    def loss_parts(self, batch: Batch, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        """The loss of a batch by its parts, per cell (means over the batch), whose sum is minimised.

        Scalars, or (n_fits,) where the module holds several fits. ``progress`` is the share of all steps
        that are done, in [0, 1).
        """

    @abstractmethod
    def validation_parts(self, batch: Batch) -> dict[str, Tensor]:
        """Deterministic loss per cell at the posterior mean, the same function in every epoch."""

    @abstractmethod
    def encode_mean(self, x: Tensor, covariates: Tensor | None = None) -> Tensor:
        """Posterior means of the latents of scaled values (n_cells, n_genes)."""

    @abstractmethod
    def decode_mean(self, z: Tensor, covariates: Tensor | None = None) -> Tensor:
        """Scaled means of the genes."""

    def log_weights(self, batch: Batch, generator: torch.Generator) -> Tensor | None:
        """log p(x | y) + log p(y) - log q(y | x) at one draw y ~ q of each cell, (n_cells,), if known."""
        return None

    def on_epoch_start(self, progress: float) -> None:
        """Move schedules on; follows from ``progress`` (epochs done / all epochs) and the state alone."""

    def after_step(self, learning_rate: float, optimizer: Adam) -> None:
        """Whatever follows Adam's step (E-step, proximal step); called without gradients."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Adam's groups; "weight_decay" and "lr_scale" (times the loop's learning rate) may be given."""
        return [{"params": list(self.parameters())}]

    def learning_rate_factor(self, progress: float) -> float:
        """Learning rate as a share of its highest value: half a cosine from 1 to 0."""
        return 0.5 * (1 + math.cos(math.pi * progress))


def train(
    module: TorchModule,
    batches: Batches | StackedBatches,
    settings: TorchModelSettings,
    seed: int,
    options: RunOptions,
) -> FitReport:
    """Fit ``module`` on training cells with Adam; it ends in evaluation mode on ``options.device``.

    A module of several fits takes :class:`StackedBatches`; its history holds means over the fits, and one
    fit that diverges ends all.

    With ``patience`` and validation cells, the weights of the epoch with the lowest validation loss are
    kept and the fit stops once that many epochs brought no better one; otherwise the last weights are kept.
    Epochs before ``module.settles_at`` do not count.

    The same seed, machine and thread count give the same bits, and so does a fit that was killed and runs
    again with the same checkpoint folder and key. The last checkpoint stays: it is to be deleted once the
    fit is saved.

    Raises
    ------
    InputError
        Another fit writes to the checkpoint folder.
    NonFiniteLossError
        A part of the loss became NaN or infinite.
    """
    checkpoints = Checkpoints(options.checkpoint, options.checkpoint_key)
    with checkpoints.locked(), reproducible(options.threads):
        loop = _Loop(module, batches, settings, seed, options)
        return loop.run(checkpoints)


def resolve_device(device: str) -> str:
    """ "cpu" or "cuda" from "auto", "cpu" or "cuda".

    Raises
    ------
    InputError
        CUDA is asked for and there is none.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise InputError("device", f"{device!r} is no device", "Use 'auto', 'cpu' or 'cuda'")
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        if torch.version.cuda is None:
            why, remedy = "this torch was built without CUDA", "Install torch's CUDA build (docs/cluster.md)"
        else:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
            why = f"no CUDA GPU is visible (CUDA_VISIBLE_DEVICES: {visible})"
            remedy = "Run on a GPU"
        raise InputError("device", f"cuda was asked for, but {why}", f"{remedy}, or use device auto or cpu")
    return "cuda" if available and device != "cpu" else "cpu"


@contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Torch with this many CPU threads and deterministic kernels; as it was before when the block ends.

    The CPU kernels used here are deterministic for a given number of threads; the switch is for CUDA only,
    because it costs a second of imports.
    """
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with _deterministic_cuda() if torch.cuda.is_available() else nullcontext():
            yield
    finally:
        torch.set_num_threads(threads_before)


@contextmanager
def _deterministic_cuda() -> Iterator[None]:
    deterministic_before = torch.are_deterministic_algorithms_enabled()
    warn_before = torch.is_deterministic_algorithms_warn_only_enabled()
    # cuBLAS is deterministic only with a fixed workspace, read when its first handle is made
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic_before, warn_only=warn_before)


class _Loop:
    """The state of one fit between its epochs: everything here that changes is in the checkpoint."""

    def __init__(
        self,
        module: TorchModule,
        batches: Batches | StackedBatches,
        settings: TorchModelSettings,
        seed: int,
        options: RunOptions,
    ) -> None:
        self.module = module.to(options.device)
        self.batches = batches
        self.settings = settings
        self.options = options
        self.generator = torch.Generator().manual_seed(derive_seed(seed, "training"))
        groups = [{"lr_scale": 1.0, **group} for group in module.parameter_groups()]
        self.optimizer = Adam(groups, lr=settings.learning_rate)
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best_loss = math.inf
        self.best_state: Tensors = {}
        self.stops_early = settings.patience is not None and batches.n_validation > 0

    def run(self, checkpoints: Checkpoints) -> FitReport:
        resumed = self._resume(checkpoints)
        rhythm = _CheckpointRhythm(self.settings, len(self.history))
        with Progress(self.settings.max_epochs, len(self.history), self.options.progress) as progress:
            while len(self.history) < self.settings.max_epochs and not self._out_of_patience():
                row = self._epoch(len(self.history))
                self.history.append(row)
                self._remember_best(row)
                progress.show(row)
                if rhythm.is_due(len(self.history)):
                    self._checkpoint(checkpoints)
                    rhythm.saved(len(self.history))
        if self.best_state:
            self.module.load_state_dict(self.best_state)
        self.module.eval()
        return FitReport(
            history=self.history,
            converged=self._converged(),
            best_epoch=self.best_epoch or None,
            resumed_from_epoch=resumed,
        )

    def _epoch(self, epoch: int) -> dict[str, float]:
        """One pass over the training cells; ``epoch`` counts those before it."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.module.train()
        self.module.on_epoch_start(epoch / self.settings.max_epochs)
        size = self.settings.batch_size
        n_steps = self.batches.n_steps(size)
        sums: dict[str, float] = {}
        learning_rate = 0.0
        for step, (n_cells, batch) in enumerate(self.batches.epoch(self.generator, size)):
            done = (epoch + step / n_steps) / self.settings.max_epochs
            learning_rate = self.settings.learning_rate * self.module.learning_rate_factor(done)
            for name, value in self._step(batch, learning_rate, done, epoch).items():
                sums[name] = sums.get(name, 0.0) + value * n_cells
        parts = {name: value / self.batches.n_train for name, value in sums.items()}
        return {
            "epoch": epoch + 1,
            **parts,
            "loss": sum(parts.values()),
            "validation_loss": self._validation_loss(epoch),
            "learning_rate": learning_rate,
            "cpu_seconds": time.process_time() - cpu,
            "wall_seconds": time.perf_counter() - wall,
        }

    def _step(self, batch: Batch, learning_rate: float, done: float, epoch: int) -> dict[str, float]:
        """One step of Adam; the parts of the loss as numbers."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["lr_scale"]
        self.optimizer.zero_grad()
        parts = self.module.loss_parts(batch, self.generator, done)
        numbers = _numbers(parts)
        self._require_finite(numbers, epoch)
        torch.stack(list(parts.values())).sum().backward()
        if self.module.gradient_clip is not None:
            stepped = [value for group in self.optimizer.param_groups for value in group["params"]]
            nn.utils.clip_grad_norm_(stepped, self.module.gradient_clip)
        self.optimizer.step()
        with torch.no_grad():
            self.module.after_step(learning_rate, self.optimizer)
        return numbers

    @torch.no_grad()
    def _validation_loss(self, epoch: int) -> float:
        if not self.batches.n_validation:
            return math.nan
        self.module.eval()
        total = 0.0
        for n_cells, batch in self.batches.validation():
            numbers = _numbers(self.module.validation_parts(batch))
            self._require_finite({f"validation {name}": value for name, value in numbers.items()}, epoch)
            total += n_cells * sum(numbers.values())
        return total / self.batches.n_validation

    def _require_finite(self, numbers: dict[str, float], epoch: int) -> None:
        broken = [name for name, value in numbers.items() if not math.isfinite(value)]
        if broken:
            raise NonFiniteLossError(
                "loss",
                f"the part {broken[0]!r} became {numbers[broken[0]]} in epoch {epoch + 1}",
                f"Lower learning_rate (now {self.settings.learning_rate:g}) or look for outliers in the data",
            )

    def _remember_best(self, row: dict[str, float]) -> None:
        if self.stops_early and self._settled() and row["validation_loss"] < self.best_loss:
            self.best_loss, self.best_epoch = row["validation_loss"], len(self.history)
            self.best_state = {name: value.clone() for name, value in self.module.state_dict().items()}

    def _out_of_patience(self) -> bool:
        patience = self.settings.patience
        # the first settled epoch is always the best so far
        if patience is None or not self.stops_early or not self._settled():
            return False
        return len(self.history) - self.best_epoch >= patience

    def _converged(self) -> bool:
        """Whether the end was one that was meant: out of patience, or a schedule that came to rest."""
        at_rest = self.module.learning_rate_factor(1.0) < 0.05
        return at_rest or not self.stops_early or self._out_of_patience()

    def _settled(self) -> bool:
        return len(self.history) > self.module.settles_at * self.settings.max_epochs

    def _checkpoint(self, checkpoints: Checkpoints) -> None:
        tensors = {f"module.{name}": value for name, value in self.module.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best_state.items()}
        tensors |= {f"adam.{name}": value for name, value in self.optimizer.tensors().items()}
        tensors["generator"] = self.generator.get_state()
        checkpoints.save(
            tensors, {"history": self.history, "best_epoch": self.best_epoch, "best_loss": self.best_loss}
        )

    def _resume(self, checkpoints: Checkpoints) -> int | None:
        """Take over a usable checkpoint; the number of epochs it had done, or None."""
        found = checkpoints.load()
        if found is None:
            return None
        tensors, facts = found
        self.module.load_state_dict(_below(tensors, "module."))
        device = self.options.device
        self.best_state = {name: value.to(device) for name, value in _below(tensors, "best.").items()}
        self.optimizer.load(_below(tensors, "adam."))
        self.generator.set_state(tensors["generator"])
        self.history = facts["history"]
        self.best_epoch, self.best_loss = facts["best_epoch"], facts["best_loss"]
        logger.warning("resuming from epoch %d of %d", len(self.history), self.settings.max_epochs)
        return len(self.history)


class _CheckpointRhythm:
    """After which epochs a checkpoint is due, counted from the last one; ``done`` epochs are done at first.

    Every ``checkpoint_every`` epochs. Without that number, every tenth of all epochs, and earlier where one
    more epoch as long as the last would put five minutes between two checkpoints.
    """

    SECONDS = 300.0

    def __init__(self, settings: TorchModelSettings, done: int) -> None:
        self._epochs = settings.checkpoint_every or max(1, settings.max_epochs // 10)
        self._seconds = math.inf if settings.checkpoint_every else self.SECONDS
        self._epoch_ended = time.monotonic()
        self.saved(done)

    def is_due(self, done: int) -> bool:
        """Asked once after each epoch."""
        before, self._epoch_ended = self._epoch_ended, time.monotonic()
        next_end = self._epoch_ended + (self._epoch_ended - before)
        return done - self._saved_epoch >= self._epochs or next_end - self._saved_at > self._seconds

    def saved(self, done: int) -> None:
        """A checkpoint holds this many epochs now."""
        self._saved_epoch, self._saved_at = done, time.monotonic()


def _numbers(parts: dict[str, Tensor]) -> dict[str, float]:
    """The parts of a loss as numbers, in one transfer from the device."""
    values = torch.stack([part.detach().mean() for part in parts.values()]).tolist()
    return dict(zip(parts, values, strict=True))


def _below(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
