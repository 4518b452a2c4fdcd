"""The choice of decoder and threshold, and the figures of points beyond one radius."""

import numpy as np
import pytest

from cellcount_jax.data.sample import Sample
from cellcount_jax.data.targets import inverse_distance_map
from cellcount_jax.evaluation.evaluate import evaluate, fit_readout
from cellcount_jax.evaluation.localisation import point_errors, spacing_of
from cellcount_jax.inference.counter import Count
from cellcount_jax.methods.base import Readout

DOTS = np.array([[5, 5], [5, 8], [20, 20], [10, 25]], np.float32)  # two of them 3 pixels apart


def readout(**fields):
    thresholds = (0.2, 0.3, 0.4)
    given = {
        "count_map": "map",
        "count": "peaks",
        "points_map": "map",
        "reference": 1.0,
        "candidates": tuple((d, t) for d in ("components", "peaks") for t in thresholds),
    }
    return Readout(**(given | fields))


def counted(map):
    return Count(0.0, None, None, None, {"map": map})


def sample(dots=DOTS, shape=(32, 32), **fields):
    return Sample("a", np.zeros((*shape, 1), np.uint8), dots, **fields)


def test_the_decoder_that_parts_close_cells_is_chosen_and_counts():
    counts = [counted(inverse_distance_map(DOTS, (32, 32)))]
    fitted = fit_readout(readout(), counts, [sample()], radius=2.0)
    assert (fitted.decoder, fitted.count) == ("peaks", "peaks")
    assert [name for name, _ in fitted.fitted] == ["components", "peaks"]


def test_components_are_chosen_where_a_map_is_rough():
    rough = np.zeros((32, 32), np.float32)
    rough[4:9, 4:9] = 0.9 + 0.1 * np.indices((5, 5)).sum(0) % 2  # many peaks on one cell
    counts = [counted(rough)]
    fitted = fit_readout(readout(), counts, [sample(np.array([[6, 6]]))], radius=2.0)
    assert (fitted.decoder, fitted.count) == ("components", "components")


def test_a_count_by_integral_stays_one():
    counts = [counted(inverse_distance_map(DOTS, (32, 32)))]
    assert (
        fit_readout(readout(count="integral"), counts, [sample()], radius=2.0).count == "integral"
    )


def test_every_fitted_decoder_is_reported():
    map = inverse_distance_map(DOTS, (32, 32))
    fitted = fit_readout(readout(), [counted(map)], [sample()], radius=2.0)
    count = Count(4.0, DOTS, np.ones(4), None, {"map": map})
    found = point_errors([count], [sample()], fitted, radius=2.0)
    assert found["peaks_f1"] == 1.0
    assert found["peaks_mae"] == 0.0
    assert found["components_mae"] == 1.0  # the close pair is one component
    assert found["components_bias"] == -1.0
    assert found["game_3"] == 0.0
    assert "label_f1" not in found


def test_points_in_masks():
    labels = np.zeros((32, 32), np.uint16)
    for i, (y, x) in enumerate(DOTS.astype(int)):
        labels[y, x] = i + 1
    points = DOTS.copy()
    points[3] = (0, 0)  # one on the background, one cell missed
    count = Count(4.0, points, np.ones(4), None, {"map": np.zeros((32, 32))})
    found = point_errors([count], [sample(labels=labels)], readout(candidates=()), radius=2.0)
    assert found["label_precision"] == pytest.approx(3 / 4)
    assert found["label_recall"] == pytest.approx(3 / 4)


def test_spacing_is_that_of_volumes_that_agree():
    volume = sample(np.zeros((0, 3)), (4, 8, 8), spacing=(2.0, 1.0, 1.0))
    assert spacing_of([volume, volume]) == (2.0, 1.0, 1.0)
    assert spacing_of([volume, sample(np.zeros((0, 3)), (4, 8, 8))]) is None
    assert spacing_of([sample(spacing=(2.0, 1.0))]) is None


def test_distances_in_volumes_are_physical():
    """Four slices of 3 um are 12 um: too far for 8 pixels of 1 um, near enough in bare voxels."""

    class Found:
        def at_own_scale(self):
            return self

        def count_all(self, images):
            return (Count(1.0, np.array([[6, 4, 4]]), np.ones(1), None, {}) for _ in images)

    dots = np.array([[2, 4, 4]], np.float32)
    for spacing, f1 in ((None, 1.0), ((3.0, 1.0, 1.0), 0.0)):
        volume = sample(dots, (9, 9, 9), spacing=spacing)
        assert evaluate(Found(), [volume], radius=8.0).summary["f1"] == f1


def test_within_the_tolerance_the_number_of_points_decides():
    dots = np.array([[y, x] for y in range(3, 60, 10) for x in range(3, 50, 10)], np.float32)
    map = np.zeros((60, 50), np.float32)
    map[tuple(dots.astype(int).T)] = [0.3, 0.3, 0.6] + [0.9] * 27
    map[8, 8] = map[18, 18] = 0.6
    levels = {"candidates": (("peaks", 0.5), ("peaks", 0.7))}
    given = {"counts": [counted(map)], "samples": [sample(dots, (60, 50))], "radius": 2.0}
    # 28 found and 2 false, F1 0.933 and no error of the number; 27 found, F1 0.947.
    for tolerance, threshold in ((0.0, 0.7), (0.01, 0.7), (0.02, 0.5)):
        fitted = fit_readout(readout(**levels, tolerance=tolerance), **given)
        assert fitted.threshold == threshold
