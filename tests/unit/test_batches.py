"""Batches of cells: the right rows of everything, dense or sparse, kept or made anew, one fit or several."""

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import Tensor

from latentree import batches as batches_module
from latentree.batches import Batch, Batches, StackedBatches, stacked
from latentree.models.scaling import Counts, InputScaling, TrainingData

N_CELLS, N_GENES = 30, 6


class Reader:
    """A model that keeps the sums of a cell's halves."""

    def __init__(self, values: bool = True, counts: bool = True, features: bool = True) -> None:
        self.reads_values, self.reads_counts, self._features = values, counts, features

    def cell_features(self, x: Tensor) -> Tensor | None:
        return torch.stack([x[:, :3].sum(1), x[:, 3:].sum(1)], 1) if self._features else None


def _data(seed: int = 0, *, is_sparse: bool = False) -> TrainingData:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(1.0, (N_CELLS, N_GENES)).astype(np.float32)
    library = rng.uniform(50, 200, N_CELLS)
    x = np.log1p(counts / library[:, None] * 1e4).astype(np.float32)
    rows = rng.permutation(N_CELLS)
    form = sparse.csr_matrix if is_sparse else np.asarray
    covariates = np.eye(3, dtype=np.float32)[rng.integers(3, size=N_CELLS)]
    split = np.sort(rows[:23]), np.sort(rows[23:])
    return TrainingData(form(x), *split, Counts(form(counts), library), covariates)


def _batches(data: TrainingData, reader: Reader | None = None, kind: str = "log") -> Batches:
    scaling = InputScaling.fit(data, kind, 0.5)  # type: ignore[arg-type]
    return Batches(data, scaling, reader or Reader(), "cpu")


def _same(one: Batch, other: Batch) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("x", "counts", "log_library", "features", "covariates")
    )


@pytest.mark.parametrize("is_sparse", [False, True])
@pytest.mark.parametrize("limit", [0, 2**25])
@pytest.mark.parametrize("kind", ["log", "sqrt"])
def test_rows_are_those_of_the_data_however_they_are_kept(is_sparse, limit, kind, monkeypatch):
    monkeypatch.setattr(batches_module, "_RESIDENT_BYTES", limit)
    monkeypatch.setattr("latentree.models.scaling.CHUNK_VALUES", 7 * N_GENES)
    data, dense = _data(is_sparse=is_sparse), _data()
    found = _batches(data, kind=kind).rows(np.array([4, 0, 29, 4]))
    x = InputScaling.fit(dense, kind, 0.5).apply(dense.x)[[4, 0, 29, 4]]
    np.testing.assert_allclose(found.x, x, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found.counts, dense.counts.values[[4, 0, 29, 4]])
    np.testing.assert_allclose(
        found.log_library[:, 0], np.log(dense.counts.library[[4, 0, 29, 4]]), rtol=1e-6
    )
    np.testing.assert_allclose(found.features, np.stack([x[:, :3].sum(1), x[:, 3:].sum(1)], 1), rtol=1e-3)


def test_kept_and_made_anew_are_the_same_bits(monkeypatch):
    kept = _batches(_data(is_sparse=True))
    monkeypatch.setattr(batches_module, "_RESIDENT_BYTES", 0)
    anew = _batches(_data(is_sparse=True))
    pairs = zip(
        kept.epoch(torch.Generator().manual_seed(1), 5),
        anew.epoch(torch.Generator().manual_seed(1), 5),
        strict=True,
    )
    assert all(_same(one, other) for (_, one), (_, other) in pairs)


@pytest.mark.parametrize("size", [1, 5, 23, 100])
def test_every_training_cell_comes_once_in_an_epoch_and_in_another_order_in_the_next(size):
    data = _data()
    batches, generator = _batches(data), torch.Generator().manual_seed(0)
    orders = []
    for _ in range(2):
        found = list(batches.epoch(generator, size))
        assert len(found) == batches.n_steps(size)
        assert all(n == len(batch.x) <= size for n, batch in found)
        orders.append(torch.cat([batch.log_library for _, batch in found])[:, 0])
    expected = np.sort(np.log(data.counts.library[data.train]))
    for order in orders:
        np.testing.assert_allclose(np.sort(order), expected, rtol=1e-6)
    assert not torch.equal(*orders)


def test_validation_cells_come_in_chunks(monkeypatch):
    monkeypatch.setattr("latentree.models.scaling.CHUNK_VALUES", 3 * N_GENES)
    data = _data()
    found = list(_batches(data).validation())
    assert [n for n, _ in found] == [3, 3, 1]
    libraries = torch.cat([batch.log_library for _, batch in found])[:, 0]
    np.testing.assert_allclose(libraries, np.log(data.counts.library[data.validation]), rtol=1e-6)


def test_a_model_gets_only_what_it_reads():
    batch = _batches(_data(), Reader(values=False, features=False)).rows(np.arange(4))
    assert batch.x.shape == (4, 0)
    assert batch.features is None
    assert batch.counts.shape == (4, N_GENES)
    batch = _batches(_data(), Reader(counts=False)).rows(np.arange(4))
    assert batch.counts is batch.log_library is None
    assert batch.features.shape == (4, 2)
    # features come from values that the steps do not look at
    batch = _batches(_data(), Reader(values=False)).rows(np.arange(4))
    assert batch.x.shape == (4, 0)
    assert batch.features.any()


# several fits


def _stack() -> tuple[list[TrainingData], list[Batches], StackedBatches]:
    data = [_data(seed) for seed in range(3)]
    fits = [_batches(one) for one in data]
    return data, fits, StackedBatches(fits)


def _place(data: TrainingData, log_library: float) -> int:
    return int(np.abs(np.log(data.counts.library) - log_library).argmin())


def test_a_stack_pairs_each_fit_with_its_own_cells():
    data, fits, stack = _stack()
    assert (stack.n_train, stack.n_validation) == (23, 7)
    seen = [[] for _ in fits]
    for n_cells, batch in stack.epoch(torch.Generator().manual_seed(0), 5):
        assert batch.x.shape == (3, n_cells, N_GENES)
        for fit, (one, cells) in enumerate(zip(fits, data, strict=True)):
            rows = np.array([_place(cells, float(value)) for value in batch.log_library[fit, :, 0]])
            seen[fit].extend(rows)
            assert _same(one.rows(rows), Batch(*(values[fit] for values in vars(batch).values())))
    assert [sorted(rows) for rows in seen] == [list(cells.train) for cells in data]
    assert len({tuple(np.searchsorted(c.train, rows)) for c, rows in zip(data, seen, strict=True)}) == 3
    [(n_cells, batch)] = stack.validation()
    assert n_cells == 7
    for fit, one in enumerate(fits):
        assert torch.equal(batch.x[fit], one.rows(data[fit].validation).x)


def test_a_stack_holds_only_what_its_fits_hold():
    fits = [_batches(_data(seed), Reader(counts=False, features=False)) for seed in range(2)]
    batch = stacked([one.rows(np.arange(3)) for one in fits])
    assert batch.x.shape == (2, 3, N_GENES)
    assert batch.counts is batch.log_library is batch.features is None


def test_a_stack_without_validation_cells_has_none():
    data = _data()
    alone = TrainingData(data.x, data.train, data.validation[:0], data.counts)
    assert list(StackedBatches([_batches(alone)] * 2).validation()) == []
    assert list(_batches(alone).validation()) == []
