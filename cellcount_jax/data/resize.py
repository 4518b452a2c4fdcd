"""Resizes images, volumes and samples by linear interpolation with antialiasing, whole or by boxes.

Windows that extend beyond an image see it reflected at its border.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from scipy import sparse

from cellcount_jax.data.sample import Sample

Box = tuple[slice, ...]
"""Start and stop per axis."""

Scale = float | tuple[float, ...]
"""Resize factor, one number or one per axis."""


def in_plane(scale: Scale) -> float:
    """The scale along x, for lengths in the plane."""
    return scale if isinstance(scale, float | int) else scale[-1]


def resize_sample(sample: Sample, shape: Sequence[int]) -> Sample:
    """A sample at another space shape, with its dots, mask and pixel size."""
    old = sample.image.shape[:-1]
    scale = np.array([new / side for new, side in zip(shape, old, strict=True)])
    labels, spacing = sample.labels, sample.spacing

    def moved(points: np.ndarray | None) -> np.ndarray | None:
        return None if points is None else ((points + 0.5) * scale - 0.5).astype(np.float32)

    if labels is not None:
        nearest = [
            ((np.arange(new) + 0.5) / s).astype(int) for new, s in zip(shape, scale, strict=True)
        ]
        labels = labels[np.ix_(*nearest)]
    if spacing is not None:
        spacing = tuple(float(size / s) for size, s in zip(spacing, scale, strict=True))
    image = resize_array(sample.image, shape)
    dots, not_cells = moved(sample.dots), moved(sample.not_cells)
    return dataclasses.replace(
        sample, image=image, dots=dots, labels=labels, spacing=spacing, not_cells=not_cells
    )


def resize_image(image: np.ndarray, scale: Scale) -> np.ndarray:
    """An image [*space, C] resized by a factor, each side rounded to whole pixels."""
    return resize_array(image, resized_shape(image.shape[:-1], scale))


def resized_shape(shape: Sequence[int], scale: Scale) -> tuple[int, ...]:
    """Space shape of a resized image, each side rounded to whole pixels, at least one."""
    scales = np.broadcast_to(scale, len(shape)).tolist()
    return tuple(max(1, round(n * s)) for n, s in zip(shape, scales, strict=True))


def resize_array(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Linear interpolation with antialiasing: the triangle widens with the reduction.

    Args:
      image: Image [*space, C], any number of space axes.
      shape: New size of each space axis.

    Returns:
      [*shape, C] of the same dtype; integers are rounded.
    """
    if tuple(shape) == image.shape[:-1]:
        return image
    return resize_part(
        lambda box: image[box], image.shape[:-1], shape, tuple(slice(0, n) for n in shape)
    )


def resize_part(
    read: Callable[[tuple[slice, ...]], np.ndarray],
    old: Sequence[int],
    new: Sequence[int],
    box: tuple[slice, ...],
) -> np.ndarray:
    """A box of the resized image, from the part of the image that it depends on.

    Args:
      read: Reads a box of the image as [*box, C].
      old: Space shape of the image.
      new: Space shape of the resized image.
      box: Start and stop per axis, in pixels of the resized image.

    Returns:
      [*box, C], equal to that box of `resize_array`.
    """
    weights, parts = [], []
    for n, m, b in zip(old, new, box, strict=True):
        rows = None if n == m else _triangle_weights(n, m)[b.start : b.stop]
        first, last = (b.start, b.stop) if rows is None else _touched(rows)
        weights.append(rows if rows is None else rows[:, first:last])
        parts.append(slice(first, last))
    image = read(tuple(parts))
    if all(rows is None for rows in weights):
        return image
    values = image.astype(np.float32)
    for axis, rows in enumerate(weights):
        if rows is not None:
            moved = np.moveaxis(values, axis, 0)
            flat = rows @ moved.reshape(moved.shape[0], -1)
            values = np.moveaxis(flat.reshape(rows.shape[0], *moved.shape[1:]), 0, axis)
    if np.issubdtype(image.dtype, np.integer):
        limits = np.iinfo(image.dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return np.ascontiguousarray(values.astype(image.dtype))


def _touched(rows: sparse.csr_array) -> tuple[int, int]:
    """First column with a weight and the one after the last."""
    return int(rows.indices.min()), int(rows.indices.max()) + 1


def _triangle_weights(old: int, new: int) -> sparse.csr_array:
    """[new, old] weights, rows sum to 1; pixel centres at whole numbers, edges renormalised."""
    step = old / new
    reach = max(step, 1.0)
    centre = (np.arange(new) + 0.5) * step - 0.5
    taps = np.floor(centre - reach).astype(int)[:, None] + np.arange(int(2 * reach) + 3)
    weight = np.maximum(0.0, 1.0 - np.abs(taps - centre[:, None]) / reach)
    weight[(taps < 0) | (taps >= old)] = 0.0
    weight /= weight.sum(axis=1, keepdims=True)
    rows = np.broadcast_to(np.arange(new)[:, None], taps.shape)
    inside = weight > 0
    entries = (weight[inside].astype(np.float32), (rows[inside], taps[inside]))
    return sparse.csr_array(entries, shape=(new, old))


def reflected_indices(n: int, start: int, length: int) -> np.ndarray:
    """Pixels of an axis of length `n` from position `start`, as in NumPy's `symmetric` padding."""
    at = np.arange(start, start + length) % (2 * n)
    return np.minimum(at, 2 * n - 1 - at)


def unfold(part: np.ndarray, at: Sequence[np.ndarray]) -> np.ndarray:
    """A window from the box of pixels that it contains.

    Args:
      part: Values from the first to the last pixel in `at`, along the leading axes.
      at: Pixels of the window along each of these axes.
    """
    for axis, pixels in enumerate(at):
        if pixels[-1] - pixels[0] != len(pixels) - 1:  # some are reflected
            part = part.take(pixels - pixels.min(), axis=axis)
    return part
