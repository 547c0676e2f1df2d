"""Batches of training cells in random order, from memory or from disk."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latentree.tbr.disk_inputs import DiskInputs

# inputs on disk are shuffled within a buffer of this size (float32), filled with random blocks of neighbours
_BUFFER_BYTES = 2**28
# rows of a block. Files are often sorted by environment, so blocks are short; longer ones only where the file
# is stored in pieces that must be read whole
_BLOCK = 64
_LONGEST_BLOCK = 512
Batch = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class StepData:
    """The cells of one fit, ready for batches.

    ``X`` (n_cells, n_inputs) float32 in memory or on disk, ``y`` (n_cells,) float32 in units of its
    training sd, ``codes`` (n_cells,) int64 environment numbers, ``train`` and ``validation`` int64
    ascending row numbers.
    """

    X: np.ndarray | DiskInputs
    y: np.ndarray
    codes: np.ndarray
    train: np.ndarray
    validation: np.ndarray


def batches(cells: StepData, size: int, n_steps: int, generator: torch.Generator) -> Iterator[Batch]:
    """``n_steps`` batches (x, y, codes) of ``size`` training cells, or of all where there are fewer.

    Cells are shuffled anew after each pass. From disk all are shuffled alike where they fit into the
    buffer; otherwise each buffer is filled with blocks drawn at random from those not yet used in this
    pass.
    """
    if not isinstance(cells.X, DiskInputs):
        tensors = torch.from_numpy(cells.X), torch.from_numpy(cells.y), torch.from_numpy(cells.codes)
        yield from _shuffled(*tensors, torch.from_numpy(cells.train), size, n_steps, generator)
        return
    room = max(size, _BUFFER_BYTES // (4 * cells.X.shape[1]))
    if len(cells.train) <= room:
        yield from _held(cells, cells.train, size, n_steps, generator)
        return
    longest = max(1, min(_LONGEST_BLOCK, room // 64))
    block = int(np.clip(cells.X.rows_in_piece, min(_BLOCK, longest), longest))
    left = np.empty(0, dtype=np.int64)  # blocks of this pass that have not been used
    while n_steps > 0:
        n_blocks = -(-min(room // size, n_steps) * size // block)
        if len(left) * block < size:
            left = torch.randperm(-(-len(cells.train) // block), generator=generator).numpy()
        drawn, left = np.sort(left[:n_blocks]), left[n_blocks:]
        places = (drawn[:, None] * block + np.arange(block)).ravel()
        rows = cells.train[places[places < len(cells.train)]]
        n_here = min(len(rows) // size, n_steps)
        yield from _held(cells, rows, size, n_here, generator)
        n_steps -= n_here


def _held(
    cells: StepData, rows: np.ndarray, size: int, n_steps: int, generator: torch.Generator
) -> Iterator[Batch]:
    """Batches of these rows, which are read once."""
    held = (torch.from_numpy(values[rows]) for values in (cells.X, cells.y, cells.codes))
    x, y, codes = held
    yield from _shuffled(x, y, codes, torch.arange(len(rows)), size, n_steps, generator)


def _shuffled(
    x: Tensor, y: Tensor, codes: Tensor, rows: Tensor, size: int, n_steps: int, generator: torch.Generator
) -> Iterator[Batch]:
    per_pass = max(1, len(rows) // size)
    done = 0
    while done < n_steps:
        order = rows[torch.randperm(len(rows), generator=generator)]
        for i in range(min(per_pass, n_steps - done)):
            chosen = order[i * size : (i + 1) * size]
            yield x.index_select(0, chosen), y.index_select(0, chosen), codes.index_select(0, chosen)
        done += per_pass
