"""Exact distance from every pixel or voxel to its nearest dot; dots may lie between pixels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CHUNK_SIZE = 2**20
"""Number of pixels, or of pairs of block and dot, computed together: bounds the memory."""

SMALL_BLOCK = 512
"""Pixels of a block that is only divided further if it has more than `MANY_DOTS` dots."""

MANY_DOTS = 32


class Blocks(NamedTuple):
    """Blocks of equal size, each with the dots that may be nearest to any of its pixels.

    `origins` [n, ndim] are first pixels, `sides` [ndim] powers of 2, `numbers` [n] numbers of dots
    per block, and `dots` [sum of numbers] their indices, block after block.
    """

    origins: np.ndarray
    sides: np.ndarray
    numbers: np.ndarray
    dots: np.ndarray

    def select(self, rows: np.ndarray) -> "Blocks":
        """Some of the blocks, by mask or indices."""
        starts = np.cumsum(self.numbers) - self.numbers
        numbers = self.numbers[rows]
        entries = _ranges(starts[rows], numbers)
        return Blocks(self.origins[rows], self.sides, numbers, self.dots[entries])


def anisotropy(spacing: Sequence[float] | None, ndim: int) -> np.ndarray:
    """Voxel size per axis relative to the last axis.

    Args:
      spacing: Voxel size per axis in any unit; None for isotropic pixels.
      ndim: Number of space axes.

    Returns:
      [ndim] float64; ones if there is no spacing.

    Raises:
      ValueError: The spacing has another number of axes or is not positive.
    """
    if spacing is None:
        return np.ones(ndim)
    sizes = np.asarray(spacing, np.float64)
    if sizes.shape != (ndim,) or not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise ValueError(f"spacing {spacing!r}: {ndim} positive numbers are needed, one per axis")
    return sizes / sizes[-1]


def nearest_distance(dots: np.ndarray, shape: Sequence[int], weights: np.ndarray) -> np.ndarray:
    """Euclidean distance from each pixel's centre to the nearest dot.

    The image is divided recursively into blocks. A dot is dropped from a block if the dot nearest
    to the block's centre is closer to every pixel of the block. The nearest dot of a pixel is
    therefore never dropped, and comparing a small block's pixels with its few dots is exact.

    Args:
      dots: Positions [N, ndim] float64 in pixels, N >= 1.
      shape: Sides of the image, each >= 1.
      weights: Voxel size along each axis, [ndim].

    Returns:
      [*shape] float32, in the units of `weights`.
    """
    points = np.unique(dots * weights, axis=0)
    squared = np.empty(tuple(shape), np.float32)
    sides = 2 ** np.ceil(np.log2(shape)).astype(int)
    whole = Blocks(
        np.zeros((1, len(shape)), int), sides, np.array([len(points)]), np.arange(len(points))
    )
    _fill(squared, points, whole, weights)
    return np.sqrt(squared, out=squared)


def _fill(squared: np.ndarray, points: np.ndarray, blocks: Blocks, weights: np.ndarray) -> None:
    """Writes the smallest squared distances of the blocks' pixels."""
    size = int(blocks.sides.prod())
    divide = (blocks.numbers > 2) & (size > SMALL_BLOCK)
    divide |= (blocks.numbers > MANY_DOTS) & (size > 1)
    divide |= size > CHUNK_SIZE
    if not divide.all():
        _compare_all(squared, points, blocks.select(~divide), weights)
    if not divide.any():
        return
    blocks = blocks.select(divide)
    ends = np.cumsum(blocks.numbers) * 2 ** len(blocks.sides) // CHUNK_SIZE
    for rows in np.split(np.arange(len(ends)), np.flatnonzero(np.diff(ends)) + 1):
        smaller = _halve(blocks.select(rows), weights, squared.shape)
        _fill(squared, points, _prune(smaller, points, weights), weights)


def _halve(blocks: Blocks, weights: np.ndarray, shape: Sequence[int]) -> Blocks:
    """Halves the long axes; blocks outside the image are left out."""
    lengths = blocks.sides * weights
    long = (blocks.sides > 1) & (lengths > 0.5 * lengths[blocks.sides > 1].max())
    sides = np.where(long, blocks.sides // 2, blocks.sides)
    grid = np.meshgrid(*([0, s] if halved else [0] for s, halved in zip(sides, long, strict=True)))
    steps = np.stack([g.ravel() for g in grid], axis=-1)
    parents = np.repeat(np.arange(len(blocks.origins)), len(steps))
    origins = blocks.origins[parents] + np.tile(steps, (len(blocks.origins), 1))
    inside = (origins < np.asarray(shape)).all(axis=1)
    return blocks.select(parents[inside])._replace(origins=origins[inside], sides=sides)


def _prune(blocks: Blocks, points: np.ndarray, weights: np.ndarray) -> Blocks:
    """Drops dots that are not nearest to any pixel of their block."""
    half = (blocks.sides - 1) / 2 * weights
    owner = np.repeat(np.arange(len(blocks.numbers)), blocks.numbers)
    starts = np.cumsum(blocks.numbers) - blocks.numbers
    at = points[blocks.dots]
    squared = np.square(at - (blocks.origins * weights + half)[owner]).sum(axis=1)
    least = np.minimum.reduceat(squared, starts)
    entries = np.flatnonzero(squared == least[owner])
    nearest = np.empty(len(starts), int)
    nearest[owner[entries]] = entries
    # |p - c|^2 - |p - c'|^2 is linear in p, so its minimum over a block is known.
    gain = 2 * np.abs(at - at[nearest][owner]) @ half
    # The margin covers rounding; keeping a dot too many is harmless.
    keep = squared - least[owner] <= gain + 1e-12 * (1 + squared)
    return blocks._replace(
        numbers=np.bincount(owner[keep], minlength=len(starts)), dots=blocks.dots[keep]
    )


def _compare_all(
    squared: np.ndarray, points: np.ndarray, blocks: Blocks, weights: np.ndarray
) -> None:
    """Compares all pixels of all blocks with their dots, blocks of similar numbers together."""
    step = max(1, CHUNK_SIZE // int(blocks.sides.prod()))
    classes = np.ceil(np.log2(blocks.numbers))
    for one in np.unique(classes):
        rows = np.flatnonzero(classes == one)
        for start in range(0, len(rows), step):
            chunk = blocks.select(rows[start : start + step])
            _write(squared, chunk.origins, _compare(chunk, points, weights))


def _compare(blocks: Blocks, points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Smallest squared distances [n, *sides]."""
    ndim = len(blocks.sides)
    # Blocks with fewer dots than others repeat their first one.
    column = np.arange(blocks.numbers.max())
    starts = np.cumsum(blocks.numbers) - blocks.numbers
    entries = starts[:, None] + np.where(column < blocks.numbers[:, None], column, 0)
    at = points[blocks.dots[entries]]
    terms = []
    for axis, side in enumerate(blocks.sides):
        pixels = (blocks.origins[:, axis, None] + np.arange(side)) * weights[axis]
        # Differences in float64; the sum of squares is exact enough in float32.
        term = np.square(pixels[:, None] - at[:, :, axis, None]).astype(np.float32)
        terms.append(term.reshape(*term.shape[:2], *(1,) * axis, side, *(1,) * (ndim - 1 - axis)))
    best = np.full((len(at), *blocks.sides), np.inf, np.float32)
    scratch = np.empty_like(best)
    for k in column:
        plane = sum(term[:, k] for term in terms[1:])
        np.minimum(best, np.add(terms[0][:, k], plane, out=scratch), out=best)
    return best


def _write(squared: np.ndarray, origins: np.ndarray, values: np.ndarray) -> None:
    """Writes blocks [n, *sides] into the image; parts beyond the border are dropped."""
    ndim = squared.ndim
    index, keep = [], np.ones((1,) * values.ndim, bool)
    for axis in range(ndim):
        at = origins[:, axis, None] + np.arange(values.shape[1 + axis])
        at = at.reshape(len(at), *(1,) * axis, -1, *(1,) * (ndim - 1 - axis))
        keep = keep & (at < squared.shape[axis])
        index.append(at)
    if keep.all():
        squared[tuple(index)] = values
        return
    keep = np.broadcast_to(keep, values.shape)
    squared[tuple(np.broadcast_to(i, values.shape)[keep] for i in index)] = values[keep]


def _ranges(starts: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """start, start + 1, ... for each start, concatenated."""
    offsets = np.cumsum(numbers) - numbers
    return np.repeat(starts - offsets, numbers) + np.arange(int(numbers.sum()))
