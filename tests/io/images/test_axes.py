"""The voxel size that a user gives, in place of that of the file."""

import numpy as np
import pytest

from cellcount_jax.io.images.axes import chosen_spacing
from cellcount_jax.io.images.image import Image


@pytest.mark.parametrize("given", [(2.0, 0.5), (0.0, 1.0, 1.0), (float("nan"), 1.0, 1.0)])
def test_a_voxel_size_that_cannot_be_is_refused(given):
    volume = Image(np.zeros((4, 5, 6, 1), np.uint8))
    with pytest.raises(ValueError, match="voxel size"):
        chosen_spacing(volume, given)


def test_a_given_voxel_size_takes_the_place_of_that_of_the_file():
    volume = Image(np.zeros((4, 5, 6, 1), np.uint8), (3.0, 1.0, 1.0))
    assert chosen_spacing(volume, None) == (3.0, 1.0, 1.0)
    assert chosen_spacing(volume, (2, 0.5, 0.4)) == (2.0, 0.5, 0.4)
    plane = Image(np.zeros((5, 6, 1), np.uint8))
    assert chosen_spacing(plane, (2, 0.5, 0.4)) == (0.5, 0.4)
