"""Points of a map in tiles are those of the whole map."""

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellcount_jax.inference import detect_tiled
from cellcount_jax.inference.detect import find_points
from cellcount_jax.methods.base import Readout


def find_tiled(values, cuts, *, decoder, threshold, single_cell_peak):
    readout = Readout("m", decoder=decoder, threshold=threshold, single_cell_peak=single_cell_peak)
    detector = detect_tiled.tiled_detector(readout, values.shape)
    edges = [[0, *sorted(set(c)), n] for c, n in zip(cuts, values.shape, strict=True)]
    boxes = itertools.product(
        *([slice(a, b) for a, b in itertools.pairwise(e) if a < b] for e in edges)
    )
    for box in boxes:
        detector.add(box, values[box])
    return detector.finish()


@st.composite
def cut_maps(draw):
    shape = draw(st.sampled_from([(17, 23), (40, 9), (8, 11, 13)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    # Few levels, so that plateaus and ties across borders are common.
    values = rng.integers(-1, draw(st.sampled_from([3, 6, 50])), shape).astype(np.float32)
    cuts = [draw(st.lists(st.integers(1, n - 1), max_size=4)) for n in shape]
    return values, cuts


@settings(max_examples=150, deadline=None)
@given(cut_maps(), st.sampled_from(["peaks", "components"]), st.sampled_from([None, 3.0]))
def test_tiles_give_what_the_whole_gives(cut_map, decoder, single_cell_peak):
    values, cuts = cut_map
    options = {"decoder": decoder, "threshold": 0.7, "single_cell_peak": single_cell_peak}
    points, scores = find_tiled(values, cuts, **options)
    expected_points, expected_scores = find_points(values, **options)
    np.testing.assert_allclose(points, expected_points, atol=1e-5)
    np.testing.assert_array_equal(scores, expected_scores)
    assert points.dtype == scores.dtype == np.float32


@pytest.mark.parametrize("decoder", ["peaks", "components"])
def test_an_empty_map_has_no_points(decoder):
    points, scores = find_tiled(
        np.zeros((6, 7), np.float32),
        [[3], []],
        decoder=decoder,
        threshold=0.5,
        single_cell_peak=1.0,
    )
    assert points.shape == (0, 2)
    assert scores.shape == (0,)


@pytest.mark.parametrize("decoder", ["peaks", "components"])
def test_a_map_that_is_not_finite_is_refused(decoder):
    values = np.full((4, 4), np.nan, np.float32)
    with pytest.raises(ValueError, match="NaN or infinity"):
        find_tiled(values, [[], []], decoder=decoder, threshold=0.5, single_cell_peak=1.0)


@pytest.mark.parametrize("decoder", ["peaks", "components"])
def test_what_is_held_does_not_grow_with_the_map(decoder):
    # A ramp above the threshold: all of it could matter at the borders, and it has one point.
    values = np.linspace(0.8, 1.0, 400 * 90, dtype=np.float32).reshape(400, 90)
    readout = Readout("m", decoder=decoder, threshold=0.7, single_cell_peak=1.0)
    detector, held = detect_tiled.tiled_detector(readout, values.shape), []
    for y, x in itertools.product(range(0, 400, 20), range(0, 90, 30)):
        box = (slice(y, y + 20), slice(x, x + 30))
        detector.add(box, values[box])
        held.append(len(pickle.dumps(detector)))
    assert max(held[30:]) <= 1.5 * max(held[:6])
    points, scores = detector.finish()
    expected = find_points(values, decoder=decoder, threshold=0.7, single_cell_peak=1.0)
    np.testing.assert_allclose(points, expected[0], atol=1e-5)
    np.testing.assert_array_equal(scores, expected[1])


@pytest.mark.parametrize("decoder", ["peaks", "components"])
def test_tiles_out_of_order_are_refused(decoder):
    values = np.ones((8, 4), np.float32)
    readout = Readout("m", decoder=decoder, threshold=0.5)
    detector = detect_tiled.tiled_detector(readout, values.shape)
    upper, lower = ((slice(y, y + 4), slice(0, 4)) for y in (0, 4))
    detector.add(upper, values[upper])
    detector.add(lower, values[lower])
    with pytest.raises(ValueError, match="a tile at 0 comes after the band at 4"):
        detector.add(upper, values[upper])
