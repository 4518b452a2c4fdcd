"""Cuts an image into windows of one shape, and says where the map of a window belongs.

The whole map of an image is that of the image mirrored at its far ends up to `padded_shape`,
which depends only on the image's size, never on how it is cut. Windows overlap by at least
twice the halo, the first begins and the last ends at the borders of the padded image, and each
pixel is owned by one window in which it has its halo. So a network that sees no further than the
halo gives the same map whatever the windows; one with global operations counts in windows of the
size it was trained on.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cellcount_jax.data.resize import Box

MAX_WINDOW = {2: 1024, 3: 128}
"""Longest side of a window, by number of space axes: a compromise between memory and overlap.
Smaller images are padded to one of a few sides; a stage may set a longer one for its windows."""

MIN_SIDE = 32
"""Shortest side that an image is padded to, so that small ones share a shape."""


class Span(NamedTuple):
    """One window along one axis, in pixels of the padded image."""

    start: int
    own_start: int
    own_stop: int


class Window(NamedTuple):
    """A window to read, and the box of it that it owns; both in pixels of the padded image."""

    read: tuple[slice, ...]
    own: tuple[slice, ...]


def sides(max_window: int, stride: int, *, steps: int = 4) -> list[int]:
    """Allowed sides of padded images and windows, `steps` per doubling: few compilations."""
    found, base = [], MIN_SIDE
    while base < 2 * max_window:
        found += [-(-base * step // (steps * stride)) * stride for step in range(steps, 2 * steps)]
        base *= 2
    top = -(-max_window // stride) * stride
    return sorted({side for side in found if side < top} | {top})


def padded_shape(
    shape: Sequence[int], stride: int, *, window: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Space shape after padding, in multiples of the stride.

    Args:
      shape: Space shape of the image.
      stride: Stride of the network.
      window: Fixed window of the network, if any; the image becomes at least as large.
    """
    if window is not None:
        return tuple(max(w, -(-n // stride) * stride) for n, w in zip(shape, window, strict=True))
    allowed = sides(MAX_WINDOW[len(shape)], stride)
    return tuple(
        next((side for side in allowed if side >= n), -(-n // stride) * stride) for n in shape
    )


def choose_window(
    padded: Sequence[int], *, halo: int, stride: int, max_window: int | None = None
) -> tuple[int, ...]:
    """The window that needs the least computation, for images that can be cut anywhere.

    Args:
      padded: Shape from `padded_shape`.
      halo: Context that an owned pixel needs on each side.
      stride: Stride of the network.
      max_window: Longest side; by default `MAX_WINDOW`. Windows are always wide enough to leave
        room between their halos.

    Returns:
      One side per axis, from `sides`, or the padded image's own.
    """
    common = MAX_WINDOW[len(padded)]
    top = max_window or common
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
      size: Length of the padded axis, a multiple of `stride`, at least `window`.
      window: Length of every window, a multiple of `stride`.
      halo: Context that an owned pixel has on each side, except at the image's borders.
      stride: Stride of the network; windows and owned parts begin at multiples of it.
      offset: 0 spreads the windows evenly; any other multiple of the stride puts them on a grid
        that begins there, still with a first and a last window at the borders.

    Returns:
      Spans in order; their owned parts are contiguous and do not overlap.

    Raises:
      ValueError: A size is not a multiple of the stride, or the window is not wider than its halos.
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


def owned(
    part: np.ndarray, window: Window, space: Sequence[int]
) -> tuple[Box, np.ndarray, tuple[int, ...]]:
    """The part of a window's map that belongs to it.

    Args:
      part: Map of the window, [*window / stride, ...]; the stride may differ between maps.
      window: The window.
      space: Space shape of the image; mirrored pixels beyond it belong to no window.

    Returns:
      The box in the map of the image, its values (none if the window owns no part of the image),
      and the space shape of that map.
    """
    stride = (window.read[0].stop - window.read[0].start) // part.shape[0]
    shape = tuple(-(-n // stride) for n in space)
    box, inside = [], []
    for read, own, n in zip(window.read, window.own, shape, strict=True):
        first, start = read.start // stride, own.start // stride
        stop = max(start, min(own.stop // stride, n))
        box.append(slice(start, stop))
        inside.append(slice(start - first, stop - first))
    return tuple(box), part[tuple(inside)], shape
