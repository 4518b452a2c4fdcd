"""Arithmetic of parts: which frames, tiles or chunks of a file to read, and what of each."""

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

from cellcount_jax.io.images.base import Slices


def read_frames(
    shape: tuple[int, ...],
    n_outer: int,
    dtype: np.dtype,
    slices: Slices,
    read_frame: Callable[[int, Slices], np.ndarray],
) -> np.ndarray:
    """A part of an array that is stored as numbered frames.

    Args:
      shape: Shape of the whole array.
      n_outer: Number of first axes along which frames are numbered, the last fastest.
      dtype: Data type of the values.
      slices: Slices, one per axis, with start, stop and positive step.
      read_frame: Number of a frame, and slices of its axes -> values.

    Returns:
      The part.
    """
    sizes = [length(s) for s in slices]
    rows = (range(s.start, s.stop, s.step) for s in slices[:n_outer])
    indices = itertools.product(*rows)
    numbers = [int(np.ravel_multi_index(i, shape[:n_outer])) if i else 0 for i in indices]
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
    """Intersection of a slice with a piece [start, stop): slices of the piece and of the result."""
    skipped = max(0, -(-(start - part.start) // part.step))
    first = part.start + skipped * part.step
    last = min(stop, part.stop)
    if first >= last:
        return None
    count = len(range(first, last, part.step))
    return slice(first - start, last - start, part.step), slice(skipped, skipped + count)


def split_by_chunks(
    slices: Slices, chunks: tuple[int, ...], limit: int, *, targets: Slices | None = None
) -> Iterator[tuple[Slices, Slices]]:
    """Splits a part along the borders of chunks until each piece touches few of them.

    Args:
      slices: Slices of the whole array, with start, stop and positive step.
      chunks: Shape of a chunk.
      limit: Most chunks that a piece touches, at least 1.
      targets: Array for the values of `slices`; by default a new one.

    Yields:
      Slices of the whole, and of the target.
    """
    targets = targets or tuple(slice(0, length(s)) for s in slices)
    first = [s.start // c for s, c in zip(slices, chunks, strict=True)]
    counts = [(s.stop - 1) // c - f + 1 for s, f, c in zip(slices, first, chunks, strict=True)]
    if math.prod(counts) <= limit:
        yield slices, targets
        return
    axis = counts.index(max(counts))
    whole, target = slices[axis], targets[axis]
    border = (first[axis] + counts[axis] // 2) * chunks[axis]
    left = -(-(border - whole.start) // whole.step)
    if left >= length(whole):  # no value beyond the border
        halves = [(slice(whole.start, border, whole.step), target)]
    else:
        middle = whole.start + left * whole.step
        halves = [
            (slice(whole.start, border, whole.step), slice(target.start, target.start + left)),
            (slice(middle, whole.stop, whole.step), slice(target.start + left, target.stop)),
        ]
    for part, where in halves:
        yield from split_by_chunks(
            (*slices[:axis], part, *slices[axis + 1 :]),
            chunks,
            limit,
            targets=(*targets[:axis], where, *targets[axis + 1 :]),
        )


def outer_axes(shape: tuple[int, ...], size: int) -> int | None:
    """How many first axes number frames of `size` values; None if no number fits."""
    for n in range(len(shape) + 1):
        if math.prod(shape[n:]) == size:
            return n
    return None
