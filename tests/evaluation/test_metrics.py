"""Errors of counts and points against reference pairs and cases computed by hand."""

import json

import numpy as np
import pytest

from cellcount_jax.evaluation import metrics
from cellcount_jax.evaluation.matching import match_points


def test_count_errors():
    found = metrics.count_errors([10, 0, 33, 5], [12, 0, 30, 0])
    differences = np.array([-2.0, 0, 3, 5])
    assert found["n"] == 4
    assert found["mae"] == pytest.approx(2.5)
    assert found["mse"] == pytest.approx(38 / 4)
    assert found["rmse"] == pytest.approx(np.sqrt(38 / 4))
    assert found["bias"] == pytest.approx(1.5)  # Predicted minus true.
    assert found["mape"] == pytest.approx(100 * (2 / 12 + 3 / 30) / 2)
    spread = 1.96 * differences.std(ddof=1)
    assert found["limits_of_agreement"] == pytest.approx([1.5 - spread, 1.5 + spread])
    json.dumps(found, allow_nan=False)


def test_what_is_not_defined_is_none():
    empty = metrics.count_errors([], [])
    assert empty.pop("n") == 0
    assert set(empty.values()) == {None}
    assert metrics.count_errors([3.0], [0])["mape"] is None
    one = metrics.count_errors([3.0], [2])
    assert (one["bias"], one["limits_of_agreement"]) == (1.0, None)


def test_equal_differences_have_no_spread():
    found = metrics.count_errors(np.array([0.1, 7.1, 1e5 + 0.1]), [0, 7, 1e5])
    np.testing.assert_allclose(found["limits_of_agreement"], [0.1, 0.1], atol=1e-5)


@pytest.mark.parametrize(
    ("predicted", "true", "says"),
    [
        ([1.0, np.nan], [1, 2], "predicted count of image 1 is nan"),
        ([1.0, 2.0], [np.inf, 2], "true count of image 0 is inf"),
        ([1.0, 2.0], [1], "do not fit"),
    ],
)
def test_counts_that_cannot_be_compared(predicted, true, says):
    with pytest.raises(ValueError, match=says):
        metrics.count_errors(predicted, true)


def test_game_reference(golden):
    arrays = golden("game")
    for level in arrays["levels"]:
        found = [
            metrics.game(p, t, level=int(level))
            for p, t in zip(arrays["predicted_maps"], arrays["true_maps"], strict=True)
        ]
        np.testing.assert_allclose(found, arrays["expected_game_per_image"][:, level], atol=1e-4)
        assert np.mean(found) == pytest.approx(arrays["expected_game"][level], abs=1e-4)


def test_game_pads_behind():
    predicted, true = np.zeros((5, 6)), np.zeros((5, 6))
    predicted[2, 0], true[3, 0] = 1, 1
    # Padded to 8 x 8 at level 2, parts are 2 x 2; to 6 x 6 at level 1, parts are 3 x 3.
    assert [metrics.game(predicted, true, level=n) for n in range(4)] == [0, 2, 0, 2]


def test_game_never_falls_with_the_level():
    rng = np.random.default_rng(0)
    predicted, true = rng.random((13, 22)), rng.random((13, 22))
    found = [metrics.game(predicted, true, level=n) for n in range(3)]
    assert found[0] == pytest.approx(abs(predicted.sum() - true.sum()))
    predicted, true = predicted[:8, :16], true[:8, :16]
    found = [metrics.game(predicted, true, level=n) for n in range(5)]
    assert found == sorted(found)


@pytest.mark.parametrize("shape", [(13, 22), (5, 9, 12)])
def test_game_of_points_is_that_of_their_maps(shape):
    rng = np.random.default_rng(0)
    clouds = [rng.uniform(0, 1, (n, len(shape))) * shape - 0.5 for n in (40, 33)]
    maps = []
    for cloud in clouds:
        density = np.zeros(shape)
        np.add.at(density, tuple(np.floor(cloud + 0.5).astype(int).T), 1)
        maps.append(density)
    for level in range(4):
        expected = metrics.game(*maps, level=level)
        assert metrics.game_points(*clouds, shape, level=level) == pytest.approx(expected)
    assert metrics.game_points([], clouds[0], shape, level=2) == 40


def test_game_rejects():
    with pytest.raises(ValueError, match=r"\(4, 4\) and \(4, 5\)"):
        metrics.game(np.zeros((4, 4)), np.zeros((4, 5)), level=1)
    with pytest.raises(ValueError, match="level -1"):
        metrics.game(np.zeros((4, 4)), np.zeros((4, 4)), level=-1)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((0, 0, 0), (1, 1, 1)),
        ((0, 3, 0), (0, 0, 0)),
        ((0, 0, 3), (0, 0, 0)),
        ((3, 1, 0), (0.75, 1, 6 / 7)),
        ((3, 0, 3), (1, 0.5, 2 / 3)),
    ],
)
def test_precision_recall_f1(counts, expected):
    found = metrics.precision_recall_f1(*counts)
    assert tuple(found.values()) == pytest.approx(expected)


def test_localisation_reference(golden):
    arrays = golden("match_points")
    matches = [
        match_points(*(arrays[f"{case}__{name}"] for name in ("predicted", "true")), radius=5.0)
        for case in arrays["cases"]
    ]
    found = metrics.localisation(matches)
    for key in ("precision", "recall", "f1"):
        assert found[key] == pytest.approx(float(arrays[f"expected_micro_{key}"]), abs=1e-6)
    assert found["n"] == 16


def test_micro_and_macro():
    found = metrics.localisation([(4, 0, 0), (0, 0, 1), (0, 0, 0)])
    assert (found["tp"], found["fp"], found["fn"]) == (4, 0, 1)
    assert found["f1"] == pytest.approx(8 / 9)
    assert found["macro_f1"] == pytest.approx((1 + 0 + 1) / 3)
    assert (found["macro_precision"], found["macro_recall"]) == pytest.approx((2 / 3, 2 / 3))
    assert metrics.localisation([])["macro_f1"] is None
    json.dumps(found, allow_nan=False)
