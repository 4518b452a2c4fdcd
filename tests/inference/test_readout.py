"""Points of a map in pixels of the image before it was resized."""

import numpy as np
import pytest

from cellcount_jax.inference.readout import to_image_pixels


@pytest.mark.parametrize(
    ("points", "scale", "expected"),
    [
        # Pixel 3 becomes pixels 6 and 7: its centre lies between them.
        ([[6.5, 6.5], [-0.5, 0.5]], 2.0, [[3.0, 3.0], [-0.5, 0.0]]),
        # Pixels 6 and 7 become pixel 3: its centre is the border between them.
        ([[3.0, 0.0]], 0.5, [[6.5, 0.5]]),
        ([[1.0, 6.5, 3.0]], (1.0, 2.0, 0.5), [[1.0, 3.0, 6.5]]),
        ([[2.25, 7.0]], 1.0, [[2.25, 7.0]]),
    ],
)
def test_centres_of_pixels_stay_centres(points, scale, expected):
    np.testing.assert_allclose(to_image_pixels(np.array(points, np.float32), scale), expected)
