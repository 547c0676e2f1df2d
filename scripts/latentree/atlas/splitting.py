"""Training, validation and test cells: stratified by cell type, or whole donors on one side."""

import numpy as np
import pandas as pd

from latentree.errors import InputError, listed
from latentree.splits import SPLITS

_N_DRAWS = 500
"""Random orders of the donors from which the split nearest to the asked shares is taken."""


def split_cells(types: np.ndarray, test_fraction: float, validation_fraction: float, seed: int) -> np.ndarray:
    """Split the cells of each type at random.

    Every type keeps a training cell; with two cells it has a test cell too, with three all sides.

    Parameters
    ----------
    types
        (n_cells,) code of each cell's type, 0 to n_types - 1.
    test_fraction, validation_fraction
        Shares of each type.
    seed
        Of the draw.

    Returns
    -------
    np.ndarray
        (n_cells,) int64 codes, places in :data:`SPLITS`.
    """
    rng = np.random.default_rng(seed)
    sides = np.zeros(len(types), dtype=np.int64)
    for code in range(int(types.max()) + 1):
        cells = rng.permutation(np.flatnonzero(types == code))
        n_test, n_validation = _sizes(len(cells), test_fraction, validation_fraction)
        sides[cells[:n_test]] = SPLITS.index("test")
        sides[cells[n_test : n_test + n_validation]] = SPLITS.index("validation")
    return sides


def _sizes(n: int, test_fraction: float, validation_fraction: float) -> tuple[int, int]:
    """Test and validation cells of a type of ``n`` cells; at least one is left for training."""
    n_test = min(max(1, round(n * test_fraction)), n - 1)
    n_validation = min(max(1, round(n * validation_fraction)), n - 1 - n_test)
    return n_test, max(0, n_validation)


def split_donors(
    donors: np.ndarray,
    types: np.ndarray,
    type_names: list[str],
    fractions: tuple[float, float],
    seed: int,
    where: str,
) -> np.ndarray:
    """Split so that all cells of a donor lie on one side and each type has training cells.

    Of many random orders of the donors the one is taken that comes nearest to the asked shares of every
    type. A donor that alone holds some type trains.

    Parameters
    ----------
    donors
        (n_cells,) donor of each cell, text.
    types, type_names
        (n_cells,) code of each cell's type, and the n_types names.
    fractions
        Shares of test and validation cells.
    seed
        Of the draw.
    where
        How messages call the donor column.

    Raises
    ------
    InputError
        Fewer than three donors, or no split that leaves training cells to every type.
    """
    names, codes = np.unique(donors.astype(str), return_inverse=True)
    if len(names) < len(SPLITS):
        raise InputError(
            where,
            f"has {len(names)} donor(s) ({listed(names)}); training, validation and test need one each",
            "Leave split_by empty to split by cells, or name a column with at least 3 donors or samples",
        )
    table = np.zeros((len(names), len(type_names)))
    np.add.at(table, (codes, types), 1)
    sides = _best_draw(table, fractions, np.random.default_rng(seed))
    if sides is None:
        alone = np.count_nonzero(table, axis=0) == 1
        raise InputError(
            where,
            f"every split of its {len(names)} donors leaves some cell types without training cells; "
            f"types found in one donor only: {listed(np.asarray(type_names)[alone]) or 'none'}",
            "Leave split_by empty, or name types of single donors in ignore_cell_types",
        )
    return sides[codes]


def _best_draw(
    table: np.ndarray, fractions: tuple[float, float], rng: np.random.Generator
) -> np.ndarray | None:
    """Sides of the donors, (n_donors,); None where no draw leaves every type a training cell.

    ``table`` (n_donors, n_types) counts the cells.
    """
    n_donors = len(table)
    holders = table > 0
    only_here = holders[:, holders.sum(axis=0) == 1].any(axis=1)
    free = np.flatnonzero(~only_here)
    if len(free) < 2 or (len(free) == 2 and not only_here.any()):
        return None
    sizes, n_cells = table.sum(axis=1), table.sum()
    shares = np.array([1 - sum(fractions), fractions[1], fractions[0]])
    best, best_score = None, np.inf
    for _ in range(_N_DRAWS):
        order = rng.permutation(free)
        # two free donors at least stay for the other sides, or one where some donor trains anyway
        n_spare = 1 if only_here.any() else 2
        n_test = _n_nearest(sizes[order[: len(order) - n_spare]], fractions[0] * n_cells)
        rest = order[n_test : len(order) - n_spare + 1]
        n_validation = _n_nearest(sizes[rest], fractions[1] * n_cells)
        sides = np.zeros(n_donors, dtype=np.int64)
        sides[order[:n_test]] = SPLITS.index("test")
        sides[rest[:n_validation]] = SPLITS.index("validation")
        found = np.stack([table[sides == side].sum(axis=0) for side in range(len(SPLITS))])
        if not found[0].all():
            continue
        score = float(((found / table.sum(axis=0) - shares[:, None]) ** 2).sum())
        if score < best_score:
            best, best_score = sides, score
    return best


def _n_nearest(sizes: np.ndarray, target: float) -> int:
    """How many of the donors, taken in order and at least one, come nearest to ``target`` cells."""
    return int(np.argmin(np.abs(np.cumsum(sizes) - target))) + 1


def split_table(types: pd.Series, split: pd.Series) -> pd.DataFrame:
    """Cells per type and side, (n_types, 3), types sorted, sides in the order of :data:`SPLITS`."""
    table = pd.crosstab(types, split, dropna=False)
    return table.reindex(columns=list(SPLITS), fill_value=0).reindex(types.cat.categories, fill_value=0)
