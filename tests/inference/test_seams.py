"""Seams do not show: trained counters give one map, however an image is cut.

Random weights could hide a seam where the network sees little; these are trained, if briefly. For
fully trained runs, and for how much the grid matters to networks with global operations, run
`python -m benchmarks.exactness.seams RUN...`.
"""

import dataclasses

import numpy as np
import pytest

from cellcount_jax.inference.window_pass import count_images
from cellcount_jax.io.images.image import open_lazy
from tests.inference.trained_counters import make_image, trained

SHAPES = {"density": (197, 233), "countxplain": (411, 203)}
"""Odd sides; CSRNet, which CountXplain explains, sees 144 pixels to each side."""

TILES = {"density": (72, 128), "countxplain": (304, 344)}
OFFSETS = (None, (8, 0), (40, 16))

CUTS = [(method, tile, at) for method in SHAPES for tile in TILES[method] for at in OFFSETS]


def count_and_seams(method, image, *, max_window=None, offset=None):
    """The count, and rows and columns of the image at which the part of a new window begins."""
    counter = dataclasses.replace(trained(method), max_window=max_window)
    prepared = counter.prepare(image)
    windows = counter.predictor.cut(prepared.space, offset=offset)
    seams = [{w.own[axis].start for w in windows} - {0} for axis in range(2)]
    return next(count_images(counter.predictor, [prepared], offset=offset)), seams


@pytest.mark.parametrize(("method", "tile", "offset"), CUTS)
def test_any_tile_on_any_grid_gives_the_map_of_the_whole(method, tile, offset):
    image, dots = make_image(SHAPES[method])
    whole, none = count_and_seams(method, image)
    tiled, seams = count_and_seams(method, image, max_window=tile, offset=offset)
    assert len(dots) >= 50
    assert not any(none)
    near = [np.abs(dots[:, [a]] - sorted(seams[a])).min(axis=1) < 3 for a in range(2) if seams[a]]
    assert np.any(near, axis=0).sum() >= 3  # cells on the seams
    for name, expected in whole.maps.items():
        top = np.abs(expected).max()
        assert np.ptp(expected) > 0.1 * top
        seen = tiled.maps[name]
        np.testing.assert_allclose(seen, expected, rtol=0, atol=1e-4 * top, err_msg=name)
    assert tiled.count == pytest.approx(whole.count, rel=1e-4)
    if whole.points is not None:
        assert len(whole.points) >= 50
        np.testing.assert_array_equal(tiled.points, whole.points)


@pytest.mark.parametrize("method", SHAPES)
@pytest.mark.parametrize("shape", [(61, 35), (9, 3)])
def test_an_image_smaller_than_a_tile_is_one_window(method, shape):
    image = make_image((61, 35))[0][: shape[0], : shape[1]]
    whole, _ = count_and_seams(method, image)
    tiled, seams = count_and_seams(method, image, max_window=TILES[method][0])
    assert not any(seams)
    for name, expected in whole.maps.items():
        np.testing.assert_array_equal(tiled.maps[name], expected)


@pytest.mark.parametrize("method", SHAPES)
def test_window_by_window_the_count_and_the_points_are_those_of_the_whole(method, tmp_path):
    counter = trained(method)
    image, _ = make_image(SHAPES[method])
    expected = counter.count(image)
    cut = dataclasses.replace(counter, max_window=TILES[method][0])
    np.save(tmp_path / "image.npy", image)
    with open_lazy(tmp_path / "image.npy", axes="YXC") as opened:
        found = cut.count_open(opened, in_memory=False)
    assert found.count == pytest.approx(expected.count, rel=1e-4)
    if expected.points is not None:
        np.testing.assert_array_equal(found.points, expected.points)


def test_a_halo_that_is_too_small_would_show():
    counter = dataclasses.replace(trained("density"), max_window=72)
    blind = dataclasses.replace(counter, stage=dataclasses.replace(counter.stage, halo=8))
    image = make_image(SHAPES["density"])[0]
    right, wrong = (c.count(image).density for c in (counter, blind))
    assert np.abs(right - wrong).max() > 1e-3 * right.max()
