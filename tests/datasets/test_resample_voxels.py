"""Volumes brought to one voxel size: what is in them stays where it was."""

import numpy as np
import pytest

from cellcount_jax.data.pixel_size import common_pixel_size
from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.load import SplitDataset
from cellcount_jax.datasets.resample_voxels import with_voxel_size


def source(*shapes, spacing=(2.0, 0.5, 0.5)):
    made = []
    for i, shape in enumerate(shapes):
        labels = np.zeros(shape, np.int32)
        labels[2:4, 4:8, 6:10] = 1
        image = (labels[..., None] * 100).astype(np.uint16)
        dots = np.array([[2.5, 5.5, 7.5]], np.float32)
        made.append(Sample(f"v{i}", image, dots, spacing=spacing, labels=labels))
    return SplitDataset("made", "p", 0, {"train": made[:1], "test": made[1:]}, False, "", "")


def test_dots_and_masks_go_with_the_volume():
    resized = with_voxel_size(source((6, 16, 20), (6, 17, 21)), (2.0, 1.0, 1.0))
    (train,), (test,) = resized.splits["train"], resized.splits["test"]
    assert train.image.shape == (6, 8, 10, 1)
    np.testing.assert_allclose(train.dots, [[2.5, 2.5, 3.5]])
    assert set(zip(*np.nonzero(train.labels), strict=True)) == {
        (z, y, x) for z in (2, 3) for y in (2, 3) for x in (3, 4)
    }
    # Odd sides are rounded, but all volumes have the one size that the counter records.
    assert common_pixel_size([train, test]) == (2.0, 1.0, 1.0)


def test_a_volume_without_its_voxel_size_is_told():
    with pytest.raises(ValueError, match="v0: its voxel size is not known"):
        with_voxel_size(source((6, 16, 20), spacing=None), (2.0, 1.0, 1.0))
