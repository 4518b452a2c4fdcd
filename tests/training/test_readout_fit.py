"""The choice of decoder and threshold."""

import numpy as np

from cellcount_jax.data.sample import Sample
from cellcount_jax.data.targets import inverse_distance_map
from cellcount_jax.inference.readout import Count
from cellcount_jax.methods.base import Readout
from cellcount_jax.training.readout_fit import fit_readout

DOTS = np.array([[5, 5], [5, 8], [20, 20], [10, 25]], np.float32)  # two of them 3 pixels apart


def readout(**fields):
    thresholds = (0.2, 0.3, 0.4)
    given = {
        "count_map": "map",
        "count": "peaks",
        "points_map": "map",
        "single_cell_peak": 1.0,
        "candidates": tuple((d, t) for d in ("components", "peaks") for t in thresholds),
    }
    return Readout(**(given | fields))


def counted(map):
    return Count(0.0, None, None, None, {"map": map})


def sample(dots=DOTS, shape=(32, 32), **fields):
    return Sample("a", np.zeros((*shape, 1), np.uint8), dots, **fields)


def test_the_decoder_that_separates_close_cells_is_chosen_and_counts():
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


def test_within_the_tolerance_the_number_of_points_decides():
    dots = np.array([[y, x] for y in range(3, 60, 10) for x in range(3, 50, 10)], np.float32)
    map = np.zeros((60, 50), np.float32)
    map[tuple(dots.astype(int).T)] = [0.3, 0.3, 0.6] + [0.9] * 27
    map[8, 8] = map[18, 18] = 0.6
    levels = {"candidates": (("peaks", 0.5), ("peaks", 0.7))}
    given = {"counts": [counted(map)], "samples": [sample(dots, (60, 50))], "radius": 2.0}
    # 28 found and 2 false, F1 0.933 and no error of the number; 27 found, F1 0.947.
    for tolerance, threshold in ((0.0, 0.7), (0.01, 0.7), (0.02, 0.5)):
        fitted = fit_readout(readout(**levels, f1_tolerance=tolerance), **given)
        assert fitted.threshold == threshold
