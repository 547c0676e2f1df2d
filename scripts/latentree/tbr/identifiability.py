"""Whether the environments of a fit can tell its latents apart: what users should read before the result."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from latentree.metrics.mcc import mcc_chance

RANK_SHARE = 0.03
"""A singular value of the weights counts above this share of the largest."""
# environments that simulations took to tell up to five latents apart, by the changes on a branch
_ENVIRONMENTS_NEEDED = {1: 32, 2: 64}
_ENVIRONMENTS_FOR_MORE = 256
_LATENTS_SIMULATED = 5


@dataclass(frozen=True)
class Identifiability:
    """What speaks for and against the latents of one fit.

    Parameters
    ----------
    table
        Columns quantity, value, note; a row each.
    warnings
        Why the latents may be any mixture of the true ones; empty where nothing speaks against them.
    """

    table: pd.DataFrame
    warnings: tuple[str, ...]


def weights_rank(singular_values: np.ndarray) -> int:
    """Number of singular values above 3% of the largest."""
    return int((singular_values > RANK_SHARE * singular_values[0]).sum())


def environments_needed(n_latents: int, changes_per_branch: float) -> int:
    """Rule of thumb from simulations of up to five latents (docs/tbr.md), in proportion for more."""
    needed = _ENVIRONMENTS_NEEDED.get(max(1, round(changes_per_branch)), _ENVIRONMENTS_FOR_MORE)
    return int(np.ceil(needed * max(1.0, n_latents / _LATENTS_SIMULATED)))


def identifiability(
    singular_values: np.ndarray, changes: np.ndarray, cells_of_environment: np.ndarray, *, baseline: bool
) -> Identifiability:
    """Judge a fit.

    Parameters
    ----------
    singular_values
        Of the weights in units of the latents' sds; as many as latents, or as environments where these
        are fewer.
    changes
        (n_branches, n_latents): the changes found.
    cells_of_environment
        (n_environments,): training cells.
    baseline
        Whether the weights are the same everywhere by design.
    """
    n_latents, n_environments = changes.shape[1], len(cells_of_environment)
    rank = weights_rank(singular_values)
    changed = changes != 0
    per_branch = changed.sum(axis=1)
    mean_changes = float(per_branch[per_branch > 0].mean()) if changed.any() else 0.0
    # Proposition 3.7 asks for branches that change one effect only, at least one for each latent
    alone = changed[per_branch == 1].any(axis=0)
    needed = environments_needed(n_latents, mean_changes)
    chance, chance_95 = mcc_chance(n_latents)
    few = int((cells_of_environment <= n_latents).sum())
    rows: list[tuple[str, float, str]] = [
        ("n_latents", n_latents, ""),
        ("weights_rank", rank, "singular values of the weights above 3% of the largest; should be n_latents"),
        (
            "n_environments",
            n_environments,
            "with training cells; Proposition 3.4 asks for n_latents at least",
        ),
        ("n_environments_needed", needed, "rule of thumb from simulations, for so many changes per branch"),
        ("changes_per_branch", mean_changes, "mean over branches with any; above 1 there is no guarantee"),
        ("latents_changed_alone", int(alone.sum()), "Proposition 3.7 asks for n_latents"),
        ("mcc_chance", chance, "mean MCC of a random rotation of the true latents"),
        ("mcc_chance_95", chance_95, "its 95th percentile"),
        ("n_small_environments", few, "environments with no more training cells than latents"),
    ]
    rows += [
        (f"singular_value_{i + 1}", float(value), "of the weights") for i, value in enumerate(singular_values)
    ]
    table = pd.DataFrame(rows, columns=["quantity", "value", "note"])
    if baseline:
        said = ["baseline: the weights are the same everywhere, so latents are never told apart"]
        return Identifiability(table, tuple(said if n_latents > 1 else ()))
    said = _warnings(n_latents, rank, n_environments, needed, mean_changes, int(alone.sum()), few)
    return Identifiability(table, tuple(said))


def _warnings(
    n_latents: int,
    rank: int,
    n_environments: int,
    needed: int,
    mean_changes: float,
    n_alone: int,
    few: int,
) -> list[str]:
    if n_latents == 1:
        # one latent is never mixed with another
        return []
    said = []
    if n_environments < n_latents:
        said.append(f"{n_environments} environments cannot tell {n_latents} latents apart: ask for fewer")
    if mean_changes == 0:
        said.append("no effect changes on any branch: the latents may be any mixture of the true ones")
    elif rank < n_latents:
        said.append(
            f"the weights have rank {rank}, below {n_latents} latents: the latents may be any mixture of the"
            f" true ones; try n_latents {rank}"
        )
    if n_latents <= n_environments < needed:
        said.append(
            f"{n_environments} environments; in simulations it took about {needed} to tell {n_latents}"
            " latents apart"
        )
    if mean_changes > 0 and n_alone < n_latents:
        said.append(
            f"{n_alone} of {n_latents} latents change alone on some branch; only those are guaranteed to be"
            " found"
        )
    if few:
        said.append(
            f"{few} environment(s) have no more training cells than latents: their weights lean on neighbours"
        )
    return said
