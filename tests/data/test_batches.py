"""The stream of batches: every image once per epoch, the same after a restart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cellcount_jax.data import batches, targets
from cellcount_jax.data.preprocess import Preprocessing
from cellcount_jax.data.sample import Sample


def sample(name: str, shape: tuple[int, int], dots: list) -> Sample:
    image = np.full((*shape, 1), 100, np.uint8)
    return Sample(name, image, np.array(dots, np.float32).reshape(-1, 2))


def plain() -> Preprocessing:
    return Preprocessing(channels=1, mean=(0.0,), std=(1.0,))


@pytest.mark.parametrize(("n", "size"), [(7, 3), (3, 8), (8, 8)])
def test_every_epoch_holds_each_row_once(n, size):
    key = jax.random.key(0)
    steps = 4 * n
    stream = np.concatenate(
        [batches.stream_indices(key, jnp.int32(s), n=n, batch_size=size) for s in range(steps)]
    )
    epochs = stream[: len(stream) // n * n].reshape(-1, n)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(n), (len(epochs), 1)))
    assert len({tuple(e) for e in epochs}) > 1  # reshuffled


def test_a_crop_counts_its_dots_and_small_images_are_reflected():
    samples = [sample("a", (20, 20), [[3, 3], [10, 12]]), sample("b", (8, 20), [[7, 5]])]
    data = batches.stack_samples(samples, plain(), crop=(16, 16), target=_target)
    assert data["image"].shape == (2, 20, 20, 1)
    assert data["size"].tolist() == [[20, 20], [16, 20]]
    assert data["count"].tolist() == [2, 2]  # the second image with its reflection
    assert data["dots"][1, 8, 5] == 1
    np.testing.assert_allclose(data["target"].sum((1, 2)), data["count"], rtol=1e-4)
    device = {"labelled": jax.tree.map(jnp.asarray, data)}
    for step in range(5):
        batch = batches.sample_batch(
            device, jnp.int32(step), jax.random.key(0), sizes={"labelled": 4}, crop=(16, 16)
        )["labelled"]
        assert batch["image"].shape == (4, 16, 16, 1)
        # Kernels at the border of a crop are cut; no mass is added.
        assert np.all(batch["target"].sum((1, 2)) <= data["count"].max() + 1e-3)
        np.testing.assert_array_equal(batch["count"], np.rint(batch["count"]))


def test_a_mosaic_counts_its_dots():
    samples = [sample(str(i), (8, 8), [[1, 1]] * i + [[6, 6]]) for i in range(4)]
    data = {"labelled": batches.stack_samples(samples, plain(), target=_target)}
    data = jax.tree.map(jnp.asarray, data)
    batch = batches.sample_batch(
        data, jnp.int32(0), jax.random.key(0), sizes={"labelled": 4}, mosaic=1.0, flips=False
    )["labelled"]
    # Of a row come its upper left quadrant, of the third before it the lower right one.
    expected = [row + 1 for row in batch["index"].tolist()]
    assert batch["count"].tolist() == expected


def test_the_batch_of_a_step_depends_only_on_seed_and_step():
    data = {
        "labelled": batches.stack_samples(
            [sample(str(i), (8, 8), [[i, i]]) for i in range(5)], plain()
        )
    }
    data = jax.tree.map(jnp.asarray, data)

    def batch(step, seed=0):
        key = jax.random.key(seed)
        return batches.sample_batch(data, jnp.int32(step), key, sizes={"labelled": 2})["labelled"]

    np.testing.assert_array_equal(batch(3)["index"], batch(3)["index"])
    assert any(not np.array_equal(batch(s)["index"], batch(s, 1)["index"]) for s in range(5))


def test_nothing_to_train_on_is_an_error():
    with pytest.raises(ValueError, match="no images to train on"):
        batches.stack_samples([], plain())


def _target(dots, shape):
    return targets.gaussian_density(dots, shape, sigma=1.0)
