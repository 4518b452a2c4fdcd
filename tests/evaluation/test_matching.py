"""Matching of points against reference pairs and exhaustive search."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellcount_jax.evaluation import matching


def test_match_reference(golden):
    arrays = golden("match_points")
    for case in arrays["cases"]:
        one = {k.partition("__")[2]: v for k, v in arrays.items() if k.startswith(f"{case}__")}
        radius = float(one["radius"])
        counts = matching.match_points(one["predicted"], one["true"], radius=radius)
        assert counts == tuple(int(one[f"expected_{k}"]) for k in ("tp", "fp", "fn")), case
        pairs, distances = matching.match_pairs(one["predicted"], one["true"], radius=radius)
        expected = float(one["expected_total_distance"])
        assert distances.sum() == pytest.approx(expected, abs=1e-4 * max(1, expected))
        if "expected_pairs" in one:
            np.testing.assert_array_equal(pairs, one["expected_pairs"])


def exhaustive(predicted, true, radius):
    """(number, total distance) of the best of all one-to-one matchings."""
    best = (0, 0.0)
    dots = [*range(len(true)), *[None] * len(predicted)]
    for chosen in set(itertools.permutations(dots, len(predicted))):
        distances = [
            float(np.hypot(*(predicted[i] - true[j])))
            for i, j in enumerate(chosen)
            if j is not None
        ]
        if all(d <= radius for d in distances):
            best = max(best, (len(distances), -sum(distances)))
    return best[0], -best[1]


coordinates = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=0, max_size=4)


@settings(max_examples=60, deadline=None)
@given(coordinates, coordinates, st.sampled_from([0.0, 1.0, 2.5, 5.0]))
def test_match_equals_exhaustive_search(predicted, true, radius):
    predicted = np.array(predicted, float).reshape(-1, 2)
    true = np.array(true, float).reshape(-1, 2)
    pairs, distances = matching.match_pairs(predicted, true, radius=radius)
    number, total = exhaustive(predicted, true, radius)
    assert len(pairs) == number
    assert distances.sum() == pytest.approx(total, abs=1e-9)
    assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == number
    swapped, _ = matching.match_pairs(true, predicted, radius=radius)
    assert len(swapped) == number


def test_match_with_spacing():
    predicted, true = [[0.0, 0, 0]], [[1.0, 3, 0]]
    assert matching.match_points(predicted, true, radius=3.5) == (1, 0, 0)
    assert matching.match_points(predicted, true, radius=3.5, spacing=(2.5, 0.75, 0.75)) == (
        0,
        1,
        1,
    )
    assert matching.match_points(predicted, true, radius=4.5, spacing=(2.5, 0.75, 0.75)) == (
        1,
        0,
        0,
    )


@pytest.mark.parametrize(
    ("predicted", "true", "radius", "says"),
    [
        ([[1, 2]], [[1, 2, 3]], 5, "2 axes and true dots 3"),
        ([[1, 2]], [[1, 2]], -1, "radius -1"),
        ([[1, np.nan]], [[1, 2]], 5, "finite"),
    ],
)
def test_match_rejects(predicted, true, radius, says):
    with pytest.raises(ValueError, match=says):
        matching.match_points(predicted, true, radius=radius)


def test_only_pairs_within_the_radius_reach_the_solver(monkeypatch):
    rng = np.random.default_rng(0)
    true = rng.uniform(0, 1000, (5000, 2))
    predicted = true + rng.normal(0, 1, true.shape)
    edges, solve = [], matching.min_weight_full_bipartite_matching

    def spy(graph):
        edges.append(graph.nnz)
        return solve(graph)

    monkeypatch.setattr(matching, "min_weight_full_bipartite_matching", spy)
    assert matching.match_points(predicted[:4800], true, radius=8.0) == (4800, 0, 200)
    # Near neighbours and one fallback per point: a dense problem would have 24 million edges.
    assert sum(edges) < 5 * len(true)


def test_match_labels():
    labels = np.zeros((6, 8), int)
    labels[0:2, 0:3], labels[0:2, 5:8], labels[4:6, 0:3], labels[4:6, 5:8] = 3, 5, 7, 900
    single, twice, background = [0.4, 1.2], [[0, 5], [1.4, 7.4]], [[3, 3], [2.6, 0]]
    found = matching.match_labels([single, *twice, *background], labels)
    # 3 holds one point, 5 two (one false positive, no miss); 7 and 900 hold none.
    assert found == (1, 1 + 2, 2)
    assert matching.match_labels([], labels) == (0, 0, 4)
    assert matching.match_labels([single], np.zeros((6, 8), int)) == (0, 1, 0)
    assert matching.match_labels([[5.5, 7.5]], labels) == (1, 0, 3)
    with pytest.raises(ValueError, match="outside the mask"):
        matching.match_labels([[6.0, 1.0]], labels)


def test_a_point_in_every_pixel_is_matched_as_well_as_the_other_way_round():
    found = np.argwhere(np.ones((64, 64))).astype(np.float64)
    dots = np.random.default_rng(0).uniform(0, 63, (40, 2))
    assert matching.match_points(found, dots, radius=6.0) == (40, 64 * 64 - 40, 0)
    pairs, distances = matching.match_pairs(found, dots, radius=6.0)
    swapped, others = matching.match_pairs(dots, found, radius=6.0)
    assert distances.sum() == pytest.approx(others.sum())
    assert sorted(map(tuple, pairs)) == sorted((j, i) for i, j in swapped.tolist())
