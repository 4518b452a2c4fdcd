"""Regions that a survey asks about: of the right prototypes, spread evenly, apart, by seed."""

import collections
import dataclasses
import itertools

import numpy as np
import pytest

from cellcount_jax.explanation import prototypes as explanations
from cellcount_jax.explanation import survey_regions
from tests.explanation import made_prototypes

SHAPE = (88, 120)


@pytest.fixture(scope="module")
def made():
    counter = made_prototypes.counter()
    explained = {
        10 * i: (explanations.explain(counter, made_prototypes.sample(i, cells=40).image), SHAPE)
        for i in range(6)
    }
    return explained, explanations.prototypes_of(counter)


def choose(made, *, seed=0, n_prototypes=8, n_random=4, strongest=True, images=None):
    explained, prototypes = made
    kept = {k: v for i, (k, v) in enumerate(explained.items()) if images is None or i < images}
    return survey_regions.choose(
        kept,
        prototypes,
        n_prototypes=n_prototypes,
        n_random=n_random,
        strongest=strongest,
        rng=np.random.default_rng(seed),
    )


@pytest.mark.parametrize("strongest", [True, False])
def test_half_of_the_regions_belong_to_each_group_spread_over_prototypes_and_images(
    made, strongest
):
    found = choose(made, strongest=strongest)
    groups = collections.Counter(region.group for region in found)
    assert groups == {"cell": 4, "background": 4, "random": 4}
    names = collections.Counter(region.prototype for region in found)
    assert names == {"": 4, "cell 1": 2, "cell 2": 2, "background 1": 2, "background 2": 2}
    assert set(collections.Counter(region.image for region in found).values()) == {2}


def test_regions_are_boxes_of_their_prototypes_and_none_overlaps(made):
    explained, prototypes = made
    found = choose(made, n_prototypes=12, n_random=20, strongest=False, images=2)
    covered = {image: np.zeros(SHAPE, int) for image in explained}
    for image, _, name, (top, left, bottom, right) in found:
        covered[image][top:bottom, left:right] += 1
        assert 0 <= top < bottom <= SHAPE[0]
        assert 0 <= left < right <= SHAPE[1]
        if name:
            boxes = explained[image][0].boxes[prototypes.names.index(name)]
            assert [top, left, bottom, right] in boxes.tolist()
    assert max(values.max() for values in covered.values()) == 1


def test_the_strongest_region_holds_the_highest_similarity(made):
    explained, prototypes = made
    # A region per image, so that none has to make room for another.
    for image, _, name, (top, left, bottom, right) in choose(made, n_prototypes=6, n_random=0):
        similarity = explained[image][0].similarity[..., prototypes.names.index(name)]
        inside = similarity[top // 8 : bottom // 8, left // 8 : right // 8]
        assert inside.max() == similarity.max()


def test_boxes_end_at_the_border_of_the_image(made):
    similarity = np.zeros((3, 4, 2), np.float32)
    similarity[2, 3, 0] = similarity[0, 0, 1] = 1.0
    boxes = tuple(explanations.boxes_of(similarity[..., k], pixels=8) for k in range(2))
    explanation = explanations.Explanation(0, similarity, similarity, boxes, None, 0, 8.0)
    two = dataclasses.replace(made[1], vectors=made[1].vectors[:2], n_cell=1)
    found = {
        r.group: r.box
        for r in choose(({0: (explanation, (20, 29))}, two), n_prototypes=2, n_random=0)
    }
    assert found == {"cell": (16, 24, 20, 29), "background": (0, 0, 8, 8)}
    with pytest.raises(ValueError, match="cell prototypes: 0 found of 1"):
        choose(({0: (explanation, (16, 29))}, two), n_prototypes=2, n_random=0)


def test_order_and_choice_follow_the_seed(made):
    assert choose(made) == choose(made)
    assert choose(made) != choose(made, seed=1)
    # Groups are mixed: in any other order no rater would need to look.
    groups = [region.group for region in choose(made, n_prototypes=12, n_random=6)]
    changes = sum(one != other for one, other in itertools.pairwise(groups))
    assert changes > 6
    assert "random" in groups[:9]


def test_too_few_regions_are_said(made):
    with pytest.raises(ValueError, match=r"1 images have too few separate regions of .*--number"):
        choose(made, n_prototypes=60, images=1)
    with pytest.raises(ValueError, match=r"no room for 500 random regions .*--random"):
        choose(made, n_prototypes=2, n_random=500, images=1)
