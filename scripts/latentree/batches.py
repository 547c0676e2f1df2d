"""Batches of cells for the torch models: dense tensors on the device, from matrices that may be sparse."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from latentree.models.scaling import InputScaling, Matrix, TrainingData, row_chunks

_RESIDENT_BYTES = 32 * 2**20
"""A matrix that is smaller than this when dense is kept so: batches are then rows of a tensor."""
_RESIDENT_SHARE = 0.4
"""On a GPU: share of its free memory that a dense matrix may take to be kept there."""


@dataclass(frozen=True)
class Batch:
    """Some cells as a torch model sees them; in a stack of fits with a leading axis (n_fits, ...).

    Parameters
    ----------
    x
        (n_cells, n_genes) scaled values; of no genes where the model does not read them.
    counts
        (n_cells, n_genes), where the fit has counts.
    log_library
        (n_cells, 1) natural logarithm of the cells' totals, where the fit has counts.
    features
        (n_cells, n_features) what the model keeps about each cell (:meth:`Reader.cell_features`).
    covariates
        (n_cells, n_batches) 1 in the column of each cell's batch, where the fit knows batches.
    """

    x: Tensor
    counts: Tensor | None = None
    log_library: Tensor | None = None
    features: Tensor | None = None
    covariates: Tensor | None = None


class Reader(Protocol):
    """What a model says about the cells it reads."""

    reads_values: bool
    reads_counts: bool

    def cell_features(self, x: Tensor) -> Tensor | None:
        """(n_cells, n_features) of scaled values: what stays the same in all steps of a fit."""


class Batches:
    """The training and validation cells of one fit."""

    def __init__(self, data: TrainingData, scaling: InputScaling, reader: Reader, device: str) -> None:
        self.n_train, self.n_validation = len(data.train), len(data.validation)
        self._train, self._validation = data.train, data.validation
        self._device = torch.device(device)
        self._n_genes = data.x.shape[1]
        self._values = _Rows(scaling.values(data.x), scaling, self._device, data.covariates)
        self._features = self._all_features(reader)
        if not reader.reads_values:
            self._values = _Rows(np.empty((data.x.shape[0], 0), np.float32), None, self._device)
        self._counts: _Rows | None = None
        if reader.reads_counts:
            assert data.counts is not None
            self._counts = _Rows(data.counts.values, None, self._device)
            log_library = np.log(data.counts.library, dtype=np.float32)
            self._log_library = torch.from_numpy(log_library[:, None]).to(self._device)
        self._covariates: Tensor | None = None
        if data.covariates is not None:
            self._covariates = torch.from_numpy(data.covariates).to(self._device)

    def epoch(self, generator: torch.Generator, size: int) -> Iterator[tuple[int, Batch]]:
        """All training cells once, in random order: the number of cells and the cells."""
        order = self._train[torch.randperm(self.n_train, generator=generator).numpy()]
        for start in range(0, self.n_train, size):
            rows = order[start : start + size]
            yield len(rows), self.rows(rows)

    def n_steps(self, size: int) -> int:
        """Steps of an epoch."""
        return -(-self.n_train // size)

    def validation(self) -> Iterator[tuple[int, Batch]]:
        """All validation cells in chunks."""
        for rows in row_chunks(self.n_validation, self._n_genes):
            indices = self._validation[rows]
            yield len(indices), self.rows(indices)

    def rows(self, indices: np.ndarray) -> Batch:
        """These cells."""
        places = torch.from_numpy(indices).to(self._device)
        return Batch(
            x=self._values.rows(indices, places),
            counts=None if self._counts is None else self._counts.rows(indices, places),
            log_library=None if self._counts is None else self._log_library[places],
            features=None if self._features is None else self._features[places],
            covariates=None if self._covariates is None else self._covariates[places],
        )

    def _all_features(self, reader: Reader) -> Tensor | None:
        n_cells = self._values.n_rows
        features: Tensor | None = None
        for rows in row_chunks(n_cells, self._n_genes):
            indices = np.arange(n_cells)[rows]
            found = reader.cell_features(self._values.rows(indices, torch.from_numpy(indices)))
            if found is None:
                return None
            if features is None:
                features = found.new_empty(n_cells, found.shape[1])
            features[rows] = found
        return features


class StackedBatches:
    """Batches of several fits of the same size at once: every tensor has a leading axis (n_fits, ...)."""

    def __init__(self, fits: list[Batches]) -> None:
        self.n_train, self.n_validation = fits[0].n_train, fits[0].n_validation
        self._cells = stacked([fit.rows(np.r_[fit._train, fit._validation]) for fit in fits])
        self._n_fits = len(fits)

    def epoch(self, generator: torch.Generator, size: int) -> Iterator[tuple[int, Batch]]:
        """As :meth:`Batches.epoch`, each fit in an order of its own."""
        order = torch.rand(self._n_fits, self.n_train, generator=generator).argsort(1)
        for start in range(0, self.n_train, size):
            chosen = order[:, start : start + size]
            yield chosen.shape[1], self._chosen(chosen)

    def n_steps(self, size: int) -> int:
        """Steps of an epoch."""
        return -(-self.n_train // size)

    def validation(self) -> Iterator[tuple[int, Batch]]:
        """All validation cells, one chunk."""
        if self.n_validation:
            rows = torch.arange(self.n_train, self.n_train + self.n_validation)
            yield self.n_validation, self._chosen(rows.expand(self._n_fits, -1))

    def _chosen(self, rows: Tensor) -> Batch:
        """Cells (n_fits, n_cells) of each fit."""

        def pick(values: Tensor) -> Tensor:
            device = values.device
            return values[torch.arange(self._n_fits, device=device)[:, None], rows.to(device)]

        return _for_each_tensor(self._cells, pick)


def stacked(batches: list[Batch]) -> Batch:
    """One batch with a leading axis of fits from batches of the same shape."""

    def stack(values: list[Tensor | None]) -> Tensor | None:
        there = [value for value in values if value is not None]
        return torch.stack(there) if len(there) == len(values) else None

    x = stack([batch.x for batch in batches])
    assert x is not None
    return Batch(
        x,
        stack([batch.counts for batch in batches]),
        stack([batch.log_library for batch in batches]),
        stack([batch.features for batch in batches]),
        stack([batch.covariates for batch in batches]),
    )


def _for_each_tensor(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """The batch with every tensor that it has changed."""
    there = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(batch, **{name: change(value) for name, value in there.items() if value is not None})


class _Rows:
    """Rows of a matrix as dense tensors: kept dense on the device where that is small, else made anew."""

    def __init__(
        self,
        matrix: Matrix,
        scaling: InputScaling | None,
        device: torch.device,
        covariates: np.ndarray | None = None,
    ) -> None:
        self.n_rows = matrix.shape[0]
        self._matrix, self._scaling, self._device = matrix, scaling, device
        self._covariates = covariates
        self._resident: Tensor | None = None
        n_bytes = 4 * matrix.shape[0] * matrix.shape[1]
        if n_bytes <= _resident_limit(device):
            self._resident = torch.empty(matrix.shape, device=device)
            for rows in row_chunks(*matrix.shape):
                self._resident[rows] = self._dense(rows)

    def rows(self, indices: np.ndarray, places: Tensor) -> Tensor:
        """(n, n_columns) of the rows ``indices``, which ``places`` gives as a tensor."""
        if self._resident is not None:
            return self._resident[places]
        return self._dense(indices)

    def _dense(self, indices: np.ndarray | slice) -> Tensor:
        chosen = self._matrix[indices]
        if self._scaling is not None:
            known = None if self._covariates is None else self._covariates[indices]
            dense = self._scaling.standardise(chosen, known)
        else:
            dense = chosen if isinstance(chosen, np.ndarray) else chosen.toarray()
        return torch.from_numpy(np.ascontiguousarray(dense)).to(self._device)


def _resident_limit(device: torch.device) -> float:
    if device.type != "cuda":
        return _RESIDENT_BYTES
    return _RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
