"""Places marked as no cell, from a sample to the loss weight of a batch."""

import jax
import numpy as np
import pytest

from cellcount_jax.data import batches, patches, targets, windows
from cellcount_jax.data.preprocess import Preprocessing
from cellcount_jax.data.resize import resize_sample
from cellcount_jax.data.sample import Sample

PLAIN = Preprocessing(channels=1, normalise="dtype", mean=(0.0,), std=(1.0,))


def weight(places, shape):
    return targets.raised_weight(places, shape, radius=2.5, weight=7.0)


@pytest.mark.parametrize("shape", [(12, 9), (5, 8, 7)])
def test_raised_weight_against_a_loop(shape):
    rng = np.random.default_rng(0)
    places = rng.uniform(-3, np.array(shape) + 2, (4, len(shape)))
    expected = np.ones(shape, np.float32)
    for pixel in np.ndindex(*shape):
        if (np.linalg.norm(places - pixel, axis=1) <= 2.5).any():
            expected[pixel] = 7
    np.testing.assert_array_equal(weight(places, shape), expected)
    assert 1 < expected.mean() < 7
    assert (weight(places[:0], shape) == 1).all()


def sample_of(places, shape=(24, 20)):
    """A sample whose image shows an eighth of the weight that it should get."""
    places = np.asarray(places, np.float32)
    image = weight(places, shape)[..., None] / 8
    return Sample("a", image, np.array([[1.0, 1.0]], np.float32), not_cells=places)


def test_the_weight_stays_on_its_place_through_crops_mosaics_and_flips():
    samples = [sample_of([[5, 6], [16, 14]]), sample_of([[11, 3]])]
    data = {
        "labelled": batches.stack_samples(
            samples, PLAIN, target=lambda d, s: np.zeros(s), weight=weight, crop=(16, 16)
        )
    }
    for step in range(6):
        batch = batches.sample_batch(
            data, step, jax.random.key(0), sizes={"labelled": 4}, crop=(16, 16), mosaic=0.5
        )["labelled"]
        np.testing.assert_allclose(batch["weight"], 8 * batch["image"][..., 0])
    assert batch["weight"].max() == 7


def test_a_window_has_the_weight_of_the_whole_image():
    sample = sample_of([[5, 6], [16, 14]])
    whole = weight(sample.not_cells, (24, 20))
    reader = windows.WindowReader(PLAIN, weight=weight)
    for corner in ([0, 0], [4, 3], [14, 11]):
        found = reader.read(0, sample, np.array(corner), np.array([10, 9]))["weight"]
        y, x = corner
        np.testing.assert_array_equal(found, whole[y : y + 10, x : x + 9])


def test_a_sample_without_marks_has_weight_one():
    plain = Sample("b", np.zeros((24, 20, 1), np.float32), np.zeros((0, 2), np.float32))
    rows = batches.stack_samples([plain, sample_of([[5, 6]])], PLAIN, weight=weight)
    assert (rows["weight"][0] == 1).all()
    assert rows["weight"][1].max() == 7


def test_marks_are_resized_and_cut_with_the_image():
    sample = sample_of([[5, 6], [16, 14]], (24, 24))
    resized = resize_sample(sample, (48, 48))
    np.testing.assert_allclose(resized.not_cells, [[10.5, 12.5], [32.5, 28.5]])
    tiles = patches.cut(sample, tile=12)
    assert [t.not_cells.tolist() for t in tiles] == [[[5, 6]], [], [], [[4, 2]]]
