"""Seams do not show: trained counters give one map, however an image is cut.

Random weights could hide a seam where the network sees little; these are trained, if briefly. The
same for fully trained runs, and how much a grid matters to networks that look at a window as a
whole: `python -m benchmarks.exactness.seams RUN...`.
"""

import dataclasses

import numpy as np
import pytest

from cellcount_jax.data.preprocess import preprocess
from cellcount_jax.inference.batched_predict import Network
from cellcount_jax.inference.in_memory import predict_all
from cellcount_jax.inference.readout import read_out
from cellcount_jax.io.images.image import open_lazy
from tests.inference.trained_counters import make_image, trained

SHAPES = {"density": (197, 233), "countxplain": (411, 203)}
"""Odd sides; CSRNet, which CountXplain explains, sees 144 pixels to each side."""

TILES = {"density": (72, 128), "countxplain": (304, 344)}
OFFSETS = (None, (8, 0), (40, 16))

CUTS = [(method, tile, at) for method in SHAPES for tile in TILES[method] for at in OFFSETS]


def maps_and_seams(method, image, *, largest=None, offset=None):
    """Maps, and rows and columns of the image at which a new window's part begins."""
    counter = trained(method)
    network = Network(counter.stage, counter.variables, largest=largest)
    prepared = preprocess(image, counter.preprocessing)
    windows = network.cut(prepared.shape[:-1], offset=offset)[1]
    seams = [{w.own[axis].start for w in windows} - {0} for axis in range(2)]
    return next(predict_all(network, [prepared], offset=offset)), seams


@pytest.mark.parametrize(("method", "tile", "offset"), CUTS)
def test_any_tile_on_any_grid_gives_the_map_of_the_whole(method, tile, offset):
    counter = trained(method)
    image, dots = make_image(SHAPES[method])
    whole, none = maps_and_seams(method, image)
    tiled, seams = maps_and_seams(method, image, largest=tile, offset=offset)
    assert len(dots) >= 50
    assert not any(none)
    near = [np.abs(dots[:, [a]] - sorted(seams[a])).min(axis=1) < 3 for a in range(2) if seams[a]]
    assert np.any(near, axis=0).sum() >= 3  # cells on the seams
    for name, expected in whole.items():
        top = np.abs(expected).max()
        assert np.ptp(expected) > 0.1 * top
        np.testing.assert_allclose(tiled[name], expected, rtol=0, atol=1e-4 * top, err_msg=name)
    one, other = (read_out(maps, counter.stage.readout) for maps in (whole, tiled))
    assert other.count == pytest.approx(one.count, rel=1e-4)
    if one.points is not None:
        assert len(one.points) >= 50
        np.testing.assert_array_equal(other.points, one.points)


@pytest.mark.parametrize("method", SHAPES)
@pytest.mark.parametrize("shape", [(61, 35), (9, 3)])
def test_an_image_smaller_than_a_tile_is_one_window(method, shape):
    image = make_image((61, 35))[0][: shape[0], : shape[1]]
    whole, _ = maps_and_seams(method, image)
    tiled, seams = maps_and_seams(method, image, largest=TILES[method][0])
    assert not any(seams)
    for name, expected in whole.items():
        np.testing.assert_array_equal(tiled[name], expected)


@pytest.mark.parametrize("method", SHAPES)
def test_read_by_parts_the_count_and_the_points_are_those_of_the_whole(method, tmp_path):
    counter = trained(method)
    image, _ = make_image(SHAPES[method])
    expected = counter.count(image)
    cut = dataclasses.replace(counter)  # with a network of its own
    cut.network._largest = TILES[method][0]
    np.save(tmp_path / "image.npy", image)
    with open_lazy(tmp_path / "image.npy", axes="YXC") as opened:
        found = cut.count_lazily(opened)
    assert found.count == pytest.approx(expected.count, rel=1e-4)
    if expected.points is not None:
        np.testing.assert_array_equal(found.points, expected.points)


def test_a_halo_that_is_too_small_would_show():
    counter = trained("density")
    blind = dataclasses.replace(counter.stage, halo=8)
    image = preprocess(make_image(SHAPES["density"])[0], counter.preprocessing)
    networks = [Network(stage, counter.variables, largest=72) for stage in (counter.stage, blind)]
    right, wrong = (next(predict_all(n, [image]))["density"] for n in networks)
    assert np.abs(right - wrong).max() > 1e-3 * right.max()
