"""A count as table, figure and notebook view."""

import base64
import io
import re
import sys

import numpy as np
import pytest
from PIL import Image

from cellcount_jax.inference.count import Count

POINTS = np.array([[1.0, 2.0], [30.5, 4.25]], np.float32)


def count(points=POINTS, density=None) -> Count:
    scores = None if points is None else np.linspace(0.5, 1, len(points), dtype=np.float32)
    total = None if density is None else float(density.sum())
    return Count(66.4375, points, scores, density, {"density": np.ones((99, 99))}, 1.0, total)


def test_the_repr_holds_numbers_and_no_arrays():
    assert repr(count()) == "Count(count=66.4375, n_points=2)"
    assert repr(count(None)) == "Count(count=66.4375, n_points=None)"


@pytest.mark.parametrize("points", [POINTS, np.zeros((0, 2)), np.ones((3, 3))])
def test_points_as_a_table(points):
    found = count(points)
    table = found.to_dataframe()
    axes = ["z", "y", "x"][-points.shape[1] :]
    assert list(table.columns) == [*axes, "score"]
    np.testing.assert_array_equal(table[axes], points)
    np.testing.assert_array_equal(table["score"], found.scores)


def test_without_pandas_or_points_the_table_says_what_is_missing(monkeypatch):
    with pytest.raises(ValueError, match="no points"):
        count(None).to_dataframe()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        count().to_dataframe()


@pytest.mark.parametrize("shape", [None, (40, 20), (40, 20, 3), (5, 40, 20, 1)])
def test_points_are_drawn_on_the_image(shape):
    image = None if shape is None else np.random.default_rng(0).integers(0, 255, shape)
    figure = count().plot(image)
    (axes,) = figure.axes
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xydata(), POINTS[:, ::-1])
    low, high = axes.get_ylim()
    assert low > high
    if image is not None:
        (shown,) = axes.images
        assert shown.get_array().shape == (40, 20)
        assert shown.get_array().max() == image.max()
    figure.savefig(io.BytesIO())


def test_a_volume_is_drawn_in_its_plane():
    points = np.array([[7.0, 1.0, 2.0]], np.float32)
    (line,) = count(points).plot(np.zeros((9, 40, 20, 1))).axes[0].lines
    np.testing.assert_array_equal(line.get_xydata(), [[2.0, 1.0]])


@pytest.mark.parametrize("shape", [(8, 32), (4, 8, 32)])
def test_a_notebook_shows_the_numbers_and_the_density(shape):
    density = np.zeros(shape, np.float32)
    density[..., 2, 30] = 0.25
    html = count(density=density)._repr_html_()
    assert "<td>66.4375</td>" in html
    assert "<td>2</td>" in html
    data = re.search(r"base64,([^\"]+)", html)[1]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert shown.shape == (64, 256)
    assert np.unravel_index(shown.argmax(), shown.shape)[1] // 8 == 30
    assert "<img" not in count()._repr_html_()


def test_an_empty_density_is_shown_as_black():
    html = count(density=np.zeros((8, 8), np.float32))._repr_html_()
    data = re.search(r"base64,([^\"]+)", html)[1]
    assert not np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).any()
