"""Batches of datasets that do not fit on the device: cropped on the host, prefetched by Grain.

The stream is that of `batches.sample_batch`: the same shuffled epochs and the same crops, drawn
from the same keys, so results do not depend on where the data are. The batch of a step is a pure
function of seed and step: a run resumed after step k opens its stream at k, and a host that reads
some rows of a batch gets those of the whole batch.
"""

import functools
import math
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

from cellcount_jax.data import batches
from cellcount_jax.data.preprocess import Preprocessing
from cellcount_jax.data.sample import Sample
from cellcount_jax.data.windows import WindowReader

if TYPE_CHECKING:
    import grain

Rows = dict[str, np.ndarray]

THREADS = min(8, os.cpu_count() or 1)

PREFETCH_PER_THREAD = 2
"""Number of batches per thread that are prefetched."""


def open_stream(
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    seed: int,
    target: batches.Target | None = None,
    weight: batches.Target | None = None,
    crop: Sequence[int] | None = None,
    multiple: int = 1,
    number: int = 0,
    start_step: int = 0,
    rows: Sequence[int] | None = None,
    threads: int = THREADS,
) -> "grain.DatasetIterator[Rows]":
    """Endless batches of random crops, or of whole images.

    Args:
      samples: Samples by index, read when needed; all 2-D or all 3-D.
      preprocessing: Preprocessing of whole images.
      batch_size: Number of rows of the batch over all hosts.
      seed: Seed of the run; its data key is `jax.random.key(seed)`.
      target: Makes a map from dots and space shape; without it no `target` is made.
      weight: Makes a map from places marked as no cell and space shape, likewise.
      crop: Side per space axis of random crops; None takes whole images padded to one size, as
        `batches.stack_samples` does, for which the size of every image is read first.
      multiple: Without crops, sides become multiples of it.
      number: Index of the stream in the sorted names of the run's streams.
      start_step: Step of the first batch.
      rows: Rows of each batch that this host reads; None: all.
      threads: Number of reading threads; 0 reads on demand.

    Returns:
      Iterator over image [b, *side, C], target and weight [b, *side], count [b], mask [b] (ones)
      and index [b], before flips and intensity changes, which `batches.augment_batch` makes on
      the device. Must be closed.

    Raises:
      ValueError: There are no samples; or, while reading, an image cannot be used, which is named.
    """
    if not len(samples):
        raise ValueError("no images to read: this split is empty")
    import grain  # importing takes half a second, and only large datasets need it

    side = common_side(samples, multiple) if crop is None else np.asarray(crop)
    batch = functools.partial(
        _read_batch,
        samples,
        WindowReader(preprocessing, target=target, weight=weight),
        side,
        np.arange(batch_size) if rows is None else np.asarray(rows, int),
        _draws(len(samples), batch_size, side, seed, number),
    )
    prefetch = PREFETCH_PER_THREAD * threads
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
    steps = grain.MapDataset.range(start_step, sys.maxsize)
    return iter(steps.map(batch).to_iter_dataset(options))


def fits_device(
    streams: Iterable[Sequence[Sample]],
    limit_bytes: float,
    *,
    channels: int,
    crop: Sequence[int] | None = None,
) -> bool:
    """Whether `batches.stack_samples` of all streams together fits within a limit.

    Args:
      streams: Samples of each stream. Of one far too large only the first few are read.
      limit_bytes: Limit of device memory in bytes.
      channels: Number of channels of the network's input.
      crop: As in `batches.stack_samples`.

    Returns:
      Whether they fit, estimated from float32 images and targets and the raster of dots.
    """
    per_pixel = 4 * channels + 4 + 1
    total = 0
    for samples in streams:
        side = np.zeros(1, int) if crop is None else np.asarray(crop)
        for sample in samples:
            side = np.maximum(side, sample.image.shape[:-1])
            if total + len(samples) * math.prod(side.tolist()) * per_pixel > limit_bytes:
                return False
        total += len(samples) * math.prod(side.tolist()) * per_pixel
    return total <= limit_bytes


def common_side(samples: Sequence[Sample], multiple: int) -> np.ndarray:
    """Sides of the largest image along each axis, rounded up to multiples of a number."""
    largest = functools.reduce(np.maximum, (np.array(s.image.shape[:-1]) for s in samples))
    return -(-largest // multiple) * multiple


def _draws(
    n: int, batch_size: int, side: np.ndarray, seed: int, number: int
) -> tuple[Callable[[int], np.ndarray], Callable[[int, np.ndarray, np.ndarray], np.ndarray]]:
    """Functions of the step: indices of its samples, and corners of windows in some of its rows."""
    device = _drawing_device()
    key = jax.device_put(jax.random.key(seed), device)

    @functools.lru_cache(maxsize=8)
    def order(epoch: int) -> np.ndarray:
        return np.asarray(_epoch_order(key, number, epoch, n=n))

    def index_of(step: int) -> np.ndarray:
        places = range(step * batch_size, (step + 1) * batch_size)
        return np.array([order(p // n)[p % n] for p in places], np.int32)

    def corners_of(step: int, rows: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        room = np.zeros((batch_size, len(side)), int)
        room[rows] = np.maximum(sizes - side, 0)
        return np.asarray(_crop_corners(key, number, step, room))[rows]

    return index_of, corners_of


@functools.partial(jax.jit, static_argnames="n")
def _epoch_order(key: jax.Array, number: int, epoch: int, *, n: int) -> jax.Array:
    return batches.epoch_order(batches.stream_keys(key, number, 0).order, epoch, n=n)


@jax.jit
def _crop_corners(key: jax.Array, number: int, step: int, room: np.ndarray) -> jax.Array:
    """Crop corners as drawn by `augment.random_crop`; a row's depends only on its own room."""
    drawn = batches.stream_keys(key, number, step).crop
    return jax.random.randint(drawn, room.shape, 0, room + 1)


def _drawing_device() -> jax.Device:
    """The CPU if JAX may use it: drawing a batch then needs no transfer."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]


def _read_batch(
    samples: Sequence[Sample],
    reader: WindowReader,
    side: np.ndarray,
    rows: np.ndarray,
    draws: tuple[Callable[[int], np.ndarray], Callable[[int, np.ndarray, np.ndarray], np.ndarray]],
    step: int,
) -> Rows:
    index_of, corners_of = draws
    index = index_of(step)[rows]
    taken = [samples[int(i)] for i in index]
    corners = corners_of(step, rows, np.array([s.image.shape[:-1] for s in taken]))
    windows = [
        reader.read(int(i), sample, corner, side)
        for i, sample, corner in zip(index, taken, corners, strict=True)
    ]
    fields = {name: np.stack([w[name] for w in windows]) for name in windows[0]}
    dots = fields.pop("dots")
    count = dots.sum(axis=tuple(range(1, dots.ndim)), dtype=np.float32)
    return {**fields, "count": count, "mask": np.ones_like(count), "index": index.astype(np.int32)}
