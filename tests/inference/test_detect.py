"""Decoders against reference pairs and loops."""

import numpy as np
import pytest

from cellcount_jax.inference import detect

FIDTM = 100 / 255
FIDTM_FLOOR = 0.1
"""A map whose maximum is smaller holds no points in the reference."""


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
            values = values if values.max() >= FIDTM_FLOOR else np.zeros_like(values)
            found, scores = detect.find_points(values, decoder="peaks", threshold=FIDTM)
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


def test_peaks_threshold_is_a_fraction():
    values = np.zeros((9, 9), np.float32)
    values[2, 2], values[6, 6], values[2, 7] = 10, 4, 3.9
    find = lambda **kwargs: len(detect.find_points(values, decoder="peaks", **kwargs)[0])  # noqa: E731
    assert find(threshold=0.4) == 2
    assert find(threshold=0.4, single_cell_peak=5.0) == 3
    assert find(threshold=0.4, single_cell_peak=20.0) == 1
    assert find(threshold=0.0) == 3


def test_peaks_with_a_single_cell_peak_are_those_of_the_tiles():
    values = np.random.default_rng(0).random((40, 40)).astype(np.float32)
    values[:20] *= 0.6
    values[19:21] = 0
    whole, _ = detect.find_points(values, decoder="peaks", threshold=0.5, single_cell_peak=1.0)
    upper, _ = detect.find_points(values[:20], decoder="peaks", threshold=0.5, single_cell_peak=1.0)
    lower, _ = detect.find_points(values[20:], decoder="peaks", threshold=0.5, single_cell_peak=1.0)
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
        found, scores = detect.find_points(np.full(shape, value), decoder=decoder, threshold=0.5)
        assert found.shape == (0, len(shape))
        assert scores.shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_maps_that_are_not_finite_are_refused(bad):
    values = np.zeros((4, 4))
    values[1, 1] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        detect.find_points(values, decoder="peaks", threshold=0.5)


def test_an_unknown_decoder_is_refused():
    with pytest.raises(ValueError, match="'components' or 'peaks'"):
        detect.find_points(np.zeros((4, 4)), decoder="watershed", threshold=0.5)  # type: ignore
