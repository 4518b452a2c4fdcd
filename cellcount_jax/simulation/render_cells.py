"""Renders cells in small boxes around them, all at once, and combines the boxes in the image."""

from collections.abc import Sequence

import numpy as np


def offsets(centres: np.ndarray, half: Sequence[int]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Offsets of the pixels of each cell's box from the cell's centre.

    Args:
      centres: [N, ndim] pixels.
      half: Pixels on either side of the nearest pixel, per axis; a box has 2 half + 1.

    Returns:
      Corner: [N, ndim] int64, position of the box's first pixel in the image.
      distance: per axis an array that broadcasts to [N, *box]: pixel minus centre.
    """
    nearest = np.rint(centres).astype(np.int64)
    ndim = centres.shape[1]
    distance = []
    for axis, h in enumerate(half):
        step = np.arange(-h, h + 1) + (nearest[:, axis] - centres[:, axis])[:, None]
        form = [len(centres)] + [1] * ndim
        form[axis + 1] = 2 * h + 1
        distance.append(step.reshape(form))
    return nearest - np.asarray(half), distance


def pixel_index(
    corner: np.ndarray, box: Sequence[int], shape: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Flat index into the image for each pixel of each box, and which of them are inside.

    Args:
      corner: [N, ndim] int64, position of each box's first pixel in the image.
      box: Shape of the boxes.
      shape: Spatial shape of the image.

    Returns:
      Index [N, *box] int64 (meaningless outside) and inside [N, *box] bool.
    """
    index = np.zeros((len(corner), *[1] * len(shape)), np.int64)
    inside = np.ones(index.shape, bool)
    for axis, (k, n) in enumerate(zip(box, shape, strict=True)):
        form = [len(corner)] + [1] * len(shape)
        form[axis + 1] = k
        at = (corner[:, axis, None] + np.arange(k)).reshape(form)
        inside = inside & (at >= 0) & (at < n)
        index = index * n + at
    return index, inside


def add_boxes(image: np.ndarray, index: np.ndarray, inside: np.ndarray, values: np.ndarray) -> None:
    """Adds all boxes to the image in place, in the order of the cells.

    Args:
      image: [*shape] float64, contiguous.
      index: [N, *box] from `pixel_index`.
      inside: [N, *box] from `pixel_index`.
      values: [N, *box], what is added.
    """
    np.add.at(image.reshape(-1), index[inside], values[inside])


def occlude(
    shape: Sequence[int], index: np.ndarray, inside: np.ndarray, cover: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lets every cell occlude what lies behind it; later cells lie in front.

    Args:
      shape: Spatial shape of the image.
      index: [N, *box] from `pixel_index`.
      inside: [N, *box] from `pixel_index`.
      cover: [N, *box], fraction of the pixel that the cell covers, 0 to 1.

    Returns:
      Labels: [*shape] int32, 0 or the number (from 1) of the frontmost cell that covers at least
        half of the pixel.
      seen: [N, *box], fraction of the pixel in which the cell is visible: `cover`, times what
        the frontmost cell leaves free where that is another cell.
    """
    number = np.arange(1, len(index) + 1, dtype=np.int32).reshape([-1] + [1] * len(shape))
    number = np.broadcast_to(number, index.shape)
    solid = inside & (cover >= 0.5)
    size = int(np.prod(shape, dtype=np.int64))
    labels = np.zeros(size, np.int32)
    np.maximum.at(labels, index[solid], number[solid])
    front = np.zeros(size)
    safe = np.where(inside, index, 0)
    owner = labels[safe]
    own = inside & (owner == number)
    front[index[own]] = cover[own]
    seen = np.where(own | ~inside | (owner == 0), cover, cover * (1 - front[safe]))
    return labels.reshape(shape), seen


def touching_groups(
    shape: Sequence[int], index: np.ndarray, inside: np.ndarray, cover: np.ndarray
) -> np.ndarray:
    """First cell of the cluster of touching cells that each cell belongs to, [N] int64.

    Args:
      shape: Spatial shape of the image.
      index: [N, *box] from `pixel_index`.
      inside: [N, *box] from `pixel_index`.
      cover: [N, *box]; two cells touch where both cover part of one pixel.
    """
    body = inside & (cover > 0)
    at = index[body]
    cell = np.nonzero(body)[0]
    last = np.zeros(int(np.prod(shape, dtype=np.int64)), np.int64)
    last[at] = cell
    pairs = np.unique(last[at] * len(index) + cell)
    one, other = np.divmod(pairs, max(len(index), 1))
    group = np.arange(len(index))
    while True:
        least = group.copy()
        np.minimum.at(least, one, group[other])
        np.minimum.at(least, other, group[one])
        least = least[least]
        if np.array_equal(least, group):
            return group
        group = least


def cell_pixels(
    index: np.ndarray, inside: np.ndarray, distance: np.ndarray, *, first: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pixels that belong to cells, as three flat arrays: index, distance, cell's number.

    Args:
      index: [N, *box] from `pixel_index`.
      inside: [N, *box] from `pixel_index`.
      distance: [N, *box], below 1 inside the cell's outline.
      first: Number of the first cell.
    """
    own = inside & (distance < 1)
    number = np.broadcast_to(
        np.arange(first, first + len(index)).reshape([-1] + [1] * (index.ndim - 1)), own.shape
    )
    return index[own], distance[own], number[own]


def paint_labels(
    shape: Sequence[int], index: np.ndarray, distance: np.ndarray, number: np.ndarray
) -> np.ndarray:
    """Instance mask: each pixel belongs to the cell whose centre is nearest, in radii.

    Args:
      shape: Spatial shape of the image.
      index: [M] flat index into the image.
      distance: [M] from the cell's centre, in radii.
      number: [M] number of the cell, from 1.

    Returns:
      [*shape] int32, 0 background.
    """
    order = np.lexsort((number, distance))
    index, number = index[order], number[order]
    at, first = np.unique(index, return_index=True)
    labels = np.zeros(int(np.prod(shape, dtype=np.int64)), np.int32)
    labels[at] = number[first]
    return labels.reshape(shape)


def random_texture(
    rng: np.random.Generator, side: int, ndim: int, *, scale: Sequence[float]
) -> np.ndarray:
    """A random periodic texture of mean 0 and standard deviation 1.

    Args:
      rng: Source of randomness.
      side: Length of each axis.
      ndim: Number of axes.
      scale: Correlation length (Gaussian sigma) per axis, pixels.
    """
    spectrum = np.fft.rfftn(rng.standard_normal((side,) * ndim))
    for axis, sigma in enumerate(scale):
        f = np.fft.rfftfreq(side) if axis == ndim - 1 else np.fft.fftfreq(side)
        gain = np.exp(-2 * (np.pi * sigma * f) ** 2)
        spectrum *= gain.reshape([-1 if a == axis else 1 for a in range(ndim)])
    spectrum.flat[0] = 0
    texture = np.fft.irfftn(spectrum, s=(side,) * ndim, axes=range(ndim))
    return texture / texture.std()
