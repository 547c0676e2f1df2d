"""The network from inputs to latents."""

import itertools
import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from latentree.tbr.disk_inputs import DiskInputs, windows

PhiKind = Literal["linear", "small", "large"]

_HIDDEN: dict[PhiKind, tuple[int, ...]] = {"linear": (), "small": (32,), "large": (256, 64)}
# small enough for the hidden layer to stay in the processor's cache
_CHUNK = 2048
# below so many training cells the paper's network overfits; from so many on it alone is tried (docs/tbr.md)
FEW_CELLS = 5000
MANY_CELLS = 50_000


def phi_kinds(
    asked: Literal["auto", "linear", "small", "large"], n_cells: int, validated: bool
) -> tuple[PhiKind, ...]:
    """The networks that ``auto`` chooses among; the first one without validation cells to choose by."""
    if asked != "auto":
        return (asked,)
    if n_cells >= MANY_CELLS:
        return ("large",)
    kinds: tuple[PhiKind, ...] = ("linear", "small") if n_cells < FEW_CELLS else ("large", "small", "linear")
    return kinds if validated else kinds[:1]


class Phi(nn.Module):
    """Latents from inputs: standardise, then a linear map or an MLP with LeakyReLU.

    Parameters
    ----------
    kind
        ``linear``; ``small``: one hidden layer of 32; ``large``: 256 and 64, the paper's.
    centre, scale
        float32 (n_inputs,): mean and sd of the inputs over the training cells.
    n_latents
        Size of the output.
    generator
        Draws the initial weights.
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self, kind: PhiKind, centre: np.ndarray, scale: np.ndarray, n_latents: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.kind: PhiKind = kind
        self.register_buffer("centre", torch.from_numpy(centre.astype(np.float32)))
        self.register_buffer("scale", torch.from_numpy(scale.astype(np.float32)))
        sizes = [len(centre), *_HIDDEN[kind], n_latents]
        *hidden, last = (_linear(a, b, generator) for a, b in itertools.pairwise(sizes))
        self.hidden = nn.ModuleList(hidden)
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        """(n_cells, n_inputs) to (n_cells, n_latents)."""
        hidden = (x - self.centre) / self.scale
        for layer in self.hidden:
            hidden = functional.leaky_relu(layer(hidden))
        out: Tensor = self.last(hidden)
        return out

    @torch.no_grad()
    def mix(self, matrix: np.ndarray, centre: np.ndarray | None = None) -> None:
        """Replace the latents z by ``matrix @ (z - centre)``; matrix is (n_latents, n_latents)."""
        if centre is not None:
            self.last.bias.sub_(torch.from_numpy(centre))
        product = torch.from_numpy(matrix)
        for parameter in (self.last.weight, self.last.bias):
            parameter.copy_((product @ parameter.double()).float())

    @torch.no_grad()
    def latents(self, X: np.ndarray | DiskInputs, cells: np.ndarray | None = None) -> np.ndarray:
        """Latents of any number of cells in chunks, float32 (n_cells, n_latents); checks rows on disk.

        ``cells``: ascending int64 rows that are wanted; all where it is None.
        """
        n_cells = X.shape[0] if cells is None else len(cells)
        out = np.empty((n_cells, self.last.out_features), dtype=np.float32)
        blocks: Iterable[tuple[int, np.ndarray]] = windows(X, cells)
        if cells is None and not isinstance(X, DiskInputs):
            blocks = [(0, X)]
        for first, block in blocks:
            for start in range(0, len(block), _CHUNK):
                rows = np.ascontiguousarray(block[start : start + _CHUNK], dtype=np.float32)
                out[first + start : first + start + len(rows)] = self(torch.from_numpy(rows)).numpy()
        return out


def _linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    """A layer with torch's usual initial distribution, drawn from our generator."""
    # torch's own draw is not used; nn.utils.skip_init would load a second's worth of modules
    with torch.random.fork_rng(devices=[]):
        layer = nn.Linear(n_in, n_out)
    bound = 1 / math.sqrt(n_in)
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return layer
