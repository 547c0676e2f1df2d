"""Kim and Mnih's disentanglement score: does fixing one true factor still one latent?"""

import numpy as np
from scipy import stats


def kim_mnih(
    latents: np.ndarray,
    factors: np.ndarray,
    rng: np.random.Generator,
    n_votes: int = 20_000,
    n_items: int = 1000,
    kl: np.ndarray | None = None,
    kl_threshold: float = 0.01,
    min_sd: float = 0.05,
) -> float:
    """Share of votes that name a true factor rightly, in (0, 1]; 1 / n_factors or somewhat more by chance.

    A vote: draw a true factor and one of its values, take up to ``n_items`` items with that value, and find
    the latent that varies least among them in units of its standard deviation over all items. Every latent
    then stands for the factor it was found for most often, and the score is the share of votes for which that
    is right (Kim and Mnih 2018, Section 4; as in Mathieu et al. 2019, whose code judges the same votes that
    it learns from). A latent that the model does not use, divided by its tiny standard deviation, would
    compete in every vote, so dead ones are left out.

    Parameters
    ----------
    latents
        Posterior means, shape (n_items_in_all, n_latents). Of a model with a heavy-tailed prior one may give
        :func:`student_t_to_gaussian` of them too.
    factors
        True factors of the same items, discrete, shape (n_items_in_all, n_factors). One that has one value
        only is not asked for.
    rng
        Draws factors, values and items.
    n_votes
        Votes; Mathieu et al.'s code takes 20,000.
    n_items
        Items of a vote, drawn without replacement; all where there are fewer.
    kl
        Mean over items of each latent's KL divergence to its prior, nats, shape (n_latents,). A latent is
        dead where it is ``kl_threshold`` or below. None: only the standard deviation decides.
    kl_threshold
        Nats.
    min_sd
        A latent is dead where the standard deviation of its posterior mean is this or below, in the latents'
        units: the prior's standard deviation is taken to be about 1.

    Returns
    -------
    0 where no latent is alive, nan where no factor varies.
    """
    z, truth = np.asarray(latents, dtype=np.float64), np.asarray(factors)
    if z.ndim != 2 or truth.ndim != 2 or len(z) != len(truth):
        raise ValueError(f"latents and factors of the same items are needed, not {z.shape}, {truth.shape}")
    sd = z.std(axis=0)
    alive = sd > min_sd
    if kl is not None:
        alive &= np.asarray(kl) > kl_threshold
    varying = np.flatnonzero((truth != truth[:1]).any(axis=0))
    if len(varying) == 0:
        return float("nan")
    if not alive.any():
        return 0.0
    z = z[:, alive] / sd[alive]
    votes = np.zeros((z.shape[1], len(varying)), dtype=np.int64)
    for k, n_of_factor in enumerate(rng.multinomial(n_votes, np.full(len(varying), 1 / len(varying)))):
        column = truth[:, varying[k]]
        values = np.unique(column)
        drawn = rng.multinomial(n_of_factor, np.full(len(values), 1 / len(values)))
        for value, n_of_value in zip(values, drawn, strict=True):
            votes[:, k] += _count_votes(z[column == value], int(n_of_value), n_items, rng)
    return float(votes.max(axis=1).sum() / n_votes)


def _count_votes(z: np.ndarray, n_votes: int, n_items: int, rng: np.random.Generator) -> np.ndarray:
    """How often each latent varies least among items with one value, shape (n_latents,)."""
    counts = np.zeros(z.shape[1], dtype=np.int64)
    if len(z) <= n_items:
        # every vote takes the same items
        counts[z.var(axis=0).argmin()] = n_votes
        return counts
    for _ in range(n_votes):
        counts[z[rng.choice(len(z), n_items, replace=False)].var(axis=0).argmin()] += 1
    return counts


def student_t_to_gaussian(latents: np.ndarray, df: float) -> np.ndarray:
    """The monotone map that makes a Student-t variable a standard Gaussian one.

    The score measures variances, which a heavy-tailed prior's few large values decide; Mathieu et al. (2019)
    therefore score such models on the mapped latents too.

    Parameters
    ----------
    latents
        Any shape.
    df
        Degrees of freedom of the prior.
    """
    z = np.asarray(latents, dtype=np.float64)
    # from the nearer tail, where probabilities keep their digits
    return np.sign(z) * stats.norm.isf(stats.t.sf(np.abs(z), df))
