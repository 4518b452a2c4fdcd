"""Resampling: one record resizes samples for training and new images for prediction alike."""

import dataclasses
import json

import numpy as np
import pytest

from cellcount_jax.data.resampling import Resampling, common_pixel_size, scale_between
from cellcount_jax.data.resize import resize_image
from cellcount_jax.data.sample import Sample
from cellcount_jax.inference.readout import to_image_pixels
from tests.data.disc_images import sample_of
from tests.inference.made_counters import made


def sample(spacing, shape=(8, 8)) -> Sample:
    return Sample("a", np.zeros((*shape, 1), np.uint8), None, spacing=spacing)


def volume(name, shape, spacing=(2.0, 0.5, 0.5)) -> Sample:
    """A cell of 2 x 4 x 4 voxels with its dot and mask."""
    labels = np.zeros(shape, np.int32)
    labels[2:4, 4:8, 6:10] = 1
    image = (labels[..., None] * 100).astype(np.uint16)
    dots = np.array([[2.5, 5.5, 7.5]], np.float32)
    return Sample(name, image, dots, spacing=spacing, labels=labels)


@pytest.mark.parametrize(
    ("spacings", "shared"),
    [
        ([(0.5, 0.5), (0.5, 0.502)], 0.501),
        ([(0.5, 0.5), None], None),
        ([None], None),
        ([], None),
        ([(0.5, 0.5), (0.25, 0.25)], None),
        ([(2.0, 0.5, 0.5)], (2.0, 0.5, 0.5)),
        ([(2.0, 2.0, 2.0)] * 3, (2.0, 2.0, 2.0)),
        ([(2.0, 2.0), (2.0, 2.0, 2.0)], None),
        ([(0.0, 0.5)], None),
        ([(float("nan"), 0.5)], None),
    ],
)
def test_the_pixel_size_that_all_images_share(spacings, shared):
    assert common_pixel_size([sample(s) for s in spacings]) == shared


@pytest.mark.parametrize(
    ("spacing", "pixel_size", "scale"),
    [
        ((0.25, 0.25), 0.5, 0.5),
        ((1.0, 1.0), 0.5, 2.0),
        ((3.0, 1.0, 1.0), 0.5, 2.0),
        ((3.0, 1.0, 1.0), (3.0, 0.5, 0.5), (1.0, 2.0, 2.0)),
        ((4.0, 1.0, 1.0), (2.0, 0.5, 0.5), 2.0),
        ((4.0, 1.0, 1.0), (2.0, 2.0, 2.0), (2.0, 0.5, 0.5)),
        ((1.0, 1.0), (3.0, 0.5, 0.5), 2.0),
    ],
)
def test_an_image_gets_the_pixel_size_of_the_training(spacing, pixel_size, scale):
    assert scale_between(spacing, pixel_size) == scale
    image = np.zeros((4,) * len(spacing) + (1,), np.uint8)
    resampling = Resampling(factor=3.0, pixel_size=pixel_size, cell_diameter=14.0)
    assert resampling.scale_for(image, spacing) == scale


def test_implausible_pixel_sizes_are_refused():
    with pytest.raises(ValueError, match=r"a pixel is 352 x 352 um .* at 0.5 um; .*--voxel-size"):
        scale_between((352.0, 352.0), 0.5)


@pytest.mark.parametrize(
    ("rule", "shape", "scale"),
    [
        (None, (70, 90), 1.0),
        ({"tile": 300, "resize": 256}, (600, 600), 256 / 300),
        ({"resize": 256}, (600, 800), (256 / 600, 256 / 800)),
        ({"resize": 256}, (128, 128), 2.0),
        ({"pad_square": True, "resize_to_multiple": 256, "tile": 256}, (300, 400), 512 / 400),
        (
            {"resize_to_multiple": 100, "tile": 100, "resize": 50},
            (110, 190),
            (100 / 110 / 2, 200 / 190 / 2),
        ),
    ],
)
@pytest.mark.parametrize("factor", [1.0, 0.75])
def test_new_images_are_resized_as_patches_were(rule, shape, scale, factor):
    resampling = Resampling(factor=factor, patches=rule)
    found = resampling.scale_for(np.zeros((*shape, 1)))
    expected = np.multiply(factor, scale)
    assert found == (tuple(expected.tolist()) if expected.ndim else expected)


@pytest.mark.parametrize("rule", [{"resize": 24}, {"resize_to_multiple": 32}])
def test_a_whole_image_gets_the_size_of_its_training_sample(rule):
    given, resampling = sample_of("a", 10), Resampling(patches=rule)
    (trained,) = resampling.apply(given)
    predicted = resize_image(given.image, resampling.scale_for(given.image))
    np.testing.assert_array_equal(predicted, trained.image)


def test_a_factor_per_axis_is_kept():
    resampling = Resampling(factor=(1.0, 0.5, 0.25), patches={"tile": 30, "resize": 60})
    assert resampling.scale_for(np.zeros((4, 40, 40, 1))) == (2.0, 1.0, 0.5)


def test_samples_are_resized_by_the_factor_or_cut():
    given = sample_of("a", 10)
    (same,) = Resampling().apply(given)
    assert same is given
    (half,) = Resampling(factor=0.5).apply(given)
    assert half.image.shape == (60, 75, 1)
    np.testing.assert_allclose(half.dots, (given.dots + 0.5) / 2 - 0.5, atol=1e-4)
    patches = Resampling(patches={"tile": 30, "resize": 20}).apply(given)
    assert len(patches) == 20
    assert {p.image.shape for p in patches} == {(20, 20, 1)}
    assert sum(p.count for p in patches) == given.count


def test_samples_and_new_images_get_the_same_cell_diameter():
    given, resampling = sample_of("a", 28), Resampling(cell_diameter=14.0)
    (resized,) = resampling.apply(given)
    scale = resampling.scale_for(given.image)
    assert scale == pytest.approx(0.5, rel=0.3)
    np.testing.assert_array_equal(resized.image, resize_image(given.image, scale))


def test_a_known_diameter_replaces_the_estimate():
    image = sample_of("a", 28).image
    resampling = Resampling(cell_diameter=14.0)
    assert resampling.with_cell_diameter(7.0).scale_for(image) == 2.0
    with pytest.raises(ValueError, match="diameter -1"):
        resampling.with_cell_diameter(-1.0)
    with pytest.raises(ValueError, match="not trained on cells of one size"):
        Resampling(factor=0.5).with_cell_diameter(7.0)


def test_a_given_diameter_is_resized_to_that_of_the_training_cells():
    image, volume = np.zeros((40, 50, 1)), np.zeros((10, 40, 50, 1))
    plain = Resampling(factor=0.5, pixel_size=0.3, trained_diameter=14.0)
    assert plain.scale_for(image) == 0.5
    assert plain.with_cell_diameter(7.0).scale_for(image, (0.9, 0.9)) == 2.0
    given = Resampling(factor=(1.0, 0.5, 0.5), trained_diameter=14.0).with_cell_diameter(7.0)
    assert given.scale_for(volume) == (4.0, 2.0, 2.0)
    assert Resampling.from_dict(plain.to_dict()) == plain
    assert plain.fixes_cell_size
    assert not Resampling(factor=0.5).fixes_cell_size


def test_dots_and_masks_are_resized_with_the_volume():
    resampling = Resampling(pixel_size=(2.0, 1.0, 1.0))
    (even,), (odd,) = (
        resampling.apply(volume(*given)) for given in (("v0", (6, 16, 20)), ("v1", (6, 17, 21)))
    )
    assert even.image.shape == (6, 8, 10, 1)
    np.testing.assert_allclose(even.dots, [[2.5, 2.5, 3.5]])
    assert set(zip(*np.nonzero(even.labels), strict=True)) == {
        (z, y, x) for z in (2, 3) for y in (2, 3) for x in (3, 4)
    }
    # Odd sides are rounded, but all volumes have the one size that the counter records.
    assert common_pixel_size([even, odd]) == (2.0, 1.0, 1.0)


def test_a_volume_without_voxel_size_is_an_error():
    with pytest.raises(ValueError, match="v0: its voxel size is not known"):
        Resampling(pixel_size=(2.0, 1.0, 1.0)).apply(volume("v0", (6, 16, 20), None))


@pytest.mark.parametrize(
    "resampling",
    [
        Resampling(),
        Resampling(factor=0.4, pixel_size=(3, 1, 1)),
        Resampling(factor=(1, 0.5), patches={"tile": 300, "resize": 256}),
        Resampling(cell_diameter=14.0),
    ],
)
def test_the_record_survives_json(resampling):
    assert Resampling.from_dict(json.loads(json.dumps(resampling.to_dict()))) == resampling


@pytest.mark.parametrize(
    "fields",
    [{"factor": 0.0}, {"pixel_size": (3, 0, 1)}, {"cell_diameter": float("inf")}],
)
def test_values_out_of_range_are_refused(fields):
    with pytest.raises(ValueError, match=f"{next(iter(fields))}=.* must be greater than 0"):
        Resampling(**fields)
    with pytest.raises(ValueError, match=r"unknown fields \['scale'\]"):
        Resampling.from_dict({"scale": 1.0})


def test_a_volume_is_counted_at_the_voxel_size_of_the_training():
    """A volume with voxels twice as high counts as the same volume enlarged by hand."""
    counter = made("consistency_3d")
    resampling = Resampling(pixel_size=(2.0, 1.0, 1.0))
    image = np.random.default_rng(0).integers(0, 255, (9, 16, 16, 1)).astype(np.uint8)
    found = dataclasses.replace(counter, resampling=resampling).count(
        image, spacing=(4.0, 1.0, 1.0)
    )
    assert found.scale == (2.0, 1.0, 1.0)
    enlarged = counter.count(resize_image(image, (2.0, 1.0, 1.0)))
    assert found.maps["inverse_distance"].shape == (18, 16, 16)
    assert found.count == enlarged.count
    assert found.points is not None
    np.testing.assert_allclose(found.points, to_image_pixels(enlarged.points, (2.0, 1.0, 1.0)))
