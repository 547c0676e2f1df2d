"""The generated data of Mathieu et al.'s experiments."""

import numpy as np

from latentree.reproduction.dd_data import SHAPE_FACTORS, pinwheel, shapes


def test_arms_of_the_pinwheel_are_apart_and_turn_into_each_other() -> None:
    points, arm = pinwheel(np.random.default_rng(0), n_per_arm=2000)
    assert points.shape == (8000, 2)
    assert points.dtype == np.float32
    centres = np.stack([points[arm == k].mean(axis=0) for k in range(4)])
    assert np.hypot(*centres.T).min() > 0.8
    turned = centres @ np.array([[0, -1], [1, 0]])
    np.testing.assert_allclose(turned, np.roll(centres, -1, axis=0), atol=0.05)
    nearest = ((points[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == arm).mean() > 0.95


def test_shapes_are_all_combinations_and_fill_their_pixels() -> None:
    images, factors = shapes(n_pixels=16, n_scales=2, n_rotations=4, n_places=3)
    assert images.shape == (3 * 2 * 4 * 3 * 3, 256)
    assert factors.shape == (len(images), len(SHAPE_FACTORS))
    assert len(np.unique(factors, axis=0)) == len(factors)
    assert images.min() == 0
    assert images.max() == 1
    area = images.mean(axis=1) * 4
    square, ellipse = ((factors[:, 0] == k) & (factors[:, 1] == 0) for k in (0, 1))
    np.testing.assert_allclose(area[square], (2 * 0.85 * 0.25) ** 2, rtol=0.1)
    np.testing.assert_allclose(area[ellipse], np.pi * 0.5 * 0.25**2, rtol=0.15)
    for column, summed in ((3, 1), (4, 2)):
        profile = images.reshape(-1, 16, 16).sum(axis=summed)
        middle = (profile * np.arange(16)).sum(axis=1) / profile.sum(axis=1)
        assert np.corrcoef(middle, factors[:, column])[0, 1] > 0.98


def test_turned_shapes_are_other_images() -> None:
    images, factors = shapes(n_scales=1, n_rotations=4, n_places=1)
    heart = images[factors[:, 0] == 2]
    assert np.abs(heart[1:] - heart[:1]).sum(axis=1).min() > 2
