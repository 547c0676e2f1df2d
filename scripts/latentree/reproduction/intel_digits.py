"""Miao et al. 2022, Tables 2 and 3, on scikit-learn's bundled 8 x 8 digits 0 and 1 instead of MNIST's."""

import math
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from latentree.fitted import Fit
from latentree.reproduction.held_out import (
    cells_of,
    fit_on_cpu,
)
from latentree.reproduction.intel_cells import sector_of

N_NEW = 2000
SURE = 0.8
"""Confidence of the classifier below which an image is uncertain."""
UNCERTAIN, ONES, ZEROS, LEARNED = (
    "uncertain samples, %",
    "ones among samples, %",
    "zeros among samples",
    "learned share of zeros",
)
TRUE_SHARES = (0.5, 0.4, 0.25, 0.2, 0.0)
SETTINGS: dict[str, Any] = {
    "likelihood": "bernoulli",
    "gene_scaling": 0.0,
    "hidden": 64,
    "dropout": 0.0,
    "kl_warmup": 0.3,
    "batch_size": 50,
    "max_epochs": 150,
    "patience": None,
}
CLUSTERS = {"mapping": "clusters", "n_clusters": 2}


def zeros_and_ones() -> tuple[np.ndarray, np.ndarray]:
    """Pixels (360, 64) float32 from 0 to 1, and digits (360,)."""
    pixels, digits = load_digits(n_class=2, return_X_y=True)
    return (pixels / 16).astype(np.float32), digits


def with_share_of_zeros(share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """As many zeros and ones as there are, less those that the share forbids."""
    pixels, digits = zeros_and_ones()
    ones, zeros = (rng.permutation(np.flatnonzero(digits == digit)) for digit in (1, 0))
    # at most as many zeros as there are; ones make up the rest
    n_zeros = min(len(zeros), math.floor(share / (1 - share) * len(ones)))
    rows = np.concatenate([zeros[:n_zeros], ones])
    return pixels[rows], digits[rows]


def sample_scores(seed: int, *, quick: bool) -> dict[str, dict[str, float]]:
    """Table 2's protocol with one latent: uncertain images and ones among new ones, by model."""
    pixels, digits = with_share_of_zeros(0.5, np.random.default_rng(seed))
    classifier = LogisticRegression(max_iter=1000).fit(pixels, digits)
    scores = {"data": judged(classifier, pixels)}
    for model, settings in {"vae": {}, "intel_vae": {**CLUSTERS, "learn_proportions": False}}.items():
        done = _fitted(pixels, model, settings, seed, quick=quick)
        scores[model] = judged(classifier, _new(done, seed))
    return scores


def share_scores(share: float, seed: int, *, quick: bool) -> dict[str, float]:
    """Table 3's protocol: the share of zeros that InteL-VAE with one latent learns."""
    pixels, digits = with_share_of_zeros(share, np.random.default_rng(seed))
    classifier = LogisticRegression(max_iter=1000).fit(*zeros_and_ones())
    done = _fitted(pixels, "intel_vae", CLUSTERS, seed, quick=quick)
    model: Any = done.model
    shares = np.array(model.facts()["cluster_shares"][0])
    zeros = digits == 0
    # the sector that holds most zeros; of ones alone, the smaller one should be empty
    sector = (
        np.bincount(sector_of(model, pixels[zeros]), minlength=2).argmax() if zeros.any() else shares.argmin()
    )
    return {LEARNED: float(shares[sector]), ZEROS: 1 - judged(classifier, _new(done, seed))[ONES] / 100}


def judged(classifier: LogisticRegression, images: np.ndarray) -> dict[str, float]:
    """What a classifier of real digits says about images (n_images, 64)."""
    one = classifier.predict_proba(images)[:, 1]
    sure = np.maximum(one, 1 - one) >= SURE
    return {UNCERTAIN: 100 * float((~sure).mean()), ONES: 100 * float((one > 0.5).mean())}


def _fitted(pixels: np.ndarray, model: str, settings: dict[str, Any], seed: int, *, quick: bool) -> Fit:
    epochs = {"max_epochs": 2} if quick else {}
    cells = cells_of(pixels, np.full(len(pixels), "train"))
    return fit_on_cpu(cells, model, 1, seed, {**SETTINGS, **settings, **epochs})


def _new(done: Fit, seed: int) -> np.ndarray:
    """New images (n, 64): the decoder's means, as the paper shows them."""
    model: Any = done.model
    return model.generate(N_NEW, seed)
