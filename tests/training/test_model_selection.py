"""Readouts that are calibrated on training images while a stage is trained."""

import dataclasses

import numpy as np
import pytest

from cellcount_jax.data.preprocess import Preprocessing
from cellcount_jax.data.sample import Sample
from cellcount_jax.inference.counter import Counter
from cellcount_jax.methods.base import Readout, Stage, Variables
from cellcount_jax.training import model_selection


def bright_counter(**readout) -> Counter:
    """Its density is the intensity of each pixel."""
    stage = Stage(
        name="bright",
        init=None,
        loss=None,
        predict=lambda variables, images: {"density": images[..., 0]},
        readout=Readout("density", **readout),
        stride=1,
        halo=0,
    )
    return Counter(stage, Variables({}, {}, {}, {}), Preprocessing(channels=1, normalise="minmax"))


def bright_pixels(*numbers: int, dots_per_pixel: float) -> list[Sample]:
    """Dark images with a bright rectangle two pixels high, and as many dots for each pixel as said.

    Single pixels and thin lines would be taken for hot pixels.
    """
    samples = []
    for i, number in enumerate(numbers):
        image = np.zeros((8, 8, 1), np.uint8)
        image[3:5, 1 : 1 + number // 2] = 255
        n_dots = round(number * dots_per_pixel)
        samples.append(Sample(f"image {i}", image, np.zeros((n_dots, 2), np.float32)))
    return samples


@pytest.mark.parametrize("dots_per_pixel", [0.5, 3.0])
def test_a_calibrated_readout_counts_the_training_images_right(dots_per_pixel):
    train = bright_pixels(4, 10, 6, dots_per_pixel=dots_per_pixel)
    counter = bright_counter(calibrate=True, count_scale=2.0)
    fitted = model_selection.with_fitted_readout(counter, train[:1], train, radius=2.0)
    counts = [fitted.count(sample.image).count for sample in train]
    np.testing.assert_allclose(counts, [s.count for s in train], rtol=1e-5)
    assert not fitted.stage.readout.calibrate


def test_a_readout_that_needs_no_calibration_stays_as_it_is():
    train = bright_pixels(4, 10, dots_per_pixel=3.0)
    counter = bright_counter(count_scale=2.0)
    fitted = model_selection.with_fitted_readout(counter, train, train, radius=2.0)
    assert fitted.stage.readout == counter.stage.readout


def test_images_without_cells_leave_the_scale():
    train = bright_pixels(4, 10, dots_per_pixel=0.0)
    counter = bright_counter(calibrate=True, count_scale=2.0)
    fitted = model_selection.with_fitted_readout(counter, train, train, radius=2.0)
    assert fitted.stage.readout == dataclasses.replace(counter.stage.readout, calibrate=False)
