"""Training images at random scales."""

import dataclasses

import numpy as np
import pytest

from cellcount_jax.data.resampling import Resampling
from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.load import SplitDataset
from cellcount_jax.datasets.random_scale import at_random_scales
from tests.data.disc_images import sample_of


def scaled(samples, **options):
    dataset = SplitDataset("made", "none", 0, samples, False, "0", "made")
    settings = {"factor": 0.5, "jitter": 1.5, "copies": 6, "window": 999}
    return at_random_scales(dataset, seed=0, **{**settings, **options})


def test_copies_of_training_images_differ_in_scale_and_the_others_do_not():
    parts = {"train": [sample_of("a", 20)], "test": [sample_of("b", 20)]}
    found = scaled(parts, cell_diameter=10.0)
    assert found.resampling == Resampling(factor=0.5, trained_diameter=10.0)
    first, *others = (s.image.shape[0] for s in found.splits["train"])
    assert first == 60
    assert len(set(others)) >= 4
    assert all(60 / 1.5 - 1 <= side <= 60 * 1.5 + 1 for side in others)
    assert [s.image.shape[0] for s in found.splits["test"]] == [60]
    again = scaled(parts, cell_diameter=10.0)
    assert [s.image.shape for s in again.splits["train"]] == [
        s.image.shape for s in found.splits["train"]
    ]


def test_each_dot_stays_on_its_cell_and_windows_are_no_longer_than_allowed():
    found = scaled({"train": [sample_of("a", 24)]}, window=40)
    for window in found.splits["train"]:
        assert max(window.image.shape) <= 40
        for y, x in np.rint(window.dots).astype(int):
            assert window.image[y, x, 0] > 70


def test_volumes_stay_whole_and_keep_the_pixel_size_of_the_factor():
    image = np.random.default_rng(0).integers(0, 200, (8, 20, 20, 1)).astype(np.uint8)
    sample = Sample("v", image, np.array([[4.0, 10, 10]], np.float32), spacing=(2.0, 1.0, 1.0))
    found = scaled({"train": [sample]}, factor=(1.0, 0.5, 0.5), copies=3)
    shapes = [s.image.shape[:3] for s in found.splits["train"]]
    assert shapes[0] == (8, 10, 10)
    assert len(set(shapes)) == 3
    for volume in found.splits["train"]:
        assert volume.spacing == pytest.approx((2.0, 2.0, 2.0))
        middle = (np.array(volume.image.shape[:3]) - 1) / 2
        np.testing.assert_allclose(volume.dots[0], middle, atol=1.5)
    without = dataclasses.replace(sample, spacing=None)
    assert scaled({"train": [without]}, factor=0.5).splits["train"][0].spacing is None
