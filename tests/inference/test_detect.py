"""Decoders and matching against reference pairs, exhaustive search and flood fills."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellcount_jax.inference import detect

FIDTM = 100 / 255


def assert_same_points(found, expected, atol=1e-4):
    """Equal as sets."""
    assert found.shape == expected.shape
    for one in (found, expected):
        assert len(np.unique(one, axis=0)) == len(one)
    order = [np.lexsort(np.round(p, 3).T[::-1]) for p in (found, expected)]
    np.testing.assert_allclose(found[order[0]], expected[order[1]], atol=atol)


@pytest.mark.parametrize("kind", ["component_cases", "local_maximum_cases"])
def test_find_points_reference(golden, kind):
    arrays = golden("find_points")
    for case in arrays[kind]:
        values = arrays[f"{case}__map"]
        if kind == "component_cases":
            threshold = float(arrays[f"{case}__threshold"])
            found, scores = detect.find_points(values, decoder="components", threshold=threshold)
        else:
            found, scores = detect.find_points(values, decoder="peaks", threshold=FIDTM, floor=0.1)
            np.testing.assert_array_equal(scores, values[tuple(found.astype(int).T)])
        assert len(found) == arrays[f"{case}__expected_count"], case
        assert (found.dtype, scores.dtype) == (np.float32, np.float32)
        assert scores.shape == (len(found),)
        assert_same_points(found, arrays[f"{case}__expected_points"].astype(float))


def test_components_threshold_is_absolute_and_strict():
    values = np.zeros((5, 9))
    values[1, 1:4] = 0.5, 0.9, 0.5
    values[3, 7] = 0.4
    found, scores = detect.find_points(values, decoder="components", threshold=0.4)
    np.testing.assert_array_equal(found, [[1, 2]])
    np.testing.assert_array_equal(scores, np.float32([0.9]))
    found, scores = detect.find_points(values, decoder="components", threshold=0.3)
    np.testing.assert_array_equal(found, [[1, 2], [3, 7]])
    np.testing.assert_array_equal(scores, np.float32([0.9, 0.4]))


@pytest.mark.parametrize("ndim", [2, 3])
def test_components_join_at_corners(ndim):
    values = np.zeros((4,) * ndim, np.float32)
    values[(1,) * ndim] = values[(2,) * ndim] = 1
    found, _ = detect.find_points(values, decoder="components", threshold=0.5)
    np.testing.assert_array_equal(found, [[1.5] * ndim])


def test_peaks_threshold_is_a_share():
    values = np.zeros((9, 9), np.float32)
    values[2, 2], values[6, 6], values[2, 7] = 10, 4, 3.9
    find = lambda **kwargs: len(detect.find_points(values, decoder="peaks", **kwargs)[0])  # noqa: E731
    assert find(threshold=0.4) == 2
    assert find(threshold=0.4, reference=5.0) == 3
    assert find(threshold=0.4, reference=20.0) == 1
    assert find(threshold=0.0) == 3
    assert find(threshold=0.4, floor=10.1) == 0
    assert find(threshold=0.4, floor=10.0) == 2


def test_peaks_with_a_reference_are_those_of_the_tiles():
    values = np.random.default_rng(0).random((40, 40)).astype(np.float32)
    values[:20] *= 0.6
    values[19:21] = 0
    whole, _ = detect.find_points(values, decoder="peaks", threshold=0.5, reference=1.0)
    upper, _ = detect.find_points(values[:20], decoder="peaks", threshold=0.5, reference=1.0)
    lower, _ = detect.find_points(values[20:], decoder="peaks", threshold=0.5, reference=1.0)
    np.testing.assert_array_equal(whole, np.concatenate([upper, lower + np.array([20, 0])]))
    alone, _ = detect.find_points(values[:20], decoder="peaks", threshold=0.5)
    assert len(alone) > len(upper)


@pytest.mark.parametrize("shape", [(7, 9), (5, 6, 7), (1, 8), (1, 1)])
def test_peaks_equal_a_loop(shape):
    values = np.random.default_rng(0).integers(-2, 9, shape).astype(np.float32)
    expected = []
    for at in np.ndindex(shape):
        window = values[tuple(slice(max(0, i - 1), i + 2) for i in at)]
        if values[at] == window.max() and values[at] > 0 and values[at] >= 0.3 * values.max():
            expected.append(at)
    found, _ = detect.find_points(values, decoder="peaks", threshold=0.3)
    np.testing.assert_array_equal(found, np.array(expected, np.float32).reshape(-1, len(shape)))


@pytest.mark.parametrize("decoder", ["components", "peaks"])
@pytest.mark.parametrize("shape", [(6, 7), (3, 4, 5), (0, 4)])
def test_a_map_without_cells(decoder, shape):
    for value in (0.0, -1.0):
        found, scores = detect.find_points(
            np.full(shape, value), decoder=decoder, threshold=0.5, floor=-2.0
        )
        assert found.shape == (0, len(shape))
        assert scores.shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_maps_that_are_not_finite(bad):
    values = np.zeros((4, 4))
    values[1, 1] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        detect.find_points(values, decoder="peaks", threshold=0.5)


def test_no_such_decoder():
    with pytest.raises(ValueError, match="'components' and 'peaks'"):
        detect.find_points(np.zeros((4, 4)), decoder="watershed", threshold=0.5)  # type: ignore


@pytest.mark.parametrize("top", [(4.3, 6.8), (3.6, 5.2, 4.9)])
def test_subpixel_finds_the_top_of_a_parabola(top):
    axes = np.meshgrid(*(np.arange(11.0),) * len(top), indexing="ij")
    values = 500 - sum(
        (2 + i) * (a - t) ** 2 for i, (a, t) in enumerate(zip(axes, top, strict=True))
    )
    found, _ = detect.find_points(values, decoder="peaks", threshold=0.5, subpixel=True)
    np.testing.assert_allclose(found, [top], atol=1e-5)


def test_subpixel_stays_at_the_border_and_on_plateaus():
    values = np.zeros((5, 6), np.float32)
    values[0, 0], values[3, 3], values[3, 4] = 1, 1, 1
    found, _ = detect.find_points(values, decoder="peaks", threshold=0.5, subpixel=True)
    np.testing.assert_array_equal(found, [[0, 0], [3, 3.5], [3, 3.5]])


def test_match_reference(golden):
    arrays = golden("match_points")
    for case in arrays["cases"]:
        one = {k.partition("__")[2]: v for k, v in arrays.items() if k.startswith(f"{case}__")}
        radius = float(one["radius"])
        counts = detect.match_points(one["predicted"], one["true"], radius=radius)
        assert counts == tuple(int(one[f"expected_{k}"]) for k in ("tp", "fp", "fn")), case
        pairs, distances = detect.match_pairs(one["predicted"], one["true"], radius=radius)
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
    pairs, distances = detect.match_pairs(predicted, true, radius=radius)
    number, total = exhaustive(predicted, true, radius)
    assert len(pairs) == number
    assert distances.sum() == pytest.approx(total, abs=1e-9)
    assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == number
    swapped, _ = detect.match_pairs(true, predicted, radius=radius)
    assert len(swapped) == number


def test_match_with_spacing():
    predicted, true = [[0.0, 0, 0]], [[1.0, 3, 0]]
    assert detect.match_points(predicted, true, radius=3.5) == (1, 0, 0)
    assert detect.match_points(predicted, true, radius=3.5, spacing=(2.5, 0.75, 0.75)) == (0, 1, 1)
    assert detect.match_points(predicted, true, radius=4.5, spacing=(2.5, 0.75, 0.75)) == (1, 0, 0)


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
        detect.match_points(predicted, true, radius=radius)


def test_match_thousands_of_points_fast():
    rng = np.random.default_rng(0)
    true = rng.uniform(0, 1000, (5000, 2))
    predicted = true + rng.normal(0, 1, true.shape)
    started = time.perf_counter()
    tp, fp, fn = detect.match_points(predicted[:4800], true, radius=8.0)
    assert time.perf_counter() - started < 5
    assert (tp, fp, fn) == (4800, 0, 200)


def test_match_labels():
    labels = np.zeros((6, 8), int)
    labels[0:2, 0:3], labels[0:2, 5:8], labels[4:6, 0:3], labels[4:6, 5:8] = 3, 5, 7, 900
    single, twice, background = [0.4, 1.2], [[0, 5], [1.4, 7.4]], [[3, 3], [2.6, 0]]
    found = detect.match_labels([single, *twice, *background], labels)
    # 3 holds one point, 5 two (one false positive, no miss); 7 and 900 hold none.
    assert found == (1, 1 + 2, 2)
    assert detect.match_labels([], labels) == (0, 0, 4)
    assert detect.match_labels([single], np.zeros((6, 8), int)) == (0, 1, 0)
    assert detect.match_labels([[5.5, 7.5]], labels) == (1, 0, 3)
    with pytest.raises(ValueError, match="outside the mask"):
        detect.match_labels([[6.0, 1.0]], labels)
