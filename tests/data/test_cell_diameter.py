"""Cell diameters: true ones from masks, estimates from images of any magnification."""

import numpy as np
import pytest
from scipy import ndimage

from cellcount_jax.data import cell_diameter
from tests.data.disc_images import discs


def test_mean_diameter_is_that_of_the_disc_of_equal_area():
    labels = np.zeros((60, 60), np.uint16)
    labels[2:12, 2:12] = 3  # 100 pixels
    labels[20:40, 20:40] = 7  # 400 pixels
    assert cell_diameter.mean_diameter(labels) == pytest.approx(np.sqrt(4 / np.pi) * 15)
    assert cell_diameter.mean_diameter(np.zeros((5, 5), int)) is None


@pytest.mark.parametrize("diameter", [9, 14, 25, 50, 90])
def test_estimate_is_close_to_the_truth_over_a_tenfold_range(diameter):
    image, _, _ = discs((256, 320), diameter, n=10)
    assert cell_diameter.estimate_diameter(image) == pytest.approx(diameter, rel=0.3)


def test_holes_are_filled_as_scipy_does():
    rng = np.random.default_rng(0)
    for share in (0.3, 0.5, 0.7):
        cells = rng.random((40, 55)) < share
        assert np.array_equal(cell_diameter.fill_holes(cells), ndimage.binary_fill_holes(cells))


def test_estimate_is_of_the_cells_and_not_of_the_fluorescent_tissue_around_them():
    image, _, _ = discs((300, 300), 12, n=60, tissue=1.2)
    assert cell_diameter.estimate_diameter(image) == pytest.approx(12, rel=0.4)


def test_estimate_of_a_large_image_is_from_its_patches_with_cells_and_within_the_limits():
    image, _, _ = discs((300, 300), 16, n=60)
    large = np.full((2100, 1700, 1), 20, np.uint8)
    large[900:1200, 700:1000] = image
    assert cell_diameter.estimate_diameter(large) == pytest.approx(16, rel=0.3)
    assert cell_diameter.estimate_diameter(np.full((40, 40, 2), 7, np.uint16)) is None
    noise = np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8)
    assert (
        cell_diameter.MIN_DIAMETER
        <= cell_diameter.estimate_diameter(noise)
        <= cell_diameter.MAX_DIAMETER
    )


def test_images_whose_cells_have_about_the_wanted_size_are_not_resized():
    image, _, _ = discs((256, 320), 14, n=10)
    found = cell_diameter.estimate_diameter(image)
    for share in (1.0, 1.09, 1 / 1.09):
        assert cell_diameter.scale_to(share * found, image) == 1.0
    assert cell_diameter.scale_to(1.11 * found, image) == pytest.approx(1.11)
    assert cell_diameter.scale_to(found / 1.11, image) == pytest.approx(1 / 1.11)
    assert cell_diameter.scale_to(14.0, np.full((40, 40, 2), 7, np.uint16)) == 1.0


def test_the_central_estimate_is_that_of_the_middle():
    image, side = np.full((1000, 900, 1), 20.0, np.float32), cell_diameter.CENTRAL_SIDE
    y, x = np.mgrid[:1000, :900]
    rows, columns = (slice((n - side) // 2, (n + side) // 2) for n in (1000, 900))
    small = (np.hypot(y % 60 - 30, x % 60 - 30) < 10)[rows, columns]
    image[..., 0] += 150 * (np.hypot(y % 150 - 75, x % 150 - 75) < 45)
    image[rows, columns, 0] = 20 + 150 * small
    image += np.random.default_rng(0).normal(0, 2, image.shape)
    assert cell_diameter.central_diameter(image) == pytest.approx(20, rel=0.25)
    assert cell_diameter.central_diameter(image[:100, :100]) is not None
