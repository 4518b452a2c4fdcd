"""Pixel sizes: shared ones are found; images are resized from one to another, axis by axis."""

import dataclasses
import json

import numpy as np
import pytest

from cellcount_jax.data import pixel_size
from cellcount_jax.data.patches import resize_image, resize_sample
from cellcount_jax.data.preprocess import Preprocessing
from cellcount_jax.data.sample import Sample
from cellcount_jax.inference.readout import to_image_pixels
from cellcount_jax.training.run import preprocessing_of
from configs import density_vgg
from tests.inference.made_counters import made


def sample(spacing, shape=(8, 8)) -> Sample:
    return Sample("a", np.zeros((*shape, 1), np.uint8), None, spacing=spacing)


@pytest.mark.parametrize(
    ("spacings", "shared"),
    [
        ([(0.5, 0.5), (0.5, 0.502)], 0.501),
        ([(0.5, 0.5), None], None),
        ([None], None),
        ([], None),
        ([(0.5, 0.5), (0.25, 0.25)], None),
        ([(2.0, 0.5, 0.5)], (2.0, 0.5, 0.5)),
        ([(2.0, 2.0, 2.0)] * 3, 2.0),
        ([(2.0, 2.0), (2.0, 2.0, 2.0)], None),
        ([(0.0, 0.5)], None),
        ([(float("nan"), 0.5)], None),
    ],
)
def test_the_pixel_size_that_all_images_share(spacings, shared):
    assert pixel_size.common_pixel_size([sample(s) for s in spacings]) == shared


@pytest.mark.parametrize(
    ("spacing", "trained", "scale"),
    [
        ((0.25, 0.25), 0.5, 0.5),
        ((1.0, 1.0), 0.5, 2.0),
        ((3.0, 1.0, 1.0), 0.5, 2.0),
        ((3.0, 1.0, 1.0), (3.0, 0.5, 0.5), (1.0, 2.0, 2.0)),
        ((4.0, 1.0, 1.0), (2.0, 0.5, 0.5), 2.0),
        ((1.0, 1.0), (3.0, 0.5, 0.5), 2.0),
    ],
)
def test_an_image_gets_the_pixel_size_of_the_training(spacing, trained, scale):
    assert pixel_size.scale_between(spacing, trained) == scale


def test_sizes_that_cannot_be_true_are_refused():
    with pytest.raises(ValueError, match=r"a pixel is 352 x 352 um .* at 0.5 um; .*--voxel-size"):
        pixel_size.scale_between((352.0, 352.0), 0.5)


def test_points_in_micrometres():
    points = np.array([[0, 0, 0], [1, 2.5, 4]], np.float32)
    found = pixel_size.points_in_um(points, (2, 0.5, 0.25))
    np.testing.assert_array_equal(found, [[0, 0, 0], [2, 1.25, 1]])
    assert pixel_size.points_in_um(points[:0], (1, 1, 1)).shape == (0, 3)
    with pytest.raises(ValueError, match="do not fit"):
        pixel_size.points_in_um(points, (1, 1))


def test_training_takes_the_size_that_its_images_share():
    config = density_vgg.get_config("tiny")

    class Given:
        splits = {"train": [resize_sample(sample((0.5, 0.5), (40, 60)), (20, 30))]}  # noqa: RUF012

    assert preprocessing_of(config, Given).pixel_size == 1.0
    Given.splits["train"].append(sample(None))
    assert preprocessing_of(config, Given).pixel_size is None
    config.preprocessing.pixel_size = 0.7
    assert preprocessing_of(config, Given).pixel_size == 0.7


def test_settings_with_a_size_per_axis_survive_json():
    setting = Preprocessing(channels=1, pixel_size=(3, 1, 1))
    assert Preprocessing.from_dict(json.loads(json.dumps(setting.to_dict()))) == setting
    with pytest.raises(ValueError, match="greater than 0"):
        Preprocessing(pixel_size=(3, 0, 1))


def test_a_volume_is_counted_at_the_voxel_size_of_the_training():
    """A volume with voxels twice as high counts as the same volume enlarged by hand."""
    counter = made("consistency_3d")
    setting = dataclasses.replace(counter.preprocessing, pixel_size=(2.0, 1.0, 1.0))
    counter = dataclasses.replace(counter, preprocessing=setting)
    volume = np.random.default_rng(0).integers(0, 255, (9, 16, 16, 1)).astype(np.uint8)
    found = counter.count(volume, spacing=(4.0, 1.0, 1.0))
    assert found.scale == (2.0, 1.0, 1.0)
    enlarged = counter.count(resize_image(volume, (2.0, 1.0, 1.0)))
    assert found.maps["inverse_distance"].shape == (18, 16, 16)
    assert found.count == enlarged.count
    assert found.points is not None
    np.testing.assert_allclose(found.points, to_image_pixels(enlarged.points, (2.0, 1.0, 1.0)))
