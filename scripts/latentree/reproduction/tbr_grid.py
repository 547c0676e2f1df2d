"""All settings of the TBR paper's simulation, by part, and how often each estimator is fitted in them."""

from collections.abc import Mapping
from dataclasses import dataclass

from latentree.reproduction.tbr_fits import (
    MOST_LATENTS,
    N_LATENTS,
    OVER_FLOOR,
    SINGULAR,
    Place,
    Setting,
    n_environments,
)
from latentree.tbr import Estimator

NODES, LEAVES = "all nodes", "leaves"
"""Which environments have cells: all but the root (depth 7), or the leaves (depth 8)."""
CHANGES = tuple(range(N_LATENTS + 1))
PROBABILITIES = (0.1, 0.2, 0.8)
LINEAR_CHANGES = (1, 3)
DIMENSIONS_ONE, DIMENSIONS_HALF = (2, 3, 8), (2, 3, 5, 8)
LEAF_DEPTHS, NODE_DEPTHS = (3, 4, 5, 6, 7), (3, 5)
FULL = "all nodes, k 1, full size"

_ALL: Mapping[Estimator, int] = {"baseline": 10, "joint": 5, "two_stage": 10}
_SIDE: Mapping[Estimator, int] = {"baseline": 3, "two_stage": 3}
_FEW: Mapping[Estimator, int] = {"baseline": 3, "two_stage": 3}
_FEW_TREE: Mapping[Estimator, int] = {"two_stage": 3}
_FULL: Mapping[Estimator, int] = {"baseline": 3, "joint": 3, "two_stage": 3}


@dataclass(frozen=True)
class Asked:
    """Refits with other numbers of latents than the true one, d; changes of p = 1/2, or none at all."""

    d: int
    changes: bool
    n_latents: tuple[int, ...]
    baseline: bool = False

    @property
    def setting(self) -> str:
        """In the tables."""
        return f"latents asked for, {self.shown}"

    @property
    def shown(self) -> str:
        """In the picture."""
        return f"d {self.d}, {'p 0.5' if self.changes else 'k 0'}"


ASKED = (
    Asked(5, True, (1, 3, 4, 5, 6, MOST_LATENTS), baseline=True),
    Asked(3, True, (1, 2, 3, 4, MOST_LATENTS)),
    Asked(5, False, (1, 2, 5, MOST_LATENTS)),
)


@dataclass(frozen=True)
class Fits:
    """Fits of one setting: repetitions of each estimator, and the numbers of latents (None: the true one)."""

    setting: Setting
    repetitions: Mapping[Estimator, int]
    n_latents: tuple[int | None, ...] = (None,)


def _by_changes(k: int, where: str) -> Fits:
    places = [Place(f"mcc, {where}", k), Place(f"mse, {where}", k, metric=OVER_FLOOR)]
    leaves = where == LEAVES
    depth, observed = (8, "leaves") if leaves else (7, "non-root")
    if k == 1:
        places.append(Place("environments", n_environments(depth, observed), where))
        # the point of d = 5 in the picture
        places += [] if leaves else [Place("dimension", N_LATENTS, "k 1")]
    setting = Setting(
        f"{where}, k {k}",
        tuple(places),
        depth=depth,
        observed="leaves" if leaves else "non-root",
        n_changes=k,
    )
    return Fits(setting, _ALL)


def _stochastic(p: float) -> Fits:
    return Fits(Setting(f"p {p:g}", (Place("stochastic", p),), n_changes=None, probability=p), _SIDE)


def _linear(k: int) -> Fits:
    return Fits(Setting(f"linear, k {k}", n_changes=k, psi="linear"), _SIDE)


def _dimension(d: int) -> Fits:
    return Fits(Setting(f"d {d}, k 1", (Place("dimension", d, "k 1"),), n_latents=d), _SIDE)


def _dimension_half(d: int) -> Fits:
    places = [Place("dimension", d, "p 0.5")]
    # the point of p = 1/2 in the picture
    places += [Place("stochastic", 0.5)] if d == N_LATENTS else []
    name = f"d {d}, p 0.5"
    return Fits(Setting(name, tuple(places), n_latents=d, n_changes=None, probability=0.5), _SIDE)


def _environments(depth: int, where: str) -> Fits:
    leaves = where == LEAVES
    n = n_environments(depth, "leaves" if leaves else "non-root")
    places = (Place("environments", n, where),)
    name = f"{n} leaves, k 1" if leaves else f"{n} nodes, k 1"
    return Fits(Setting(name, places, depth=depth, observed="leaves" if leaves else "non-root"), _SIDE)


def _asked(asked: Asked) -> Fits:
    places = (Place("asked", 0, asked.shown, OVER_FLOOR), Place("singular", 0, asked.shown, SINGULAR))
    how = {"n_changes": None, "probability": 0.5} if asked.changes else {"n_changes": 0}
    setting = Setting(asked.setting, places, n_latents=asked.d, **how)
    return Fits(setting, _FEW if asked.baseline else _FEW_TREE, asked.n_latents)


PARTS: Mapping[str, tuple[Fits, ...]] = {
    **{f"k{k}": (_by_changes(k, NODES),) for k in CHANGES},
    **{f"leaves_k{k}": (_by_changes(k, LEAVES),) for k in CHANGES if k != 4},
    "stochastic": tuple(_stochastic(p) for p in PROBABILITIES),
    "linear": tuple(_linear(k) for k in LINEAR_CHANGES),
    "dimension_one": tuple(_dimension(d) for d in DIMENSIONS_ONE),
    "dimension_half": tuple(_dimension_half(d) for d in DIMENSIONS_HALF),
    "environments_leaves": tuple(_environments(depth, LEAVES) for depth in LEAF_DEPTHS),
    "environments_nodes": tuple(_environments(depth, NODES) for depth in NODE_DEPTHS),
    **{f"asked{i}": (_asked(one),) for i, one in enumerate(ASKED)},
    "full_size": (Fits(Setting(FULL, full=True), _FULL),),
}


def model_name(estimator: str, n_latents: int | None) -> str:
    """In the tables."""
    return estimator if n_latents is None else f"{estimator}, {n_latents} fitted"
