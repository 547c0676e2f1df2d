"""The cells that a refit is fitted on: a random share of an atlas's cells, or one of two disjoint halves.

Parts are named r0, r1, ... (shares) and half0, half1, ... (halves: half0 and half1 have no cell in common,
nor have half2 and half3). Only training and validation cells are drawn, each side for itself; test cells
stay test cells in every refit, so that refits can be compared on cells that none of them has seen. Cell
types play no role in the draw.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from latentree.seeds import derive_seed

_DRAWN = ("train", "validation")
_N_DRAWS = 100
_EVEN_ENOUGH = 0.4
"""Share of the cells in the smaller half from which on a draw of donors is taken."""
_LEAST_HALF = 0.25
"""A smaller half of donors than this would say more about its size than about its donors."""


@dataclass(frozen=True)
class Part:
    """Cells of one refit.

    Parameters
    ----------
    kept
        (n_cells,) bool: cells that the refit is given, test cells among them.
    how
        How they were drawn, a few words.
    """

    kept: np.ndarray
    how: str


def refit_pairs(parts: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    """Which refits are compared, by comparison: every two resamples, and the two halves of each pair."""
    numbers: dict[str, list[int]] = {"half": [], "r": []}
    for part in parts:
        kind, number = _kind(part)
        numbers[kind].append(number)
    halves = sorted(i for i in numbers["half"] if i % 2 == 0 and i + 1 in numbers["half"])
    return {
        "halves": [(f"half{i}", f"half{i + 1}") for i in halves],
        "resamples": [(f"r{i}", f"r{j}") for i, j in combinations(sorted(numbers["r"]), 2)],
    }


def draw_part(
    part: str, split: np.ndarray, seed: int, fraction: float | None = None, donors: np.ndarray | None = None
) -> Part:
    """The cells of one refit.

    Parameters
    ----------
    part
        Its name.
    split
        (n_cells,) train, validation or test.
    seed
        Of the draw; with it and its name a part is always the same.
    fraction
        Share of training and of validation cells in a resample; unused for halves.
    donors
        (n_cells,) donor of each cell: halves are then of whole donors, unless fewer than two of them train
        or the smaller half would hold less than a quarter of the training cells. The validation cells of
        a single donor are halved by cells. Unused for resamples.
    """
    kind, number = _kind(part)
    rows = {side: np.flatnonzero(split == side) for side in _DRAWN}
    if kind == "r":
        if fraction is None:
            raise ValueError("a resample needs its fraction")
        chosen = {side: _share(cells, fraction, _rng(seed, part, side)) for side, cells in rows.items()}
        how = f"random {100 * fraction:g}% of the cells"
    else:
        pair, second = f"halves{number // 2}", number % 2 == 1
        first, how = _first_halves(rows, pair, seed, donors)
        chosen = {side: cells[first[side] != second] for side, cells in rows.items()}
    kept = ~np.isin(split, _DRAWN)
    for cells in chosen.values():
        kept[cells] = True
    return Part(kept, how)


def _kind(part: str) -> tuple[str, int]:
    found = re.fullmatch(r"(r|half)(\d+)", part)
    if not found:
        raise ValueError(f"{part!r} is no name of a refit's cells")
    return found[1], int(found[2])


def _rng(seed: int, part: str, side: str) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, "refit", part, side))


def _share(cells: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """A random share of some cells, at least one where there is one."""
    n = max(1, round(fraction * len(cells)))
    return rng.permutation(cells)[:n]


def _first_halves(
    rows: dict[str, np.ndarray], pair: str, seed: int, donors: np.ndarray | None
) -> tuple[dict[str, np.ndarray], str]:
    """Of the cells of each side, (n_side,) bool, which are in the first half; and how they were drawn."""
    how, by_donor = "disjoint halves of the cells", False
    first = {}
    for side, cells in rows.items():
        rng = _rng(seed, pair, side)
        whole = None if donors is None else _half_of_donors(donors[cells].astype(str), rng)
        if side == "train" and donors is not None:
            by_donor = whole is not None
            how += "" if by_donor else ", for its donors cannot be halved"
        if by_donor and whole is not None:
            how = "disjoint halves of whole donors"
            first[side] = whole
        else:
            first[side] = np.isin(np.arange(len(cells)), rng.permutation(len(cells))[: (len(cells) + 1) // 2])
    return first, how


def _half_of_donors(donors: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Which cells (n_cells,) belong to a random half of the donors; None where no half is large enough.

    The first draw is taken that is even enough, else the most even one.
    """
    names, codes = np.unique(donors, return_inverse=True)
    if len(names) < 2:
        return None
    sizes = np.bincount(codes)
    best, best_share = None, 0.0
    for _ in range(_N_DRAWS):
        order = rng.permutation(len(names))
        before = np.cumsum(sizes[order])[:-1]
        cut = int(np.abs(before - len(donors) / 2).argmin())
        share = min(before[cut], len(donors) - before[cut]) / len(donors)
        if share > best_share:
            best, best_share = order[: cut + 1], share
        if share >= _EVEN_ENOUGH:
            break
    return None if best is None or best_share < _LEAST_HALF else np.isin(codes, best)
