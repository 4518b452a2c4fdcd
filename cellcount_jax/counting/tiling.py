"""Cuts a picture into windows of one shape and puts the maps of the windows together again.

Windows are spread evenly, so that the first begins and the last ends at the picture's borders;
neighbours overlap by at least twice the halo, and each pixel is owned by the one window in which
it lies furthest from a border. A network that sees no further than the halo gives the same map as
on the whole picture; one with global operations counts in windows of the size it was trained on.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Span(NamedTuple):
    """One window along one axis, in pixels of the padded picture."""

    start: int
    own_start: int
    own_stop: int


class Window(NamedTuple):
    """A window to read and the part of it that it owns."""

    read: tuple[slice, ...]
    own: tuple[slice, ...]


def spans(size: int, window: int, *, halo: int, stride: int) -> list[Span]:
    """Windows along one axis.

    Args:
      size: length of the padded axis, a multiple of `stride`, at least `window`.
      window: length of every window, a multiple of `stride`.
      halo: context that an owned pixel has on each side, except at the picture's borders.
      stride: origins and borders of ownership are multiples of it.

    Returns:
      Spans in order; their owned parts follow each other without gap or overlap.

    Raises:
      ValueError: sizes are no multiples of the stride, or the window is not wider than its halos.
    """
    if size % stride or window % stride or window > size:
        raise ValueError(f"size {size} and window {window} do not fit a stride of {stride}")
    room = window - 2 * halo
    if size == window:
        return [Span(0, 0, size)]
    if room < stride:
        raise ValueError(f"a window of {window} has no room between two halos of {halo}")
    number = -(-(size - window) // (room - room % stride)) + 1
    last = (size - window) // stride
    starts = [stride * (i * last // (number - 1)) for i in range(number)]
    borders = [0]
    for left, right in itertools.pairwise(starts):
        middle = (left + window + right) // 2
        borders.append(middle // stride * stride)
    borders.append(size)
    return [Span(s, a, b) for s, a, b in zip(starts, borders[:-1], borders[1:], strict=True)]


def padded_shape(shape: Sequence[int], window: Sequence[int], stride: int) -> tuple[int, ...]:
    """Space shape after padding: at least one window, sides multiples of the stride."""
    return tuple(max(w, -(-n // stride) * stride) for n, w in zip(shape, window, strict=True))


def pad_to(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Mirrors a picture [*space, C] at its far ends up to a space shape."""
    pad = [(0, full - n) for full, n in zip(shape, image.shape[:-1], strict=True)]
    return np.pad(image, [*pad, (0, 0)], mode="symmetric") if any(p[1] for p in pad) else image


def windows(shape: Sequence[int], window: Sequence[int], *, halo: int, stride: int) -> list[Window]:
    """All windows of a padded picture of space shape `shape`, in row-major order."""
    axes = [spans(n, w, halo=halo, stride=stride) for n, w in zip(shape, window, strict=True)]
    return [
        Window(
            tuple(slice(s.start, s.start + w) for s, w in zip(row, window, strict=True)),
            tuple(slice(s.own_start, s.own_stop) for s in row),
        )
        for row in itertools.product(*axes)
    ]


def place(whole: np.ndarray, part: np.ndarray, window: Window, *, stride: int) -> None:
    """Copies the owned part of a window's map into the whole map; one value is `stride` pixels."""
    own = tuple(slice(o.start // stride, o.stop // stride) for o in window.own)
    inside = tuple(
        slice((o.start - r.start) // stride, (o.stop - r.start) // stride)
        for o, r in zip(window.own, window.read, strict=True)
    )
    whole[own] = part[inside]
