"""Layne et al. 2024, section 4 and appendix A.6: the simulation study of tree-based regularisation."""

from pathlib import Path
from typing import Any

import pandas as pd

from latentree.reproduction.records import Measurement, Outcome, Row, Scale
from latentree.reproduction.rows import RowMaker
from latentree.reproduction.sources import TBR_PAPER
from latentree.reproduction.tbr_drawing import draw_curves
from latentree.reproduction.tbr_few_shot import N_HELD_OUT, few_shot_rows, run_few_shot
from latentree.reproduction.tbr_fits import FIRST_SEED, FULL_CELLS, N_CELLS, draw_cells, marks, scored
from latentree.reproduction.tbr_grid import PARTS, Fits, model_name
from latentree.reproduction.tbr_rows import claims, values

NAME = "tbr"
FEW_SHOT = "few_shot"
PROTOCOL = f"""\
Balanced binary trees, 20 inputs from N(0, I), latents by a random network of two hidden layers of 32 (a
random linear map in "linear") plus noise of .1 sd, y = w.z plus noise of .1; effects of the root and changes
from N(0, 1). The copy of the paper at hand has lost its numbers: five latents, the sizes of the map and of
the noise are ours, and values of the paper are known only where a table survived. k effects change on every
branch, or each with probability p. "all nodes": depth 7, cells in all 254 nodes but the root; "leaves": depth
8, cells in the 256 leaves only. Every data set has {N_CELLS:,} cells, 600 for each of 254 environments and
more where there are fewer, where the paper has 3,000 each ({FULL_CELLS:,}; "full size"). Half of the cells
are for training, a quarter is for the choice of sparsity, a quarter is scored. Network of 256 and 64 as in
the paper, no intercepts, 1,300 steps of 1,024 cells for `joint` (the paper's objective) and `two_stage`
(ours, which stands for TBR where `joint` is not fitted), 500 for `baseline` (one vector for all); "full
size" has the library's own numbers of steps. 10 data sets (`joint`: 5) by k, 3 in other settings, in "full
size" and for the number of latents. Noise on the latents caps MCC at .995. Chance: MCC of the true latents
under a random rotation; an MCC below its 95th percentile shows no disentanglement, however far above the
baseline's it is. "mse / noise": squared error of y over that of the best prediction from the inputs. ATE
error: in 10 environments, of the absolute coefficients of standardised latents. Held-out leaves:
{N_HELD_OUT} leaves without any cell in the fit; their weights are those of the nearest environment plus a
lasso on the change, from a few cells; "unrotated": the same network's latents before `two_stage`'s rotation,
"randomly turned": under a random one. Without cells of the leaf all three predict the same."""


def run(part: str, scale: Scale) -> Outcome:
    """One part of the grid; all numbers but the CPU seconds are the same every time."""
    measured: list[Measurement] = []
    shown: list[dict[str, Any]] = []
    if part == FEW_SHOT:
        measured, shown = run_few_shot(NAME, scale)
    for fits in PARTS.get(part, ()):
        of_setting, of_picture = _run_setting(fits, scale)
        measured += of_setting
        shown += of_picture
    return Outcome(measured, pd.DataFrame(shown))


def _run_setting(fits: Fits, scale: Scale) -> tuple[list[Measurement], list[dict[str, Any]]]:
    """Every estimator on the same data sets."""
    measured: list[Measurement] = []
    shown: list[dict[str, Any]] = []
    setting = fits.setting
    most = 1 if scale.quick else max(fits.repetitions.values())
    for repetition in range(most):
        seed = FIRST_SEED + repetition
        cells = draw_cells(setting, seed, scale)
        for estimator, repetitions in fits.repetitions.items():
            if repetition >= repetitions:
                continue
            for n_latents in fits.n_latents:
                scores = scored(cells, estimator, seed, scale, n_latents, setting.full)
                model = model_name(estimator, n_latents)
                measured += [
                    Measurement(NAME, setting.name, model, metric, seed, value)
                    for metric, value in scores.items()
                ]
                shown += marks(setting, n_latents, estimator, seed, scores)
    return measured, shown


def summarise(measurements: pd.DataFrame) -> list[Row]:
    """The paper's claims, then MCC of every setting with its other scores."""
    make = RowMaker(TBR_PAPER, NAME, measurements)
    return [*claims(make), *few_shot_rows(make), *values(make)]


def draw(samples: pd.DataFrame, path: Path) -> None:
    """Curves as in the paper's figures, with the chance level of MCC."""
    draw_curves(samples, path)
