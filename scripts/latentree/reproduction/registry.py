"""All experiments by name, with their parts; light, because the Snakefile imports it.

The experiment ``NAME`` is the module ``latentree/reproduction/NAME.py``, which offers

    run(part: str, scale: Scale) -> list[Measurement] | Outcome     # deterministic: same part, same numbers
                                                                    # (but for measured seconds)
    summarise(measurements: pd.DataFrame) -> list[Row]              # columns of Measurement; copes with parts
                                                                    # that were not run
    draw(samples: pd.DataFrame, path: Path) -> None                 # only where `figure` is set here: an SVG
                                                                    # from the samples of all parts

Each part is one job of one to four CPU minutes (seconds where ``scale.quick``). No experiment imports this
module (names are in sources.py): its jobs run again when code that it imports has changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType, ModuleType

from latentree.errors import InputError, listed, nearest
from latentree.reproduction.sources import (
    DD_PAPER,
    GENE_SETS,
    INTEL_PAPER,
    MOVIELENS,
    OI_PAPER,
    SPARSE_VAE_PAPER,
    TBR_PAPER,
    ZEISEL,
    ZEISEL_FULL,
    ZHENG,
)


@dataclass(frozen=True)
class Part:
    """One job; ``needs`` are files of the data folder without which it is skipped, ``quick`` tells whether it
    belongs to the quick variant."""

    name: str
    needs: tuple[str, ...] = ()
    quick: bool = True


@dataclass(frozen=True)
class Experiment:
    """One experiment of one paper; ``figure`` is the caption of its picture, None where it draws none."""

    paper: str
    title: str
    parts: tuple[Part, ...]
    figure: str | None = None

    def part(self, name: str) -> Part:
        """The part of this name."""
        return next(part for part in self.parts if part.name == name)

    def part_names(self, quick: bool) -> list[str]:
        """Names of the parts to run."""
        return [part.name for part in self.parts if part.quick or not quick]


EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType(
    {
        "synthetic": Experiment(
            paper=SPARSE_VAE_PAPER,
            title="Sparse VAE: synthetic data with correlated factors",
            parts=(
                Part("rho00"),
                Part("rho02", quick=False),
                Part("rho04"),
                Part("rho06", quick=False),
                Part("rho08", quick=False),
            ),
        ),
        "shift": Experiment(
            paper=SPARSE_VAE_PAPER,
            title="Sparse VAE: training and test cells that differ",
            parts=(
                Part("high", (ZEISEL,)),
                Part("medium", (ZEISEL,), quick=False),
                Part("low", (ZEISEL,), quick=False),
            ),
        ),
        "cells": Experiment(
            paper=SPARSE_VAE_PAPER,
            title="Sparse VAE: cell types and biological processes (Zeisel)",
            parts=(
                *(Part(f"split{i}", (ZEISEL, GENE_SETS), quick=i == 0) for i in range(5)),
                Part("full", (ZEISEL_FULL, GENE_SETS), quick=False),
                Part("blood", (ZHENG, GENE_SETS), quick=False),
            ),
        ),
        "ratings": Experiment(
            paper=SPARSE_VAE_PAPER,
            title="Sparse VAE: ratings of films (MovieLens)",
            parts=(Part("folds", (MOVIELENS,)),),
        ),
        "dd": Experiment(
            paper=DD_PAPER,
            title="Disentangling disentanglement: clusters, sparse cells, shapes",
            parts=(
                Part("pinwheel"),
                *(Part(f"sparse{i}", (ZHENG,), quick=i == 1) for i in (1, 2, 3)),
                Part("shapes"),
            ),
            figure="Draws of the points' posteriors under the prior of four clusters, coloured by the arm",
        ),
        "intel": Experiment(
            paper=INTEL_PAPER,
            title="InteL-VAE: shapes, sparse latents and clusters",
            parts=(
                *(
                    Part(shape, quick=shape in ("circle", "mixture"))
                    for shape in ("circle", "square", "star", "two_holes", "mixture")
                ),
                Part("sparse", (ZHENG,)),
                Part("clusters", (ZHENG,)),
                Part("digits"),
            ),
            figure="New points of VAE and InteL-VAE over the data, one seed",
        ),
        "oi": Experiment(
            paper=OI_PAPER,
            title="oi-VAE: bars, and cells by gene sets where there are few",
            parts=(
                Part("bars8"),
                Part("bars16", quick=False),
                *(Part(f"cells{n}", (ZHENG, GENE_SETS), quick=n == 100) for n in (100, 250, 500, 1500)),
            ),
        ),
        "tbr": Experiment(
            paper=TBR_PAPER,
            title="TBR: simulated trees of environments",
            parts=(
                *(Part(f"k{k}", quick=k == 1) for k in range(6)),
                *(Part(f"leaves_k{k}", quick=False) for k in (0, 1, 2, 3, 5)),
                *(
                    Part(name, quick=False)
                    for name in ("stochastic", "linear", "dimension_one", "dimension_half")
                ),
                Part("environments_leaves", quick=False),
                Part("environments_nodes", quick=False),
                *(Part(f"asked{i}", quick=i == 1) for i in range(3)),
                Part("full_size", quick=False),
                Part("few_shot"),
            ),
            figure="Means and standard deviations over data sets, by estimator",
        ),
    }
)


def experiment_module(name: str) -> ModuleType:
    """The module of an experiment.

    The imports are spelled out, as in :func:`latentree.models.model_class`, so that only what is used is
    loaded and the hash of the code still covers all of it.
    """
    if name == "synthetic":
        from latentree.reproduction import synthetic

        return synthetic
    if name == "shift":
        from latentree.reproduction import shift

        return shift
    if name == "cells":
        from latentree.reproduction import cells

        return cells
    if name == "ratings":
        from latentree.reproduction import ratings

        return ratings
    if name == "dd":
        from latentree.reproduction import dd

        return dd
    if name == "intel":
        from latentree.reproduction import intel

        return intel
    if name == "oi":
        from latentree.reproduction import oi

        return oi
    if name == "tbr":
        from latentree.reproduction import tbr

        return tbr
    raise InputError(
        "experiment",
        f"{name!r} is not an experiment{nearest(name, EXPERIMENTS)}",
        f"Use one of {listed(EXPERIMENTS)}",
    )
