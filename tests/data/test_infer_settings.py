"""Settings inferred from dots and images: scale, kernel, matching radius, crop."""

import numpy as np
import pytest

from cellcount_jax.data.infer_settings import infer_settings
from cellcount_jax.data.sample import Sample
from cellcount_jax.simulation import simulate


def grid_sample(step: float, shape=(128, 160), dtype=np.uint8, name="grid") -> Sample:
    """Dots on a square grid: every nearest neighbour is `step` away."""
    rows, columns = (np.arange(step, side - 1, step) for side in shape)
    dots = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    return Sample(name, np.zeros((*shape, 1), dtype), dots.astype(np.float32))


@pytest.mark.parametrize(
    ("step", "sigma", "radius"),
    [(3, 1.0, 2.0), (12, 1.5, 6.0), (20, 2.5, 10.0), (24, 3.0, 12.0), (32, 4.0, 15.0)],
)
def test_sigma_is_an_eighth_and_radius_half_of_the_spacing_within_bounds(step, sigma, radius):
    found = infer_settings([grid_sample(step)])
    assert found.scale == 1.0
    assert found.spacing == pytest.approx(step)
    assert found.sigma == pytest.approx(sigma)
    assert found.radius == pytest.approx(radius)


def test_widely_spaced_cells_are_downscaled_and_their_settings_with_them():
    found = infer_settings([grid_sample(40, dtype=np.uint16)] * 2)
    assert found.scale == pytest.approx(16 / 40)
    assert found.spacing == pytest.approx(16)
    assert found.sigma == pytest.approx(2.0)
    assert found.radius == pytest.approx(8.0)
    assert found.crop == (48, 48)


def test_spacing_is_the_lower_quartile_over_the_dots_of_all_images():
    near, far = grid_sample(10, (100, 100)), grid_sample(30, (100, 100))
    assert len(near.dots) > 3 * len(far.dots)
    assert infer_settings([near, far]).spacing == pytest.approx(10)
    pairs = np.array([[10, 10], [10, 14], [60, 10], [60, 30]], np.float32)  # 4, 4, 20, 20 apart
    apart = Sample("pairs", near.image, pairs)
    assert infer_settings([apart]).spacing == pytest.approx(4)


def test_crop_and_channels():
    samples = list(simulate.simulate_dataset(0, 3, (128, 160), "vgg"))
    found = infer_settings(samples)
    assert found.crop == (128, 128)
    assert found.channels == 3
    assert found.mean_count == pytest.approx(np.mean([s.count for s in samples]))
    assert infer_settings([grid_sample(12, (60, 300))]).crop == (56, 56)


@pytest.mark.parametrize(
    ("spacing", "scale", "apart"),
    [
        ((2.0, 1.0, 1.0), (1.0, 0.5, 0.5), 10.0),  # 20 pixels in the plane, 10 planes
        ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), 10.0),
        (None, (1.0, 1.0, 1.0), 10.0),
    ],
)
def test_voxels_become_cubes_and_cells_ten_of_them_apart(spacing, scale, apart):
    dots = np.array([[2, 10, 10], [12, 10, 10], [22, 10, 10]], np.float32)
    found = infer_settings([Sample("v", np.zeros((30, 90, 70, 1), np.uint16), dots, "", spacing)])
    assert found.scale == pytest.approx(scale)
    assert found.spacing == pytest.approx(apart)
    assert found.crop == (24, 32, 32)


def test_single_dots_are_an_image_apart():
    one = Sample("one", np.zeros((40, 60, 1), np.uint8), np.array([[5, 5]], np.float32))
    assert infer_settings([one]).spacing == pytest.approx(20)


def test_images_that_do_not_fit_together_or_have_no_dots():
    rgb = Sample("rgb", np.zeros((64, 64, 3), np.uint8), np.ones((2, 2), np.float32))
    with pytest.raises(ValueError, match=r"differ in channels.*rgb \(64, 64, 3\)"):
        infer_settings([grid_sample(12), rgb])
    empty = Sample("empty", np.zeros((32, 32, 1), np.uint8), np.zeros((0, 2), np.float32))
    with pytest.raises(ValueError, match="no image has a dot"):
        infer_settings([empty])
