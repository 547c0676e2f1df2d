"""Data of Mathieu et al.'s experiments (2019, section 6): pinwheels, and drawn shapes instead of dSprites."""

from itertools import product

import numpy as np

SHAPE_FACTORS = ("shape", "scale", "rotation", "x", "y")
"""True factors of :func:`shapes`, columns of its second result."""

# points per pixel's side whose share inside the shape is the pixel's value
_FINE = 4


def pinwheel(
    rng: np.random.Generator, n_arms: int = 4, n_per_arm: int = 100
) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 2) float32 on the bent arms of a wheel and the arm of each, (n,) (Johnson et al. 2016).

    Standard deviations .1 along and .3 across the radius, angles bent by .25 * exp(radius), as in the code of
    Mathieu et al.
    """
    arm = np.repeat(np.arange(n_arms), n_per_arm)
    along = 1 + 0.1 * rng.standard_normal(len(arm))
    across = 0.3 * rng.standard_normal(len(arm))
    angle = 2 * np.pi * arm / n_arms + 0.25 * np.exp(along)
    x = along * np.cos(angle) + across * np.sin(angle)
    y = across * np.cos(angle) - along * np.sin(angle)
    return np.stack([x, y], axis=1).astype(np.float32), arm


def shapes(
    n_pixels: int = 16, n_scales: int = 3, n_rotations: int = 8, n_places: int = 6
) -> tuple[np.ndarray, np.ndarray]:
    """Images of a square, an ellipse and a heart, one for every combination of the factors.

    As dSprites (Matthey et al. 2017), with fewer and smaller images.

    Returns
    -------
    Pixels (n_images, n_pixels ** 2) float32 from 0 to 1, the share of each that is covered, and the factors
    (n_images, 5) int64, each counted from 0.
    """
    fine = n_pixels * _FINE
    ticks = ((np.arange(fine) + 0.5) / fine * 2 - 1).astype(np.float32)
    across, down = np.meshgrid(ticks, ticks)
    places = np.linspace(-0.45, 0.45, n_places)
    sizes = np.linspace(0.25, 0.45, n_scales)
    factors = np.array(
        list(product(range(3), range(n_scales), range(n_rotations), range(n_places), range(n_places)))
    )
    images = np.empty((len(factors), n_pixels**2), np.float32)
    for image, (shape, scale, rotation, x, y) in zip(images, factors, strict=True):
        u, v = (across - places[x]) / sizes[scale], (down - places[y]) / sizes[scale]
        angle = 2 * np.pi * rotation / n_rotations
        u, v = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
        blocks = _inside(shape, u, v).reshape(n_pixels, _FINE, n_pixels, _FINE)
        image[:] = blocks.mean(axis=(1, 3)).ravel()
    return images, factors


def _inside(shape: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Which points belong to the shape, whose size is about 1."""
    if shape == 0:
        return np.maximum(np.abs(u), np.abs(v)) < 0.85
    if shape == 1:
        return u**2 + (v / 0.5) ** 2 < 1
    return (u**2 + v**2 - 0.75) ** 3 < u**2 * v**3
