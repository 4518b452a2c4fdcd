"""Batches of sets that do not fit the device: cropped on the host, read ahead by Grain's threads.

The stream is that of `batches.take_batch`: the same shuffled epochs and the same crops, drawn from
the same keys, so it makes no difference to a run where its data lie. The batch of a step is a pure
function of seed and step. A run that goes on after step k opens its stream at k and gets what
would have come; a host that reads some rows of a batch gets those of the whole batch.
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

AHEAD = 2
"""Batches per thread that are read before they are asked for."""


def open_stream(
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    seed: int,
    target: batches.Target | None = None,
    crop: Sequence[int] | None = None,
    multiple: int = 1,
    number: int = 0,
    start_step: int = 0,
    rows: Sequence[int] | None = None,
    threads: int = THREADS,
) -> "grain.DatasetIterator[Rows]":
    """Endless batches of random crops, or of whole images.

    Args:
      samples: by index, read when needed; of one number of space axes.
      preprocessing: of whole images.
      batch_size: rows of the batch over all hosts.
      seed: of the run; its data key is `jax.random.key(seed)`.
      target: dots and space shape -> map; without it no `target` is made.
      crop: side per space axis of random crops; None takes whole images brought to one size, as
        `batches.stack` does, for which every image's size is looked up first.
      multiple: without crops, sides become multiples of it.
      number: of the stream, counting the sorted names of the run's streams.
      start_step: the first batch is that of this step.
      rows: of each batch that are read here, such as `host_rows`; None reads all.
      threads: that read; 0 reads when asked.

    Returns:
      Iterator over image [b, *side, C], target [b, *side], count [b], mask [b] (ones) and index
      [b], before flips and brightness changes (`batches.augment_batch` makes them on the device).
      Close it when done.

    Raises:
      ValueError: there are no samples; later, an image that cannot be used, by name.
    """
    _check(samples)
    reader = WindowReader(preprocessing, target=target)
    own = np.arange(batch_size) if rows is None else np.asarray(rows, int)
    side = _common_side(samples, multiple) if crop is None else np.asarray(crop)
    index_of, corners_of = _draws(len(samples), batch_size, side, seed, number)

    def batch(step: int) -> Rows:
        index = index_of(step)[own]
        taken = [samples[int(i)] for i in index]
        sizes = np.tile(side, (batch_size, 1))
        sizes[own] = np.maximum(side, [s.image.shape[:-1] for s in taken])
        corners = corners_of(step, sizes)[own]
        windows = [
            reader.read(int(i), sample, corner, side)
            for i, sample, corner in zip(index, taken, corners, strict=True)
        ]
        return _stacked(windows, index, len(own))

    return _ahead(batch, start_step, sys.maxsize, threads)


def open_epoch(
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    target: batches.Target | None = None,
    multiple: int = 1,
    rows: Sequence[int] | None = None,
    threads: int = THREADS,
) -> "grain.DatasetIterator[Rows]":
    """Every image once, whole and in order; rows that are too many have mask 0.

    Args:
      samples: as in `open_stream`, like all that follows.
      preprocessing: of whole images.
      batch_size: rows of the batch over all hosts.
      target: dots and space shape -> map.
      multiple: sides become multiples of it.
      rows: of each batch that are read here. All hosts get equally many batches.
      threads: that read.

    Returns:
      Iterator over the fields of `open_stream`; a padding row is zeros, with index -1.

    Raises:
      ValueError: there are no samples; later, an image that cannot be used, by name.
    """
    _check(samples)
    reader = WindowReader(preprocessing, target=target)
    own = np.arange(batch_size) if rows is None else np.asarray(rows, int)
    side = _common_side(samples, multiple)
    corner = np.zeros_like(side)

    def batch(step: int) -> Rows:
        index = step * batch_size + own
        index = index[index < len(samples)]
        # A host whose rows are all padding reads one image to know how they look.
        windows = [reader.read(i, samples[i], corner, side) for i in index.tolist() or [0]]
        return _stacked(windows, index, len(own))

    return _ahead(batch, 0, math.ceil(len(samples) / batch_size), threads)


def host_rows(batch_size: int, *, host: int, n_hosts: int) -> range:
    """Rows of a batch that one of several hosts reads.

    Raises:
      ValueError: the batch cannot be divided evenly.
    """
    if batch_size % n_hosts:
        raise ValueError(
            f"a batch of {batch_size} cannot be divided over {n_hosts} hosts; "
            f"make batch_size a multiple of {n_hosts}"
        )
    rows = batch_size // n_hosts
    return range(host * rows, (host + 1) * rows)


def fits_device(
    parts: Iterable[Sequence[Sample]],
    limit_bytes: float,
    *,
    channels: int,
    crop: Sequence[int] | None = None,
) -> bool:
    """Whether `batches.stack` of all parts together takes no more than a limit.

    Args:
      parts: samples of each stream. Of those far too large only the first few are read.
      limit_bytes: of device memory.
      channels: of the network's input.
      crop: as in `batches.stack`.

    Returns:
      An estimate by float32 images and targets and the raster of dots.
    """
    per_pixel = 4 * channels + 4 + 1
    total = 0
    for samples in parts:
        side = np.zeros(1, int) if crop is None else np.asarray(crop)
        for sample in samples:
            side = np.maximum(side, sample.image.shape[:-1])
            if total + len(samples) * math.prod(side.tolist()) * per_pixel > limit_bytes:
                return False
        total += len(samples) * math.prod(side.tolist()) * per_pixel
    return total <= limit_bytes


def _check(samples: Sequence[Sample]) -> None:
    if not len(samples):
        raise ValueError("no images to read: this part of the split is empty")


def _common_side(samples: Sequence[Sample], multiple: int) -> np.ndarray:
    largest = functools.reduce(np.maximum, (np.array(s.image.shape[:-1]) for s in samples))
    return -(-largest // multiple) * multiple


def _draws(
    n: int, batch_size: int, side: np.ndarray, seed: int, number: int
) -> tuple[Callable[[int], np.ndarray], Callable[[int, np.ndarray], np.ndarray]]:
    """The rows of a step, and the corners of its windows in images of given sizes."""
    device = _drawing_device()
    key = jax.device_put(jax.random.key(seed), device)

    @functools.lru_cache(maxsize=8)
    def order(epoch: int) -> np.ndarray:
        return np.asarray(_epoch_order(key, number, epoch, n=n))

    def index_of(step: int) -> np.ndarray:
        places = range(step * batch_size, (step + 1) * batch_size)
        return np.array([order(p // n)[p % n] for p in places], np.int32)

    def corners_of(step: int, sizes: np.ndarray) -> np.ndarray:
        return np.asarray(_crop_corners(key, number, step, sizes - side))

    return index_of, corners_of


@functools.partial(jax.jit, static_argnames="n")
def _epoch_order(key: jax.Array, number: int, epoch: int, *, n: int) -> jax.Array:
    return batches.epoch_order(batches.stream_keys(key, number, 0).order, epoch, n=n)


@jax.jit
def _crop_corners(key: jax.Array, number: int, step: int, room: np.ndarray) -> jax.Array:
    """As `augment.random_crop` draws them; each row's depends on its own room alone."""
    drawn = batches.stream_keys(key, number, step).crop
    return jax.random.randint(drawn, room.shape, 0, room + 1)


def _drawing_device() -> jax.Device:
    """The host's own, if JAX may use it: no numbers then travel to draw a batch."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]


def _stacked(windows: Sequence[Rows], index: np.ndarray, n: int) -> Rows:
    """Fields of `n` rows; those beyond the index are padding."""
    real = len(index)
    fields = {name: np.stack([w[name] for w in windows]) for name in windows[0]}
    dots = fields.pop("dots")
    fields["count"] = dots.sum(axis=tuple(range(1, dots.ndim)), dtype=np.float32)
    fields["mask"] = np.ones(real, np.float32)
    fields = {name: _padded(value[:real], n, 0) for name, value in fields.items()}
    return {**fields, "index": _padded(index.astype(np.int32), n, -1)}


def _padded(value: np.ndarray, n: int, filler: int) -> np.ndarray:
    if len(value) == n:
        return value
    rest = np.full((n - len(value), *value.shape[1:]), filler, value.dtype)
    return np.concatenate([value, rest])


def _ahead(
    batch: Callable[[int], Rows], start: int, stop: int, threads: int
) -> "grain.DatasetIterator[Rows]":
    """Batches of the steps from `start`, in order, read ahead by threads."""
    import grain  # takes half a second, and only large sets need it

    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=AHEAD * threads)
    return iter(grain.MapDataset.range(start, stop).map(batch).to_iter_dataset(options))
