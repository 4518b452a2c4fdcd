"""Resizing: as Pillow does it, with dots that stay on their cells."""

import numpy as np
import pytest
from PIL import Image

from cellcount_jax.data.resize import reflected_indices, resize_array, resize_image, resize_sample
from cellcount_jax.data.sample import Sample
from tests.data.test_patches import sample_of


@pytest.mark.parametrize("side", [20, 64, 100])
def test_dots_stay_on_their_blobs(side):
    y, x = np.mgrid[:40, :40]
    image = np.exp(-((y - 13.0) ** 2 + (x - 25.0) ** 2) / 18)[..., None].astype(np.float32)
    resized = resize_sample(Sample("p", image, np.array([[13, 25]], np.float32)), (side, side))
    weight = resized.image[..., 0] / resized.image.sum()
    centre = [(weight * g).sum() for g in np.mgrid[:side, :side]]
    np.testing.assert_allclose(resized.dots[0], centre, atol=0.02)
    np.testing.assert_allclose(resized.dots[0], (np.array([13, 25]) + 0.5) * side / 40 - 0.5)


@pytest.mark.parametrize("shape", [(17, 50), (60, 90), (40, 33)])
def test_resizing_agrees_with_pillow(shape):
    image = sample_of(40, 60).image
    expected = Image.fromarray(image).resize(shape[::-1], Image.Resampling.BILINEAR)
    difference = resize_array(image, shape).astype(int) - np.asarray(expected, int)
    assert abs(difference).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_flat_image_stays_flat(dtype):
    image = np.full((7, 9, 5, 2), 200, dtype)
    resized = resize_array(image, (13, 4, 5))
    assert resized.shape == (13, 4, 5, 2)
    assert resized.dtype == dtype
    np.testing.assert_allclose(resized, 200, rtol=1e-6)


def test_resize_image():
    image = sample_of(10, 15).image
    assert resize_image(image, 1.0) is image
    assert resize_image(image, 0.5).shape == (5, 8, 3)
    assert resize_image(image, 0.01).shape == (1, 1, 3)


@pytest.mark.parametrize("n", [1, 3, 7])
def test_reflected_indices_are_symmetric_padding(n):
    whole = np.pad(np.arange(n), (0, 15), mode="symmetric")
    for start in range(len(whole) - 4):
        np.testing.assert_array_equal(reflected_indices(n, start, 4), whole[start : start + 4])
