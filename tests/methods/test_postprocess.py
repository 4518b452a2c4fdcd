"""Averaged and sharpened maps: identities, and what they are for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cellcount_jax.inference.detect import find_points
from cellcount_jax.methods.postprocess import unsharp_peaks, with_test_time_augmentation


@pytest.mark.parametrize("space", [(6, 6), (6, 8), (4, 6, 6)])
def test_test_time_augmentation_turns_with_the_image(space):
    kernel = jax.random.normal(jax.random.key(0), (3,) * len(space))

    def lopsided(images):
        return jax.vmap(lambda x: jax.scipy.signal.convolve(x[..., 0], kernel, mode="same"))(images)

    images = jax.random.normal(jax.random.key(1), (2, *space, 1))
    found = with_test_time_augmentation(lopsided, images)
    assert not np.allclose(found, lopsided(images), atol=1e-3)
    for axis in range(1, len(space) + 1):
        flipped = with_test_time_augmentation(lopsided, jnp.flip(images, axis))
        np.testing.assert_allclose(flipped, jnp.flip(found, axis), atol=1e-4)
    if space[-1] == space[-2]:
        swapped = with_test_time_augmentation(lopsided, jnp.swapaxes(images, -2, -3))
        np.testing.assert_allclose(swapped, jnp.swapaxes(found, -1, -2), atol=1e-4)


def test_a_map_without_direction_is_its_own_mean():
    images = jax.random.normal(jax.random.key(0), (2, 5, 7, 1))
    found = with_test_time_augmentation(lambda x: x[..., 0] ** 2, images)
    np.testing.assert_allclose(found, images[..., 0] ** 2, rtol=1e-5)


def test_the_blur_is_scipys():
    map = np.abs(np.random.default_rng(0).normal(size=(9, 12, 10))).astype(np.float32)
    blurred = ndimage.gaussian_filter(map, (0.5, 1.0, 0.75), mode="nearest", truncate=4)
    expected = np.maximum(map - blurred, 0) * map
    found = unsharp_peaks(jnp.asarray(map)[None], sigma=(0.5, 1.0, 0.75))[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_two_cells_on_one_ridge_are_told_apart():
    at = np.arange(21) - 10
    cells = [np.exp(-((at - c) ** 2) / 4.5) for c in (-1.5, 1.5)]
    map = np.outer(np.exp(-(at**2) / 4.5), np.sum(cells, axis=0)).astype(np.float32)
    assert len(find_points(map, decoder="peaks", threshold=0.3)[0]) == 1
    sharp = np.asarray(unsharp_peaks(jnp.asarray(map)[None], sigma=(1.0, 1.0))[0])
    points, _ = find_points(sharp, decoder="peaks", threshold=0.3)
    np.testing.assert_array_equal(points, [[10, 9], [10, 11]])


def test_flat_ground_gives_nothing():
    assert not np.any(unsharp_peaks(jnp.full((1, 6, 6), 0.3), sigma=(1.0, 1.0)) > 1e-6)
