"""What the figures of reports show."""

import numpy as np
import pytest

from cellcount_jax.evaluation.image import ImageEvaluation
from cellcount_jax.inference.count import Count
from cellcount_jax.io.images.image import Image
from cellcount_jax.io.regions import Region
from cellcount_jax.reporting import figures


@pytest.mark.parametrize(("length", "shown"), [(0, 0), (36, 36), (37, 36), (70, 36)])
def test_a_long_name_keeps_both_of_its_ends(length, shown):
    name = "".join(chr(ord("a") + i % 26) for i in range(length))
    found = figures.shortened(name)
    assert len(found) == shown
    assert name.startswith(found[:17])
    assert name.endswith(found[-16:])


def test_limits_of_agreement_lie_196_standard_deviations_from_the_bias():
    predicted, true = [12.0, 7.0, 30.0], [10.0, 8.0, 25.0]
    axes = figures.limits_of_agreement(predicted, true, "image").axes[0]
    spread = 1.96 * np.std([2.0, -1.0, 5.0], ddof=1)
    levels = [line.get_ydata()[0] for line in axes.lines]
    assert levels == pytest.approx([2.0, 2.0 - spread, 2.0 + spread, 0.0])
    points = axes.collections[0].get_offsets()
    np.testing.assert_allclose(points, [(11.0, 2.0), (7.5, -1.0), (27.5, 5.0)])
    assert axes.texts[2].get_text() == f"+1.96 SD {2.0 + spread:+.1f}"


@pytest.mark.parametrize(("n", "words"), [(1, ["best"]), (2, ["best", "worst"])])
def test_examples_are_never_shown_twice(n, words):
    images = [ImageEvaluation(f"{i}", predicted=float(i), dots=np.zeros((0, 2))) for i in range(n)]
    assert list(figures.examples(images)) == words


def test_examples_are_the_least_median_and_largest_error():
    errors = [3.0, -9.0, 0.0, 1.0, -2.0]
    images = [ImageEvaluation(f"{e}", predicted=e + 9, dots=np.zeros((9, 2))) for e in errors]
    chosen = figures.examples([*images, ImageEvaluation("bad", status="error: x")])
    assert {word: image.error for word, image in chosen.items()} == {
        "best": 0.0,
        "median": -2.0,
        "worst": -9.0,
    }


def test_overlays_show_points_as_crosses_and_dots_as_rings():
    image = np.zeros((20, 30, 1), np.uint16)
    points, dots = np.array([[2.0, 5.0]]), np.array([[3.0, 6.0], [10.0, 25.0]])  # (y, x)
    axes = figures.overlay(image, points, dots=dots, title="t").axes[0]
    rings, crosses = (c.get_offsets().tolist() for c in axes.collections)
    assert (rings, crosses) == ([[6.0, 3.0], [25.0, 10.0]], [[5.0, 2.0]])
    assert axes.get_title() == "t"


@pytest.mark.parametrize("shape", [(20, 30, 1), (4, 20, 30, 1)])
def test_overlays_show_the_outlines_and_names_of_regions(shape):
    region = Region("left $x$", (4, 6), np.ones((5, 8), bool))
    figure = figures.overlay(np.zeros(shape, np.uint8), None, regions=[region])
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
    figures.overlay_writer(tmp_path)("a", Image(np.zeros((9, 9, 1), np.uint8)), found, [])
    assert shown[0].axes[0].get_title() == f"a\n{title}"


def test_overlays_of_volumes_show_the_projection_and_three_planes_with_their_points():
    volume = np.zeros((10, 20, 30, 1), np.uint16)
    points = np.array([[5.0, 10, 15], [5, 2, 3], [0, 10, 29], [9, 19, 15]])  # (z, y, x)
    volume[tuple(points.astype(int).T)] = 9
    figure = figures.overlay(volume, points, title="t", spacing=(2.0, 1.0, 1.0))
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
    assert all(not axes.collections for axes in figures.overlay(volume, None).axes)
    assert len(figures.overlay(volume[:1], None).axes) == 1


def test_counting_maps_stand_beside_their_images_with_all_counts():
    dots = np.zeros((4, 2))
    record = ImageEvaluation("a", predicted=5.0, dots=dots, points=np.zeros((3, 2)))
    image, density = np.zeros((16, 24, 3), np.uint8), np.full((2, 3), 0.75)
    drawn = figures.counting_maps([record], lambda _: image, lambda _: density)
    (title,) = drawn
    assert title == "best: a\ntrue 4, sum of the map 4.5, 3 points"
    left, right = drawn[title].axes[:2]
    assert left.images[0].get_array().shape == (16, 24, 3)
    np.testing.assert_array_equal(right.images[0].get_array(), density)
    assert figures.counting_maps([record], lambda _: image, lambda _: None) == {}
    volume = figures.beside_map(image[None], np.stack([density, density]), title="t")
    np.testing.assert_array_equal(volume.axes[1].images[0].get_array(), 2 * density)


def test_names_are_drawn_as_they_are(recwarn):
    title = figures.shortened("$\\frac$a\r\x1b.png")
    for image in (np.zeros((8, 9, 1), np.uint8), np.zeros((4, 8, 9, 1), np.uint8)):
        figures.png(figures.overlay(image, None, title=title), dpi=30)
    assert not [w for w in recwarn if "Glyph" in str(w.message)]
