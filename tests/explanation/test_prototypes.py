"""A count split into contributions: boxes, the sum of the table, and images that are refused."""

import dataclasses

import numpy as np
import pytest

from cellcount_jax.explanation import prototypes as explanations
from cellcount_jax.inference.count import Count
from tests.explanation import made_prototypes


@pytest.fixture(scope="module")
def explained():
    counter, sample = made_prototypes.counter(), made_prototypes.sample()
    return counter, sample, explanations.explain(counter, sample.image)


def test_the_table_sums_to_the_count(explained):
    counter, sample, found = explained
    prototypes = explanations.prototypes_of(counter)
    rows = explanations.table(found, prototypes)
    assert [r["part"] for r in rows] == [
        *("cell 1", "cell 2", "background 1", "background 2", "bias", "count")
    ]
    assert abs(sum(r["cells"] for r in rows[:-1]) - found.count) < 0.01
    assert abs(rows[-1]["cells"] - counter.count(sample.image).count) < 0.01
    assert rows[4]["cells"] == pytest.approx(made_prototypes.BIAS * 11 * 15)
    assert rows[0]["cells"] > 0 > rows[1]["cells"]
    assert rows[2]["cells"] == rows[3]["cells"] == 0


def test_contributions_are_weight_times_similarity(explained):
    _, _, found = explained
    weights = np.pad(made_prototypes.WEIGHTS, (0, 2))
    np.testing.assert_allclose(found.contribution, found.similarity * weights, rtol=1e-5)


def test_boxes_lie_on_bright_places(explained):
    _, sample, found = explained
    assert len(found.boxes) == 4
    assert len(found.boxes[0]) > 0
    for top, left, bottom, right in found.boxes[0]:
        assert sample.image[top:bottom, left:right].mean() > 150
    for top, left, bottom, right in found.boxes[3]:
        assert sample.image[top:bottom, left:right].mean() < 50


def test_boxes_are_4_connected_components_from_the_99th_percentile_on():
    similarity = np.zeros((20, 30))
    similarity[2, 3:5] = similarity[3, 3] = 5.0  # one component of three
    similarity[10, 10] = similarity[11, 11] = 4.0  # touching by a corner: two
    similarity[19, 29] = 3.0
    similarity[0, 0] = 1e-3  # seventh of 600: below the percentile
    found = explanations.boxes_of(similarity, pixels=8)
    expected = [[16, 24, 32, 40], [80, 80, 88, 88], [88, 88, 96, 96], [152, 232, 160, 240]]
    np.testing.assert_array_equal(found, expected)


def test_a_flat_map_has_no_boxes():
    assert explanations.boxes_of(np.ones((4, 4))).shape == (0, 4)
    assert explanations.boxes_of(np.ones((0, 4))).shape == (0, 4)


def test_boxes_are_in_pixels_of_the_given_image(explained):
    counter, _, found = explained
    prototypes = explanations.prototypes_of(counter)
    maps = {"similarity": found.similarity, "contribution": found.contribution[..., :2]}
    half = Count(found.count, None, None, None, maps, scale=0.5)
    twice = explanations.split_count(half, prototypes)
    for ours, theirs in zip(twice.boxes, found.boxes, strict=True):
        np.testing.assert_array_equal(ours, 2 * theirs)


def test_the_counter_before_the_projection(explained):
    counter, sample, found = explained
    before = explanations.before_projection(counter)
    np.testing.assert_array_equal(
        before.variables.trained["prototypes"], counter.variables.extras["unprojected"]
    )
    np.testing.assert_array_equal(
        before.variables.trained["density"]["kernel"],
        2 * counter.variables.trained["density"]["kernel"],
    )
    assert before.count(sample.image).count != pytest.approx(found.count)


def test_a_counter_without_prototypes_is_an_error(explained):
    counter, sample, _ = explained
    stage = dataclasses.replace(counter.stage, explain=None)
    other = dataclasses.replace(counter, stage=stage, facts={"method": "dcl"})
    with pytest.raises(ValueError, match=r"^a counter of method dcl has no prototypes.*$"):
        explanations.explain(other, sample.image)


def test_an_image_smaller_than_the_stride_is_an_error(explained):
    counter = explained[0]
    with pytest.raises(ValueError, match=r"^an image of 7 x 40 pixels is smaller than.*$"):
        explanations.explain(counter, np.zeros((7, 40, 3), np.uint8))


def test_a_volume_is_an_error(explained):
    with pytest.raises(ValueError, match=r"^prototypes explain images; this is a volume.*$"):
        explanations.explain(explained[0], np.zeros((9, 16, 16, 3), np.uint8))
