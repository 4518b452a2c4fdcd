"""The halves of the ten-image benchmark, and its figures."""

import json

import numpy as np
import pytest

from benchmarks.accuracy.ten_images import measure, sets, worst
from cellcount_jax.data.sample import Sample

HALVES = json.loads(sets.HALVES.read_text())


def test_every_set_has_halves():
    assert set(HALVES) == set(sets.SETS)


@pytest.mark.parametrize("name", sets.SETS)
def test_the_committed_halves_are_those_of_the_rule(name):
    assert sets.halve([*HALVES[name]["A"], *HALVES[name]["B"]]) == HALVES[name]
    assert not set(HALVES[name]["A"]) & set(HALVES[name]["B"])


@pytest.mark.parametrize(
    ("group", "same"), [("slide_1", "slide_1"), ("256x256", "image"), ("", "image")]
)
def test_images_of_a_slide_stay_together_and_those_of_a_size_do_not(group, same):
    assert sets.group_of(Sample("image", np.zeros((2, 2, 1)), None, group)) == same


@pytest.mark.parametrize(
    ("spacing", "diameter"), [((2.0, 1.0, 1.0), 10.0), (None, 10 / 2 ** (1 / 3))]
)
def test_the_diameter_of_a_ball_is_in_pixels_of_the_plane(spacing, diameter):
    z, y, x = np.indices((12, 24, 24)) - np.array([5.5, 11.5, 11.5])[:, None, None, None]
    ball = ((2 * z) ** 2 + y**2 + x**2 <= 25).astype(np.uint8)
    sample = Sample("ball", np.zeros((12, 24, 24, 1)), None, "", spacing, ball)
    assert sets.true_diameter([sample]) == pytest.approx(diameter, rel=0.03)


def test_errors_of_images_with_few_cells_are_not_relative_ones():
    dots = [np.arange(2 * n, dtype=np.float32).reshape(-1, 2) * 9 for n in (2, 20)]
    samples = [Sample(str(i), np.zeros((4, 4, 1)), d) for i, d in enumerate(dots)]
    found = measure.errors([4.0, 22.0], [dots[0], dots[1][:10]], samples, radius=3.0)
    assert found["mae"] == 2.0
    assert found["mape"] == pytest.approx(10.0)
    assert found["f1"] == pytest.approx(2 * 12 / (2 * 12 + 10))
    assert found["apart"] == 2


def test_the_worst_images_are_those_of_the_greatest_relative_errors():
    images = {"name": list("abcd"), "true": [100, 2, 40, 50], "count": [115, 6, 30, 50.5]}
    line = {"by": {"cellcount train": {"images": images}}}
    assert worst.worst(line, 3) == ["c", "b", "a"]  # 10/40, 4/20, 15/100
