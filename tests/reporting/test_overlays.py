"""What is drawn on images: points, dots, regions, titles."""

import numpy as np
import pytest

from cellcount_jax.inference.count import Count
from cellcount_jax.io.images.image import Image
from cellcount_jax.io.regions import Region
from cellcount_jax.reporting import figures, overlays


@pytest.mark.parametrize(("length", "shown"), [(0, 0), (36, 36), (37, 36), (70, 36)])
def test_a_long_name_keeps_both_of_its_ends(length, shown):
    name = "".join(chr(ord("a") + i % 26) for i in range(length))
    found = overlays.shortened(name)
    assert len(found) == shown
    assert name.startswith(found[:17])
    assert name.endswith(found[-16:])


def test_overlays_show_points_as_crosses_and_dots_as_rings():
    image = np.zeros((20, 30, 1), np.uint16)
    points, dots = np.array([[2.0, 5.0]]), np.array([[3.0, 6.0], [10.0, 25.0]])  # (y, x)
    axes = overlays.overlay(image, points, dots=dots, title="t").axes[0]
    rings, crosses = (c.get_offsets().tolist() for c in axes.collections)
    assert (rings, crosses) == ([[6.0, 3.0], [25.0, 10.0]], [[5.0, 2.0]])
    assert axes.get_title() == "t"


@pytest.mark.parametrize("shape", [(20, 30, 1), (4, 20, 30, 1)])
def test_overlays_show_the_outlines_and_names_of_regions(shape):
    region = Region("left $x$", (4, 6), np.ones((5, 8), bool))
    figure = overlays.overlay(np.zeros(shape, np.uint8), None, regions=[region])
    axes = figure.axes[0]
    (outline,) = axes.collections
    (path,) = outline.get_paths()
    box = path.get_extents()
    assert (box.y0, box.x0, box.y1, box.x1) == (3.5, 5.5, 8.5, 13.5)
    assert [text.get_text() for text in axes.texts] == ["left $x$"]
    assert axes.get_ylim() == (19.5, -0.5)
    figures.png(figure)


@pytest.mark.parametrize(
    ("count", "title"),
    [(2.0, "2 cells"), (2.4, "2.4 cells (publish this count; 2 points show where)")],
)
def test_overlays_say_which_number_to_publish(tmp_path, monkeypatch, count, title):
    shown: list = []
    monkeypatch.setattr(figures, "png", lambda figure, **_: shown.append(figure) or b"")
    found = Count(count, np.zeros((2, 2)), np.ones(2), None, {})
    overlays.overlay_writer(tmp_path)("a", Image(np.zeros((9, 9, 1), np.uint8)), found, [])
    assert shown[0].axes[0].get_title() == f"a\n{title}"


def test_overlays_of_volumes_show_the_projection_and_three_planes_with_their_points():
    volume = np.zeros((10, 20, 30, 1), np.uint16)
    points = np.array([[5.0, 10, 15], [5, 2, 3], [0, 10, 29], [9, 19, 15]])  # (z, y, x)
    volume[tuple(points.astype(int).T)] = 9
    figure = overlays.overlay(volume, points, title="t", spacing=(2.0, 1.0, 1.0))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["maximum projection", "z = 5", "x = 15", "y = 10"]
    shown = [axes.collections[0].get_offsets().tolist() for axes in figure.axes]
    assert shown[0] == [[15, 10], [3, 2], [29, 10], [15, 19]]
    assert shown[1:] == [[[15, 10], [3, 2]], [[5, 10], [9, 19]], [[15, 5], [29, 0]]]
    planes = [axes.images[0].get_array()[..., 0] for axes in figure.axes]
    for plane, points in zip(planes, shown, strict=True):
        assert all(plane[int(y), int(x)] for x, y in points)
    assert [axes.get_aspect() for axes in figure.axes] == [1.0, 1.0, 0.5, 2.0]
    figures.png(figure)


def test_an_overlay_of_a_volume_without_points_or_of_one_plane():
    volume = np.arange(2 * 20 * 30, dtype=np.uint16).reshape(2, 20, 30, 1)
    assert all(not axes.collections for axes in overlays.overlay(volume, None).axes)
    assert len(overlays.overlay(volume[:1], None).axes) == 1


def test_names_are_drawn_as_they_are(recwarn):
    title = overlays.shortened("$\\frac$a\r\x1b.png")
    for image in (np.zeros((8, 9, 1), np.uint8), np.zeros((4, 8, 9, 1), np.uint8)):
        figures.png(overlays.overlay(image, None, title=title), dpi=30)
    assert not [w for w in recwarn if "Glyph" in str(w.message)]
