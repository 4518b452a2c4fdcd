"""Dots that do not belong to their image are named, the others are not."""

import numpy as np
import pytest

from cellcount_jax.datasets.usable_images.misplaced_dots import MIN_IMAGES, find_misplaced
from cellcount_jax.simulation.simulate import simulate_cells


@pytest.fixture(scope="module")
def cells():
    images, dots = zip(*(simulate_cells(seed, (128, 128), 40) for seed in range(12)), strict=True)
    return list(images), list(dots)


NAMES = [f"{i}.png" for i in range(12)]


@pytest.mark.parametrize("dark", [False, True])
def test_right_dots_are_not_named(cells, dark):
    images, dots = cells
    images = [image.max() - image for image in images] if dark else images
    assert not find_misplaced(images, dots, NAMES)


def test_dots_passed_on_in_rotation_are_named_with_the_image_that_they_fit(cells):
    images, dots = cells
    dots = [dots[0], dots[1], dots[3], dots[4], dots[2], *dots[5:]]
    found = find_misplaced(images, dots, NAMES)
    assert list(found) == ["2.png", "3.png", "4.png"]
    assert "would fit 3.png" in found["2.png"].line
    assert "would fit 2.png" in found["4.png"].line


def test_images_that_are_read_when_looked_at_give_the_same(cells):
    images, dots = cells
    dots = [dots[1], dots[0], *dots[2:11], np.zeros((0, 2))]

    class Stored:
        def __init__(self, image):
            self.shape, self.read = image.shape, lambda: image

    found = find_misplaced([Stored(image) for image in images], dots, NAMES)
    assert list(found) == ["0.png", "1.png", "11.png"]
    assert found == find_misplaced(images, dots, NAMES)


def test_dots_at_random_are_named(cells):
    images, dots = cells
    random = np.random.default_rng(0).uniform(0, 128, (40, 2))
    assert list(find_misplaced(images, [*dots[:-1], random], NAMES)) == ["11.png"]


def test_no_dots_beside_many_cells_are_named_and_beside_none_are_not(cells):
    images, dots = cells
    nothing = np.zeros((0, 2))
    background = np.full_like(images[0], np.percentile(images[0], 5))
    found = find_misplaced(
        [images[0], background, *images[2:]], [nothing, nothing, *dots[2:]], NAMES
    )
    assert list(found) == ["0.png"]
    assert "no dots" in found["0.png"].line


def test_few_images_decide_nothing(cells):
    images, dots = cells
    n = MIN_IMAGES - 1
    assert not find_misplaced(images[:n], [dots[1], *dots[1:n]], NAMES[:n])


def test_files_without_dots_and_volumes_are_passed_over(cells):
    images, dots = cells
    volume = np.zeros((4, 8, 8))
    found = find_misplaced([volume, *images[1:]], [np.zeros((20, 3)), None, *dots[2:]], NAMES)
    assert not found
