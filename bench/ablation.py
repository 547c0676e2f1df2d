"""What each part of the Sparse VAE's robust recipe is worth: one setting changed at a time.

    python bench/ablation.py [--data FOLDER] [--atlases zeisel2015 kang2018] [--splits 1]

Each variant is fitted to the training cells and to disjoint halves of them; a row per atlas, split and
variant in ablation.tsv.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from bench_tools import ATLASES, DATA, GENERATED, Path, atlas, one_thread, parser, spared, write
from cells import agreements, api_factors, row

from latentree.api import fit

_LINEAR = {"likelihood": "gaussian", "decoder": "linear"}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "default (counts)": {},
    "no proximal steps": {"proximal": False},
    "no ladder": {"ladder_steps": 1},
    "plain lasso": {"lambda0": 0.03, "lambda1": 0.03},
    "no refit": {"refit_fraction": 0.0},
    "prior N(0, I)": {"prior": "identity"},
    "scores mixed": {"encoder_mean": "linear"},
    "free posterior mean": {"encoder_mean": "mlp"},
    "random start": {"start": "random"},
    "additive decoder": {"decoder": "additive"},
    "mlp decoder": {"decoder": "mlp"},
    "input log": {"input": "log"},
    "gene_scaling 0": {"gene_scaling": 0.0},
    "gene_scaling 1": {"gene_scaling": 1.0},
    "gaussian, mlp": {"likelihood": "gaussian"},
    "gaussian, linear": _LINEAR,
    "gaussian, additive": {"likelihood": "gaussian", "decoder": "additive"},
    "gaussian, linear, random start": {**_LINEAR, "start": "random"},
    "gaussian, linear, prior N(0, I), random start": {**_LINEAR, "start": "random", "prior": "identity"},
    "recipe: paper": {"recipe": "paper"},
}


def main(arguments: list[str] | None = None) -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, default=DATA, help="folder of the atlases")
    names = ["zeisel2015", "kang2018"]
    made.add_argument("--atlases", nargs="+", default=names, choices=[*ATLASES, GENERATED])
    made.add_argument("--splits", type=int, default=1)
    made.add_argument("--n-factors", type=int, default=15)
    chosen = made.parse_args(arguments)
    quick = {"max_epochs": 2} if chosen.quick else {}
    k = 3 if chosen.quick else chosen.n_factors
    shown = ("default (counts)", "recipe: paper") if chosen.quick else tuple(VARIANTS)
    variants = {variant: VARIANTS[variant] for variant in shown}
    rows = []
    for name in spared(chosen.data, chosen.atlases):
        for split in range(chosen.splits):
            adata = atlas(name, chosen.data, split)
            with one_thread():
                rows += [
                    {"atlas": name, "variant": variant, **_measured(adata, split, k, {**settings, **quick})}
                    for variant, settings in variants.items()
                ]
    write(rows, "ablation", chosen.out)


def _measured(adata: Any, split: int, k: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    done = fit(adata, "sparse_vae", k, seed=split, settings=settings, progress=False)
    found = row(adata, split, k, "sparse_vae", done)

    def fitter(cells: Any) -> Any:
        # another seed for every fit: a start that is random must not agree by its random numbers
        return api_factors(cells, "sparse_vae", k, int(rng.integers(2**31)), settings)

    rng = np.random.default_rng(split)
    return {**found, **agreements(adata, fitter, 2, split)}


if __name__ == "__main__":
    main()
