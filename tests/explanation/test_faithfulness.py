"""Measures of explanations against cases whose answer is known."""

import dataclasses
import math

import numpy as np
import pytest

from cellcount_jax.evaluation.evaluate import evaluate
from cellcount_jax.explanation import faithfulness
from cellcount_jax.explanation import prototypes as explanations
from tests.explanation import made_prototypes


@pytest.fixture(scope="module")
def measured():
    counter = made_prototypes.counter()
    samples = [made_prototypes.sample(i) for i in range(4)]
    found = evaluate(counter, samples, radius=5.0)
    return counter, samples, found.counts, faithfulness.measure(counter, found)


def test_boxes_of_prototypes_of_intensity_are_pure(measured):
    found = measured[3]
    assert found["box_purity_cell"] == 1.0
    assert found["box_purity_background"] == 1.0
    assert found["random_box_purity_cell"] < 0.5
    assert found["random_box_purity_background"] < found["box_purity_background"]
    assert found["coverage"] > 2 * found["random_coverage"] > 0
    assert found["n_boxes_cell"] > 0


def test_purity_above_chance(measured):
    assert measured[3]["box_purity_background_above_chance"] == 1.0
    assert faithfulness.above_chance(0.9, 0.8) == pytest.approx(0.5)
    assert faithfulness.above_chance(0.7, 0.8) == pytest.approx(-0.5)
    assert faithfulness.above_chance(1.0, 1.0) is None
    assert faithfulness.above_chance(None, 0.5) is None


def test_every_figure_is_finite_or_none(measured):
    for name, value in measured[3].items():
        assert value is None or math.isfinite(value), name


def test_errors_before_the_projection_and_of_the_explained_network(measured):
    counter, samples, counts, found = measured
    true = np.array([s.count for s in samples])
    own = np.abs([c.count for c in counts] - true).mean()
    assert found["projected_mae"] == pytest.approx(own)
    before = explanations.before_projection(counter)
    other = np.abs([c.count for c in before.count_all(s.image for s in samples)] - true).mean()
    assert found["unprojected_mae"] == pytest.approx(other)
    assert other != pytest.approx(own)
    bright = np.array([c.maps["extractor_density"].sum() for c in counts])
    assert found["extractor_mae"] == pytest.approx(np.abs(bright - true).mean(), rel=1e-5)


def test_deleting_the_boxes_removes_their_cells():
    """A counter that adds up intensity, and boxes on all that is bright."""

    class Sums:
        def count_all(self, images):
            for image in images:
                yield dataclasses.make_dataclass("C", ["count"])(float(image.sum()))

    image = np.zeros((40, 40, 3), np.float32)
    image[8:16, 8:16] = 1.0
    none = np.zeros((0, 4), int)
    part = explanations.Explanation(
        count=float(image.sum()),
        similarity=np.zeros((5, 5, 4)),
        contribution=np.zeros((5, 5, 4)),
        boxes=(np.array([[8, 8, 16, 16]]), none, np.array([[0, 0, 8, 8]]), none),
        cells=np.zeros(4),
        bias_cells=0.0,
    )
    found = faithfulness.deletion(Sums(), [part], [image], 2, np.random.default_rng(0))
    # What is left is the mean colour, in 64 of the 1600 pixels.
    assert found["deletion_drop"] == pytest.approx(1 - 64 / 1600)
    assert found["random_deletion_drop"] < 0.5
    assert image[8:16, 8:16].min() == 1.0, "the image itself stays as it was"


def test_a_dot_belongs_to_the_box_that_holds_its_pixel():
    boxes = np.array([[0, 0, 8, 8], [8, 0, 16, 8]])
    dots = np.array([[-0.5, 3.0], [7.4, 3.0], [7.5, 3.0]])
    held = faithfulness.contains(boxes, dots)
    assert held.tolist() == [[True, True, False], [False, False, True]]
    assert faithfulness.contains(boxes, np.zeros((0, 2))).shape == (2, 0)


def test_distances_within_a_group():
    vectors = np.array([[0, 0], [3, 4], [0, 1], [1, 1]], np.float32)
    found = faithfulness.group_distances(vectors, 3)
    assert found["distance_cell_min"] == pytest.approx(1.0)
    assert found["squared_distance_cell_mean"] == pytest.approx((25 + 1 + 18) / 3)
    assert found["distance_background_min"] is None


def test_share_of_negative_contributions():
    part = explanations.Explanation(0.0, None, np.array([[[3.0, -1.0]]]), (), None, 0.0)
    assert faithfulness.negative_share([part]) == pytest.approx(0.25)
    assert faithfulness.negative_share([]) is None
