"""Records and figures of labelled samples, with points, masks, patches and several decoders."""

import json

import numpy as np
import pytest

from cellcount_jax.data.sample import Sample
from cellcount_jax.data.targets import inverse_distance_map
from cellcount_jax.evaluation.evaluate import decoder_errors, evaluate
from cellcount_jax.evaluation.image import evaluate_image
from cellcount_jax.evaluation.summary import summarise
from cellcount_jax.inference.readout import Count
from cellcount_jax.methods.base import Readout

DOTS = np.array([[5, 5], [5, 8], [20, 20], [10, 25]], np.float32)  # two of them 3 pixels apart


class Found:
    """A counter that finds what it is given."""

    def __init__(self, *counts):
        self.counts = counts

    def without_resampling(self):
        return self

    def count_all(self, images):
        return (found for _, found in zip(images, self.counts, strict=True))


def sample(dots=DOTS, shape=(32, 32), **fields):
    return Sample(**{"name": "a", "image": np.zeros((*shape, 1), np.uint8), "dots": dots} | fields)


def count(points=DOTS, value=None, **fields):
    number = len(points) if value is None else value
    return Count(float(number), points, np.ones(len(points)), None, {}, **fields)


def test_every_fitted_decoder_is_reported():
    map = inverse_distance_map(DOTS, (32, 32))
    fitted = (("components", 0.2), ("peaks", 0.4))
    readout = Readout(
        count_map="map", count="peaks", points_map="map", single_cell_peak=1.0, fitted=fitted
    )
    counts = [Count(4.0, DOTS, np.ones(4), None, {"map": map})]
    found = decoder_errors(counts, [sample()], readout, radius=2.0)
    assert (found["components_threshold"], found["peaks_threshold"]) == (0.2, 0.4)
    assert found["peaks_f1"] == 1.0
    assert found["peaks_mae"] == 0.0
    assert found["components_mae"] == 1.0  # the close pair is one component
    assert found["components_bias"] == -1.0


def test_points_give_grid_errors_and_figures_at_fixed_radii():
    found = evaluate(Found(count(DOTS + np.float32([0, 4.0]))), [sample()], radius=2.0).summary
    assert [found[f"f1_at_{n}px"] for n in (3, 5, 8)] == [0.25, 1.0, 1.0]
    assert (found["f1"], found["radius"], found["tp"]) == (0.25, 2.0, 1)
    assert found["game_0"] == found["n_points_mae"] == found["n_points_bias"] == 0.0
    assert found["game_3"] > 0
    assert "label_f1" not in found
    assert "over_radius" not in found
    json.dumps(found, allow_nan=False)


def test_training_asks_for_no_details():
    record = evaluate(Found(count()), [sample()], radius=2.0, details=False).images[0]
    assert (record.matches, record.game) == ({2.0: (4, 0, 0)}, ())


def test_points_in_masks():
    labels = np.zeros((32, 32), np.uint16)
    for i, (y, x) in enumerate(DOTS.astype(int)):
        labels[y, x] = i + 1
    points = DOTS.copy()
    points[3] = (0, 0)  # one on the background, one cell missed
    found = evaluate(Found(count(points)), [sample(labels=labels)], radius=2.0).summary
    assert found["label_precision"] == pytest.approx(3 / 4)
    assert found["label_recall"] == pytest.approx(3 / 4)


@pytest.mark.parametrize(
    ("shape", "spacing", "f1"),
    [
        ((9, 9, 9), None, 1.0),
        ((9, 9, 9), (3.0, 1.0, 1.0), 0.0),  # four slices of 3 um are 12 um, too far
        ((9, 9, 9), (3.0, 1.0), 1.0),  # not of this image's axes
    ],
)
def test_distances_in_volumes_are_physical(shape, spacing, f1):
    volume = sample(np.array([[2, 4, 4]], np.float32), shape, spacing=spacing)
    found = evaluate_image(volume, count(np.array([[6, 4, 4]])), radius=8.0)
    assert summarise([found])["f1"] == f1


def test_counts_and_numbers_of_points_are_summed_over_the_patches_of_an_image():
    patches = [
        sample(name=name, group=name[0], dots=DOTS[:n])
        for name, n in (("a@0-0", 2), ("b@0-0", 4), ("a@0-1", 1))
    ]
    counts = [count(DOTS[:n], value) for n, value in ((3, 3.5), (3, 2.0), (0, 0.5))]
    found = evaluate(Found(*counts), patches, radius=2.0).summary
    # Images: a 3 of 4.0 predicted, b 4 of 2.0; points 3 and 3.
    assert (found["n_images"], found["n_patches"], found["n_cells"]) == (2, 3, 7)
    assert (found["mae"], found["bias"]) == (pytest.approx(1.5), pytest.approx(-0.5))
    assert found["patch_mae"] == pytest.approx((1.5 + 2 + 0.5) / 3)
    assert found["patch_bias"] == pytest.approx(-1 / 3)
    assert found["n_points_mae"] == pytest.approx(0.5)


def test_a_sample_without_dots_is_an_error():
    with pytest.raises(ValueError, match="b: no dots to compare with"):
        evaluate(Found(), [sample(), sample(None, name="b")], radius=2.0)
