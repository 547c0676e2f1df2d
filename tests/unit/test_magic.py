"""MAGIC: the method written out densely, the authors' package, scikit-learn's PCA and neighbours."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import scanpy as sc
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import sparse
from scipy.spatial.distance import cdist

from latentree.errors import InputError
from latentree.leading_axes import LeadingAxes
from latentree.magic import MagicGraph
from latentree.neighbours import nearest_neighbours
from latentree.settings import MagicSettings

FROZEN_STD = 0.3089904
LOW = [
    {},
    {"knn": 10, "decay": 15, "t": 5},
    {"decay": None},
    {"knn": 3, "knn_max": 40, "t": 1},
    {"knn": 4, "knn_max": 4, "decay": 2},
]


def clusters(n_cells: int = 120, n_genes: int = 20, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = 3 * rng.normal(size=(4, n_genes))
    return (centres[rng.integers(4, size=n_cells)] + rng.normal(size=(n_cells, n_genes))).astype(np.float32)


def counts(n_cells: int, n_genes: int, seed: int = 0) -> sparse.csr_matrix:
    rng = np.random.default_rng(seed)
    rates = rng.gamma(0.5, size=(n_cells, 5)) @ rng.gamma(0.3, size=(5, n_genes))
    return sparse.csr_matrix(np.log1p(rng.poisson(rates)).astype(np.float32))


def dense_operator(x: np.ndarray, s: MagicSettings) -> np.ndarray:
    """The method of the paper, cell by cell, in double precision."""
    n_cells = len(x)
    distances = cdist(x.astype(np.float64), x.astype(np.float64))
    K = np.zeros((n_cells, n_cells))
    for i in range(n_cells):
        order = [j for j in np.argsort(distances[i], kind="stable") if j != i]
        bandwidth = distances[i, order[s.knn - 1]]
        K[i, i] = 1
        for rank, j in enumerate(order[: s.knn_max or 3 * s.knn]):
            if s.decay is None:
                K[i, j] = rank < s.knn
                continue
            affinity = np.exp(-((distances[i, j] / bandwidth) ** s.decay))
            K[i, j] = affinity if affinity >= 1e-4 else 0
    K = (K + K.T) / 2
    return K / K.sum(axis=1, keepdims=True)


def relative_error(result: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Per gene."""
    return np.linalg.norm(result - expected, axis=0) / np.linalg.norm(expected, axis=0)


# ---- the method


@pytest.mark.parametrize("changes", LOW)
def test_equals_the_method_written_out(changes: dict) -> None:
    s = MagicSettings(n_pca=None, **changes)
    x = clusters()
    M = dense_operator(x, s)
    graph = MagicGraph.fit(x, s)
    np.testing.assert_allclose(graph.operator.toarray(), M, atol=1e-6)
    expected = np.linalg.matrix_power(M, s.t) @ x
    result = graph.denoise(x)
    assert result.dtype == np.float32
    assert graph.operator.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # what magic-impute has to say
@pytest.mark.parametrize("changes", LOW)
def test_equals_magic_impute_on_the_same_low_dimensional_matrix(changes: dict, shared_data: Path) -> None:
    magic = pytest.importorskip("magic")
    adata = sc.read_h5ad(shared_data / "zeisel2015_200genes.h5ad")[:1000].copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    low = sc.pp.pca(adata.X, n_comps=30, random_state=0).astype(np.float32)
    s = MagicSettings(n_pca=None, **changes)
    original = magic.MAGIC(
        n_pca=None, knn=s.knn, knn_max=s.knn_max, decay=s.decay, t=s.t, n_jobs=1, verbose=0
    )
    result = MagicGraph.fit(low, s).denoise(low)
    assert relative_error(result, original.fit_transform(low)).max() <= 1e-5


@pytest.mark.filterwarnings("ignore")  # what magic-impute has to say
def test_lies_closer_to_magic_impute_than_two_of_its_seeds(shared_data: Path) -> None:
    magic = pytest.importorskip("magic")
    adata = sc.read_h5ad(shared_data / "zeisel2015_200genes.h5ad")[::3].copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    originals = [
        magic.MAGIC(random_state=seed, n_jobs=1, verbose=0).fit_transform(adata.X, genes="all_genes")
        for seed in (0, 1, 2)
    ]
    result = MagicGraph.fit(adata.X, MagicSettings()).denoise(adata.X)
    between_seeds = [np.linalg.norm(a - b) for a, b in combinations(originals, 2)]
    ours = [np.linalg.norm(result - original) for original in originals]
    assert np.mean(ours) < np.mean(between_seeds)


def test_a_frozen_number() -> None:
    x = counts(300, 150, seed=5)
    result = MagicGraph.fit(x, MagicSettings(n_pca=10)).denoise(x)
    assert result.std() == pytest.approx(FROZEN_STD, rel=1e-4)


def test_chosen_genes_and_cells_are_those_of_the_whole() -> None:
    x = counts(200, 300)
    graph = MagicGraph.fit(x, MagicSettings(n_pca=10))
    whole = graph.denoise(x)
    assert whole.shape == (200, 300)
    genes, rows = np.array([250, 3, 77]), np.array([5, 199, 0])
    np.testing.assert_array_equal(graph.denoise(x[:, genes]), whole[:, genes])
    np.testing.assert_array_equal(graph.denoise(x.toarray()[:, genes], rows=rows), whole[rows][:, genes])
    np.testing.assert_array_equal(MagicGraph.fit(x, MagicSettings(n_pca=10)).denoise(x), whole)


def test_values_stay_between_the_smallest_and_the_largest() -> None:
    x = counts(100, 50)
    graph = MagicGraph.fit(x, MagicSettings(t=7))
    np.testing.assert_allclose(graph.operator.sum(axis=1), 1, rtol=1e-6)
    result = graph.denoise(x)
    assert result.min() >= 0
    assert (result.max(axis=0) <= x.toarray().max(axis=0) + 1e-6).all()


def test_t_0_leaves_values_alone() -> None:
    x = clusters()
    graph = MagicGraph.fit(x, MagicSettings(t=0))
    np.testing.assert_array_equal(graph.denoise(x, rows=np.array([4, 2])), x[[4, 2]])
    np.testing.assert_array_equal(graph.extend(x[:3], x[:3], x), x[:3])


def test_identical_cells_are_neighbours_of_their_copies_alone() -> None:
    # the bandwidth is 0, so that 0 / 0 has to count as near and everything else as far
    x = np.repeat(clusters(3), [10, 25, 40], axis=0)
    for s in (MagicSettings(), MagicSettings(n_pca=2), MagicSettings(decay=15)):
        graph = MagicGraph.fit(x, s)
        np.testing.assert_allclose(graph.denoise(x), x, rtol=1e-5)
        np.testing.assert_allclose(graph.extend(x[::20], x[::20], x), x[::20], rtol=1e-5)


def test_few_cells() -> None:
    with pytest.raises(InputError, match=r"environments\.magic\.knn: 5 neighbours.*only 6 training cells"):
        MagicGraph.fit(clusters(6), MagicSettings())
    # fewer than knn_max: all cells are neighbours
    assert MagicGraph.fit(clusters(7), MagicSettings()).operator.nnz == 49
    # more components than cells
    assert MagicGraph.fit(counts(8, 300), MagicSettings()).positions.shape == (8, 7)


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"knn_max \(4\) must not be below knn \(5\)"):
        MagicSettings(knn_max=4)
    with pytest.raises(ValidationError, match="fit_on: all"):
        MagicSettings(engine="magic-impute")


# ---- held-out cells


def test_extension_is_the_cell_diffused_as_if_it_had_joined() -> None:
    s = MagicSettings(n_pca=None, t=3)
    x, new = clusters(), clusters(5, seed=1)
    M = dense_operator(x, s)
    distances = cdist(new.astype(float), x.astype(float))
    result = MagicGraph.fit(x, s).extend(new, new, x)
    for i in range(5):
        order = np.argsort(distances[i])[:15]
        affinity = np.exp(-distances[i, order] / distances[i, order[4]])
        # the graph with one more cell, which looks at 15 others while none looks back
        joined = np.zeros((121, 121))
        joined[:120, :120] = M
        joined[120, order], joined[120, 120] = affinity, 1
        joined[120] /= joined[120].sum()
        expected = np.linalg.matrix_power(joined, 3) @ np.vstack([x, new[[i]]])
        np.testing.assert_allclose(result[i], expected[120], rtol=1e-4, atol=1e-5)


def test_extension_comes_near_to_what_joining_the_graph_gives() -> None:
    x = counts(400, 200)
    held_out, train = np.arange(0, 400, 20), np.setdiff1d(np.arange(400), np.arange(0, 400, 20))
    s = MagicSettings(n_pca=10)
    joined = MagicGraph.fit(x, s).denoise(x, rows=held_out)
    extended = MagicGraph.fit(x[train], s).extend(x[held_out], x[held_out], x[train])
    raw = x[held_out].toarray()
    assert np.linalg.norm(extended - joined) < 0.25 * np.linalg.norm(raw - joined)


def test_extension_checks_its_rows() -> None:
    x = clusters()
    with pytest.raises(InputError, match="119 rows for a graph of 120 cells"):
        MagicGraph.fit(x, MagicSettings()).extend(x[:2], x[:2], x[1:])


# ---- neighbours and axes


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 3000), st.integers(1, 12), st.booleans(), st.booleans())
def test_neighbours_are_the_nearest(seed: int, n: int, dimensions: int, same: bool, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, dimensions)).astype(np.float32)
    if tied:  # a grid has many equal distances and identical points
        points = np.round(points)
    queries = points if same else rng.normal(size=(7, dimensions)).astype(np.float32)
    k = min(1 + seed % 20, n - same)
    indices, distances = nearest_neighbours(queries, points, k, same=same)
    expected = cdist(queries.astype(np.float64), points.astype(np.float64))
    if same:
        np.fill_diagonal(expected, np.inf)
        assert (indices != np.arange(n)[:, None]).all()
    np.testing.assert_allclose(distances, np.sort(expected, axis=1)[:, :k], atol=1e-9)
    np.testing.assert_allclose(np.take_along_axis(expected, indices, axis=1), distances, atol=1e-9)
    assert (np.diff(np.sort(indices, axis=1), axis=1) > 0).all()


@pytest.mark.parametrize("n_genes", [300, 3200])  # all products, Krylov
def test_axes_span_the_leading_components(n_genes: int) -> None:
    x = counts(250, n_genes)
    axes = LeadingAxes.fit(x, 5, seed=0)
    _, values, vectors = np.linalg.svd(x.toarray().astype(np.float64), full_matrices=False)
    cosines = np.linalg.svd(axes.axes.T @ vectors[:5].T, compute_uv=False)
    assert cosines.min() > 1 - 1e-4
    scores = axes.scores(x)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(scores, axis=0), values[:5], rtol=1e-3)
    np.testing.assert_allclose(axes.scores(x.toarray()), scores, atol=1e-3)
    np.testing.assert_array_equal(LeadingAxes.fit(x, 5, seed=0).axes, axes.axes)


def test_many_axes_of_many_genes_are_those_of_the_svd() -> None:
    # a Krylov subspace for so many axes would have more dimensions than there are genes
    x = sparse.random_array((560, 3010), density=0.1, rng=np.random.default_rng(0), dtype=np.float32).tocsr()
    axes = LeadingAxes.fit(x, 495, seed=0).axes.astype(np.float64)
    np.testing.assert_allclose(axes.T @ axes, np.eye(495), atol=1e-5)
    values = np.linalg.svd(x.toarray().astype(np.float64), compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(x @ axes, axis=0), values[:495], rtol=1e-4)
