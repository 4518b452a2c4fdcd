"""Arrays that a file keeps as numbered frames: which frames and which part of each to read."""

import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator

import numpy as np

from cellcount_jax.io.images.base import Slices

CACHE_BYTES = 256 * 2**20


def read_frames(
    shape: tuple[int, ...],
    n_outer: int,
    dtype: np.dtype,
    slices: Slices,
    read_frame: Callable[[int, Slices], np.ndarray],
) -> np.ndarray:
    """A part of an array whose last axes are frames numbered along the first.

    Args:
      shape: of the whole array.
      n_outer: number of axes along which frames are numbered, the last fastest.
      dtype: of the values.
      slices: one per axis, with start, stop and positive step.
      read_frame: number of a frame and slices of its axes -> values.

    Returns:
      The part.
    """
    sizes = [length(s) for s in slices]
    rows = (range(s.start, s.stop, s.step) for s in slices[:n_outer])
    places = itertools.product(*rows)
    numbers = [int(np.ravel_multi_index(p, shape[:n_outer])) if p else 0 for p in places]
    if len(numbers) == 1:
        return read_frame(numbers[0], slices[n_outer:]).reshape(sizes)
    part = np.empty((len(numbers), *sizes[n_outer:]), dtype)
    for row, number in enumerate(numbers):
        part[row] = read_frame(number, slices[n_outer:])
    return part.reshape(sizes)


def length(part: slice) -> int:
    """Number of values that a slice with start, stop and step takes."""
    return len(range(part.start, part.stop, part.step))


def overlap(part: slice, start: int, stop: int) -> tuple[slice, slice] | None:
    """What a slice takes of a piece [start, stop): slices of the piece and of the result."""
    skipped = max(0, -(-(start - part.start) // part.step))
    first = part.start + skipped * part.step
    last = min(stop, part.stop)
    if first >= last:
        return None
    count = len(range(first, last, part.step))
    return slice(first - start, last - start, part.step), slice(skipped, skipped + count)


def split_by_chunks(
    slices: Slices, chunks: tuple[int, ...], limit: int
) -> Iterator[tuple[Slices, Slices]]:
    """Splits a part at the borders of chunks until each piece touches few of them.

    Args:
      slices: of the whole, with start, stop and positive step.
      chunks: shape of a chunk.
      limit: most chunks of a piece, at least 1.

    Yields:
      Slices of the whole, and where they go in the part.
    """
    yield from _split(slices, tuple(slice(0, length(s)) for s in slices), chunks, limit)


def _split(
    slices: Slices, places: Slices, chunks: tuple[int, ...], limit: int
) -> Iterator[tuple[Slices, Slices]]:
    first = [s.start // c for s, c in zip(slices, chunks, strict=True)]
    counts = [(s.stop - 1) // c - f + 1 for s, f, c in zip(slices, first, chunks, strict=True)]
    if math.prod(counts) <= limit:
        yield slices, places
        return
    axis = counts.index(max(counts))
    whole, place = slices[axis], places[axis]
    border = (first[axis] + counts[axis] // 2) * chunks[axis]
    left = -(-(border - whole.start) // whole.step)
    if left >= length(whole):  # no value beyond the border
        halves = [(slice(whole.start, border, whole.step), place)]
    else:
        middle = whole.start + left * whole.step
        halves = [
            (slice(whole.start, border, whole.step), slice(place.start, place.start + left)),
            (slice(middle, whole.stop, whole.step), slice(place.start + left, place.stop)),
        ]
    for part, where in halves:
        yield from _split(
            (*slices[:axis], part, *slices[axis + 1 :]),
            (*places[:axis], where, *places[axis + 1 :]),
            chunks,
            limit,
        )


def outer_axes(shape: tuple[int, ...], size: int) -> int | None:
    """How many first axes number frames of `size` values; None if none fit."""
    for n in range(len(shape) + 1):
        if math.prod(shape[n:]) == size:
            return n
    return None


class Cache:
    """The pieces that were used last, up to a number of bytes and at least one; for threads."""

    def __init__(self, limit: int = CACHE_BYTES):
        self._limit, self._bytes = limit, 0
        self._pieces: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The piece of that key, made if it is not there."""
        with self._lock:
            if key in self._pieces:
                self._pieces.move_to_end(key)
                return self._pieces[key]
        piece = make()
        with self._lock:
            if key not in self._pieces:
                self._pieces[key] = piece
                self._bytes += piece.nbytes
            while self._bytes > self._limit and len(self._pieces) > 1:
                self._bytes -= self._pieces.popitem(last=False)[1].nbytes
        return piece
