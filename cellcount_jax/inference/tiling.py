"""Cuts an image into windows of one shape and puts the maps of the windows together again.

The whole map of an image is that of the image mirrored at its far ends up to `padded_shape`,
which depends on the image's size alone, never on how it is cut. Windows overlap by at least
twice the halo, the first begins and the last ends at the borders of the padded image, and each
pixel is owned by one window in which it has its halo. So a network that sees no further than the
halo gives the same map whatever the windows; one with global operations counts in windows of the
size it was trained on.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LARGEST = {2: 1024, 3: 128}
"""Longest side of a window, by number of space axes: a compromise of memory and overlap. Up to it a
image is padded to a side of few; a stage may name a longer one for its windows."""

SMALLEST = 32
"""Shortest side that an image is padded to, so that tiny ones share a shape."""


class Span(NamedTuple):
    """One window along one axis, in pixels of the padded image."""

    start: int
    own_start: int
    own_stop: int


class Window(NamedTuple):
    """A window to read and the part of it that it owns."""

    read: tuple[slice, ...]
    own: tuple[slice, ...]


def sides(largest: int, stride: int, *, steps: int = 4) -> list[int]:
    """Sides that padded images and windows may have, `steps` to a doubling: few compilations."""
    found, base = [], SMALLEST
    while base < 2 * largest:
        found += [-(-base * step // (steps * stride)) * stride for step in range(steps, 2 * steps)]
        base *= 2
    top = -(-largest // stride) * stride
    return sorted({side for side in found if side < top} | {top})


def padded_shape(
    shape: Sequence[int], stride: int, *, window: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Space shape after padding, multiples of the stride.

    Args:
      shape: of the image.
      stride: of the network.
      window: of a network with a fixed one; the image becomes at least as large.
    """
    if window is not None:
        return tuple(max(w, -(-n // stride) * stride) for n, w in zip(shape, window, strict=True))
    allowed = sides(LARGEST[len(shape)], stride)
    return tuple(
        next((side for side in allowed if side >= n), -(-n // stride) * stride) for n in shape
    )


def choose_window(
    padded: Sequence[int], *, halo: int, stride: int, largest: int | None = None
) -> tuple[int, ...]:
    """Window with the least to compute, for a network that can be cut anywhere.

    Args:
      padded: of `padded_shape`.
      halo: context that an owned pixel needs on each side.
      stride: of the network.
      largest: longest side; by default `LARGEST`. Windows with no room between their halos are
        not taken, whatever this says.

    Returns:
      A side per axis, of `sides`, or the padded image's own.
    """
    common = LARGEST[len(padded)]
    top = largest or common
    least = -(-(2 * halo + stride) // stride) * stride
    wide = [side for side in sides(top, stride, steps=8) if side >= least] or [least]
    return tuple(
        n if n <= min(common, wide[-1]) else _cheapest(n, wide, halo, stride) for n in padded
    )


def _cheapest(size: int, wide: Sequence[int], halo: int, stride: int) -> int:
    if size >= 8 * wide[-1]:  # one shape for all large images
        return wide[-1]
    fitting = [w for w in wide if w <= size]
    cost = {w: w * len(spans(size, w, halo=halo, stride=stride)) for w in fitting}
    return min(fitting, key=lambda w: (cost[w], -w), default=size)


def spans(size: int, window: int, *, halo: int, stride: int, offset: int = 0) -> list[Span]:
    """Windows along one axis.

    Args:
      size: length of the padded axis, a multiple of `stride`, at least `window`.
      window: length of every window, a multiple of `stride`.
      halo: context that an owned pixel has on each side, except at the image's borders.
      stride: origins and borders of ownership are multiples of it.
      offset: 0 spreads the windows evenly; any other multiple of the stride lays them on a grid
        that begins there, with a first and a last window at the borders all the same.

    Returns:
      Spans in order; their owned parts follow each other without gap or overlap.

    Raises:
      ValueError: sizes are no multiples of the stride, or the window is not wider than its halos.
    """
    if size % stride or window % stride or offset % stride or window > size:
        raise ValueError(
            f"size {size}, window {window} and offset {offset} do not fit a stride of {stride}"
        )
    room = window - 2 * halo
    if size == window:
        return [Span(0, 0, size)]
    if room < stride:
        raise ValueError(f"a window of {window} has no room between two halos of {halo}")
    room -= room % stride
    end = size - window
    if offset:
        starts = sorted({0, end, *range(offset % room, end, room)})
    else:
        number = -(-end // room) + 1
        starts = [stride * (i * (end // stride) // (number - 1)) for i in range(number)]
    borders = [0]
    for left, right in itertools.pairwise(starts):
        middle = (left + window + right) // 2
        borders.append(middle // stride * stride)
    borders.append(size)
    return [Span(s, a, b) for s, a, b in zip(starts, borders[:-1], borders[1:], strict=True)]


def pad_to(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Mirrors an image [*space, C] at its far ends up to a space shape."""
    pad = [(0, full - n) for full, n in zip(shape, image.shape[:-1], strict=True)]
    return np.pad(image, [*pad, (0, 0)], mode="symmetric") if any(p[1] for p in pad) else image


def windows(
    shape: Sequence[int],
    window: Sequence[int],
    *,
    halo: int | Sequence[int],
    stride: int,
    offset: Sequence[int] | None = None,
) -> list[Window]:
    """All windows of a padded image of space shape `shape`, in row-major order."""
    halos = np.broadcast_to(halo, len(shape)).tolist()
    axes = [
        spans(n, w, halo=h, stride=stride, offset=o)
        for n, w, h, o in zip(shape, window, halos, offset or [0] * len(shape), strict=True)
    ]
    return [
        Window(
            tuple(slice(s.start, s.start + w) for s, w in zip(row, window, strict=True)),
            tuple(slice(s.own_start, s.own_stop) for s in row),
        )
        for row in itertools.product(*axes)
    ]


def owned(part: np.ndarray, window: Window, *, stride: int) -> tuple[tuple[slice, ...], np.ndarray]:
    """Where the owned part of a window's map lies in the whole map, and its values.

    Args:
      part: map of the window, [*window / stride].
      window: in pixels.
      stride: pixels per value.
    """
    box = tuple(slice(o.start // stride, o.stop // stride) for o in window.own)
    inside = tuple(
        slice((o.start - r.start) // stride, (o.stop - r.start) // stride)
        for o, r in zip(window.own, window.read, strict=True)
    )
    return box, part[inside]


def place(whole: np.ndarray, part: np.ndarray, window: Window, *, stride: int) -> None:
    """Copies the owned part of a window's map into the whole map; one value is `stride` pixels."""
    box, values = owned(part, window, stride=stride)
    whole[box] = values
