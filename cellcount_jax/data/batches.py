"""Batches from data on the device: pure functions of (data, step, key).

`data.streaming` draws the same batches for datasets that do not fit there.

The order is one endless stream of shuffled epochs: every epoch contains each image exactly once,
and a batch may span two epochs, so that no row is padding or dropped. The batch of a step depends
only on the seed and the step, so a resumed run continues with the same batches.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cellcount_jax.data import augment
from cellcount_jax.data.preprocess import Preprocessing, preprocess
from cellcount_jax.data.sample import Sample

Target = Callable[[np.ndarray, Sequence[int]], np.ndarray]


def stack_samples(
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    *,
    target: Target | None = None,
    weight: Target | None = None,
    crop: Sequence[int] | None = None,
    multiple: int = 1,
) -> dict[str, np.ndarray]:
    """One array per field, with images padded to a common size.

    An image smaller than the crop (or, without crops, than the largest image) is extended by
    reflection, with its dots and target; the padding beyond that is never used.

    Args:
      samples: Images, all 2-D or all 3-D.
      preprocessing: Applied to each whole image.
      target: Makes a map from dots and space shape; without it there is no field `target`.
      weight: Makes the loss weight from the places marked as no cell and the space shape; without
        it there is no field `weight`.
      crop: Side of random crops per space axis; None for whole images.
      multiple: Sides of the rows become multiples of it.

    Returns:
      Image [N, *space, C] float32, count [N] (dots of the reflected image), index [N], size
      [N, ndim] (region to crop from), dots [N, *space] uint8 (raster of dots), target and
      weight [N, *space].

    Raises:
      ValueError: There are no samples.
    """
    if not samples:
        raise ValueError("no images to train on: this split is empty")
    sizes = np.array([s.image.shape[:-1] for s in samples])
    if crop is None:
        sizes = np.broadcast_to(-(-sizes.max(axis=0) // multiple) * multiple, sizes.shape)
    else:
        sizes = np.maximum(sizes, np.asarray(crop))
    # Models are initialised on a whole row, so its sides must suit the network, too.
    space = -(-sizes.max(axis=0) // multiple) * multiple
    fields: dict[str, list[np.ndarray]] = {"image": [], "dots": [], "target": [], "weight": []}
    for sample, size in zip(samples, sizes, strict=True):
        shape = sample.image.shape[:-1]
        dots = np.zeros((0, len(shape)), np.float32) if sample.dots is None else sample.dots
        maps = {"image": preprocess(sample.image, preprocessing)}
        maps["dots"] = rasterize_counts(dots, shape)
        if target is not None:
            maps["target"] = np.asarray(target(dots, shape), np.float32)
        if weight is not None:
            maps["weight"] = weight(marked_places(sample), shape)
        for name, value in maps.items():
            fields[name].append(_pad(value, size, space))
    arrays = {name: np.stack(values) for name, values in fields.items() if values}
    return {
        **arrays,
        "count": arrays["dots"].sum(axis=tuple(range(1, 1 + len(space))), dtype=np.float32),
        "index": np.arange(len(samples), dtype=np.int32),
        "size": sizes.astype(np.int32),
    }


def marked_places(sample: Sample) -> np.ndarray:
    """Places [K, ndim] marked as no cell; none is an empty array."""
    ndim = sample.image.ndim - 1
    return np.zeros((0, ndim), np.float32) if sample.not_cells is None else sample.not_cells


def _pad(value: np.ndarray, size: np.ndarray, space: np.ndarray) -> np.ndarray:
    """Extends the space axes by reflection up to `size`, then by zeros up to `space`."""
    for sides, mode in ((size, "symmetric"), (space, "constant")):
        widths = [(0, int(new - old)) for old, new in zip(value.shape, sides, strict=False)]
        value = np.pad(value, widths + [(0, 0)] * (value.ndim - len(sides)), mode=mode)  # type: ignore[call-overload]
    return value


def rasterize_counts(dots: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Number of dots whose centre is nearest to each pixel, uint8 [*shape]."""
    image = np.zeros(shape, np.uint8)
    cells = np.clip(np.rint(dots).astype(int), 0, np.asarray(shape) - 1)
    np.add.at(image, tuple(cells.T), 1)
    return image


class StreamKeys(NamedTuple):
    """Random keys of one stream: for the order of epochs, and for the augmentations of one step."""

    order: jax.Array
    crop: jax.Array
    flips: jax.Array
    light: jax.Array


def stream_keys(key: jax.Array, number: jax.Array | int, step: jax.Array | int) -> StreamKeys:
    """Keys of a step.

    Args:
      key: The run's data key.
      number: Index of the stream in the sorted names of the streams.
      step: Number of the step; may be traced.
    """
    order, change = jax.random.split(jax.random.fold_in(key, number))
    return StreamKeys(order, *jax.random.split(jax.random.fold_in(change, step), 3))


def epoch_order(key: jax.Array, epoch: jax.Array | int, *, n: int) -> jax.Array:
    """Rows [n] int32 in the order of one epoch; `key` is the stream's `order` key."""
    return jax.random.permutation(jax.random.fold_in(key, epoch), n)


def stream_indices(key: jax.Array, step: jax.Array, *, n: int, batch_size: int) -> jax.Array:
    """Rows [batch_size] int32 of the batch of `step` in the endless stream of shuffled epochs."""
    start = step * batch_size
    epochs = start // n + jnp.arange(batch_size // n + 2)
    order = jax.vmap(lambda epoch: epoch_order(key, epoch, n=n))(epochs)
    return jax.lax.dynamic_slice(order.reshape(-1), (start % n,), (batch_size,))


def sample_batch(
    data: Mapping[str, Mapping[str, jax.Array]],
    step: jax.Array,
    key: jax.Array,
    *,
    sizes: Mapping[str, int],
    crop: Sequence[int] | None = None,
    mosaic: float = 0.0,
    flips: bool = True,
    jitter: augment.IntensityJitter = augment.NO_JITTER,
) -> dict[str, dict[str, jax.Array]]:
    """The batch of a step, with augmentation.

    Args:
      data: Fields of `stack_samples` by stream name, on the device.
      step: Number of the step; may be traced.
      key: The run's data key, the same for all steps.
      sizes: Number of rows per batch of each stream.
      crop: Side per space axis of random crops; None takes whole images.
      mosaic: Probability that an image is replaced by a mosaic, see `augment.random_mosaics`.
      flips: Whether to flip, and rotate by multiples of 90 degrees, at random.
      jitter: Largest intensity changes.

    Returns:
      Image, count, mask, index and, if present, target and weight, by stream. The count of a crop
      or mosaic is the number of dots inside it.
    """
    batch = {}
    for number, (name, rows) in enumerate(sorted(data.items())):
        keys = stream_keys(key, number, step)
        index = stream_indices(keys.order, step, n=len(rows["index"]), batch_size=sizes[name])
        maps = {f: rows[f][index] for f in ("image", "target", "weight", "dots") if f in rows}
        count = rows["count"][index]
        if crop is not None:
            maps = augment.random_crop(keys.crop, maps, rows["size"][index], crop)
        if mosaic:
            drawn = jax.random.fold_in(keys.crop, 1)
            maps = augment.random_mosaics(drawn, maps, probability=mosaic)
        dots = maps.pop("dots")
        if crop is not None or mosaic:
            count = dots.sum(axis=tuple(range(1, dots.ndim)), dtype=jnp.float32)
        mask = jnp.ones(sizes[name], jnp.float32)
        batch[name] = {**maps, "count": count, "mask": mask, "index": rows["index"][index]}
    return augment_batch(batch, step, key, flips=flips, jitter=jitter)


def augment_batch(
    batch: Mapping[str, Mapping[str, jax.Array]],
    step: jax.Array,
    key: jax.Array,
    *,
    flips: bool = True,
    jitter: augment.IntensityJitter = augment.NO_JITTER,
) -> dict[str, dict[str, jax.Array]]:
    """Augments each row by random flips, rotations and intensity changes.

    Args:
      batch: Fields of whole images or crops by stream name, as from `streaming.open_stream`.
      step: As in `sample_batch`, like all arguments below.
      key: The run's data key.
      flips: Whether to flip and rotate at random.
      jitter: Largest intensity changes.

    Returns:
      The same fields; only image, target and weight are changed.
    """
    changed = {}
    for number, (name, rows) in enumerate(sorted(batch.items())):
        keys = stream_keys(key, number, step)
        maps = {f: rows[f] for f in ("image", "target", "weight") if f in rows}
        ndim = maps["image"].ndim - 2
        if flips:
            maps = augment.random_flips_and_rotations(keys.flips, maps, ndim=ndim)
        maps["image"] = augment.random_intensity(
            keys.light, maps["image"], ndim=ndim, jitter=jitter
        )
        changed[name] = {**rows, **maps}
    return changed
