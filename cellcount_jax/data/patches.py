"""Images resized and cut into patches, each dot in exactly one of them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from cellcount_jax.data.pixel_size import Scale
from cellcount_jax.data.sample import Sample


def cut(
    sample: Sample,
    *,
    tile: int | None = None,
    resize: int | None = None,
    pad_square: bool = False,
    resize_to_multiple: int | None = None,
) -> list[Sample]:
    """Cuts a 2-D image into equal patches; the patches' dots sum to the image's.

    In this order: the shorter side is padded with zeros (bottom or right), the image is resized
    to the nearest multiple, cut into tiles, and each tile is resized.

    Args:
      sample: 2-D image.
      tile: side of the square tiles in pixels; None keeps the image whole.
      resize: side that each tile (or the image) gets, in pixels.
      pad_square: whether to pad to a square first.
      resize_to_multiple: each side becomes its nearest multiple of this before cutting.

    Returns:
      Patches row by row. The group of a patch is the name of its image, its name is
      `IMAGE@ROW-COLUMN`; an image that stays whole keeps name and group.

    Raises:
      ValueError: a volume, or a side that is no multiple of the tile.

    Source: the patches of DCL (MICCAI 2024).
    """
    if sample.image.ndim != 3:
        raise ValueError(f"{sample.name}: patches are cut from 2-D images, not volumes")
    whole = _pad_square(sample) if pad_square else sample
    if resize_to_multiple:
        height, width = (
            max(1, round(side / resize_to_multiple)) * resize_to_multiple
            for side in whole.image.shape[:2]
        )
        whole = resize_sample(whole, (height, width))
    tiles = _tiles(whole, tile) if tile else [whole]
    return [resize_sample(t, (resize, resize)) for t in tiles] if resize else tiles


def network_scale(rule: Mapping[str, Any] | None, shape: Sequence[int]) -> float:
    """By which a rule of `cut` resizes an image of space shape `shape` on its way to patches.

    A counter that was trained on the patches resizes whole images by it.
    """
    if not rule:
        return 1.0
    side = max(shape)
    scale = 1.0
    if rule.get("resize_to_multiple"):
        multiple = rule["resize_to_multiple"]
        scale = max(1, round(side / multiple)) * multiple / side
    if rule.get("resize"):
        scale *= rule["resize"] / (rule.get("tile") or side * scale)
    return scale


def resize_sample(sample: Sample, shape: Sequence[int]) -> Sample:
    """A sample brought to another size with its dots, mask and pixel size."""
    old = sample.image.shape[:-1]
    scale = np.array([new / side for new, side in zip(shape, old, strict=True)])
    dots, labels, spacing = sample.dots, sample.labels, sample.spacing
    if dots is not None:
        dots = ((dots + 0.5) * scale - 0.5).astype(np.float32)
    if labels is not None:
        nearest = [
            ((np.arange(new) + 0.5) / s).astype(int) for new, s in zip(shape, scale, strict=True)
        ]
        labels = labels[np.ix_(*nearest)]
    if spacing is not None:
        spacing = tuple(float(size / s) for size, s in zip(spacing, scale, strict=True))
    image = resize_array(sample.image, shape)
    return dataclasses.replace(sample, image=image, dots=dots, labels=labels, spacing=spacing)


def resize_image(image: np.ndarray, scale: Scale) -> np.ndarray:
    """[*space, C] enlarged (scale > 1) or reduced, each side rounded to whole pixels."""
    return resize_array(image, resized_shape(image.shape[:-1], scale))


def resized_shape(shape: Sequence[int], scale: Scale) -> tuple[int, ...]:
    """Whole pixels of each side of an image that is resized."""
    scales = np.broadcast_to(scale, len(shape)).tolist()
    return tuple(max(1, round(n * s)) for n, s in zip(shape, scales, strict=True))


def resize_array(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Linear interpolation with antialiasing: the triangle widens with the reduction.

    Args:
      image: [*space, C], any number of space axes.
      shape: new size of each space axis.

    Returns:
      [*shape, C] of the same dtype; whole numbers are rounded.
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
    """A box of `resize_array` of an image, from the part of the image that it shows.

    Args:
      read: box of the image -> [*box, C].
      old: space shape of the image.
      new: space shape that it gets.
      box: start and stop per axis of the part that is wanted, in pixels of the new size.

    Returns:
      [*box, C], as from the whole image.
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


def _pad_square(sample: Sample) -> Sample:
    height, width = sample.image.shape[:2]
    side = max(height, width)
    rest = [(0, side - height), (0, side - width)]
    labels = None if sample.labels is None else np.pad(sample.labels, rest)
    return dataclasses.replace(sample, image=np.pad(sample.image, [*rest, (0, 0)]), labels=labels)


def _tiles(sample: Sample, tile: int) -> list[Sample]:
    height, width = sample.image.shape[:2]
    if height % tile or width % tile:
        raise ValueError(
            f"{sample.name}: {height} x {width} cannot be cut into tiles of {tile}; "
            f"use pad_square and resize_to_multiple={tile}"
        )
    if (height, width) == (tile, tile):
        return [sample]
    rows, columns = height // tile, width // tile
    return [_tile(sample, r, c, tile, (rows, columns)) for r in range(rows) for c in range(columns)]


def _tile(sample: Sample, row: int, column: int, tile: int, grid: tuple[int, int]) -> Sample:
    corner = np.array([row, column]) * tile
    window = (slice(corner[0], corner[0] + tile), slice(corner[1], corner[1] + tile))
    dots = sample.dots
    if dots is not None:
        # A pixel reaches half a step to both sides of its centre; dots beyond the image's rim
        # belong to the outermost tile.
        owner = np.clip(np.floor((dots + 0.5) / tile), 0, np.array(grid) - 1)
        dots = dots[(owner == [row, column]).all(axis=1)] - corner.astype(np.float32)
    return dataclasses.replace(
        sample,
        name=f"{sample.name}@{row}-{column}",
        group=sample.name,
        image=sample.image[window],
        dots=dots,
        labels=None if sample.labels is None else sample.labels[window],
    )
