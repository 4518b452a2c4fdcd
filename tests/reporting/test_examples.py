"""Which images a report shows, and their maps."""

import numpy as np
import pytest

from cellcount_jax.evaluation.image import ImageEvaluation
from cellcount_jax.reporting import examples


@pytest.mark.parametrize(("n", "words"), [(1, ["best"]), (2, ["best", "worst"])])
def test_examples_are_never_shown_twice(n, words):
    images = [ImageEvaluation(f"{i}", predicted=float(i), dots=np.zeros((0, 2))) for i in range(n)]
    assert list(examples.examples(images)) == words


def test_examples_are_the_least_median_and_largest_error():
    errors = [3.0, -9.0, 0.0, 1.0, -2.0]
    images = [ImageEvaluation(f"{e}", predicted=e + 9, dots=np.zeros((9, 2))) for e in errors]
    chosen = examples.examples([*images, ImageEvaluation("bad", status="error: x")])
    assert {word: image.error for word, image in chosen.items()} == {
        "best": 0.0,
        "median": -2.0,
        "worst": -9.0,
    }


def test_counting_maps_stand_beside_their_images_with_all_counts():
    dots = np.zeros((4, 2))
    record = ImageEvaluation("a", predicted=5.0, dots=dots, points=np.zeros((3, 2)))
    image, density = np.zeros((16, 24, 3), np.uint8), np.full((2, 3), 0.75)
    drawn = examples.counting_maps([record], lambda _: image, lambda _: density)
    (title,) = drawn
    assert title == "best: a\ntrue 4, sum of the map 4.5, 3 points"
    left, right = drawn[title].axes[:2]
    assert left.images[0].get_array().shape == (16, 24, 3)
    np.testing.assert_array_equal(right.images[0].get_array(), density)
    assert examples.counting_maps([record], lambda _: image, lambda _: None) == {}
    volume = examples.beside_map(image[None], np.stack([density, density]), title="t")
    np.testing.assert_array_equal(volume.axes[1].images[0].get_array(), 2 * density)
