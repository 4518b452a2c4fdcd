"""Exact distance from every pixel or voxel to its nearest dot, for dots between pixels too."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CHUNK = 2**20
"""Pixels, or pairs of a block and a dot, that are computed together: bounds the memory."""

LEAF = 512
"""Pixels of a block that is not worth cutting unless many dots may be nearest in it."""

MANY = 32


class Blocks(NamedTuple):
    """Blocks of one size and the dots that may be nearest to some pixel of each.

    `origins` [n, ndim] are first pixels, `sides` [ndim] powers of 2, `numbers` [n] how many dots
    each block has, and `dots` [sum of numbers] their indices, block after block.
    """

    origins: np.ndarray
    sides: np.ndarray
    numbers: np.ndarray
    dots: np.ndarray

    def part(self, rows: np.ndarray) -> "Blocks":
        """The blocks of some rows (a mask or indices)."""
        starts = np.cumsum(self.numbers) - self.numbers
        numbers = self.numbers[rows]
        entries = _ranges(starts[rows], numbers)
        return Blocks(self.origins[rows], self.sides, numbers, self.dots[entries])


def anisotropy(spacing: Sequence[float] | None, ndim: int) -> np.ndarray:
    """Length of a pixel along each axis in units of the in-plane spacing, the last axis's.

    Args:
      spacing: voxel size per axis in any one unit; None for isotropic pixels.
      ndim: number of space axes.

    Returns:
      [ndim] float64; ones without a spacing.

    Raises:
      ValueError: the spacing has another number of axes or is not positive.
    """
    if spacing is None:
        return np.ones(ndim)
    sizes = np.asarray(spacing, np.float64)
    if sizes.shape != (ndim,) or not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise ValueError(f"spacing {spacing!r}: {ndim} positive numbers are needed, one per axis")
    return sizes / sizes[-1]


def nearest_distance(dots: np.ndarray, shape: Sequence[int], weights: np.ndarray) -> np.ndarray:
    """Euclidean distance from each pixel's centre to the nearest dot.

    The image is cut into ever smaller blocks. A dot is dropped from a block when the dot nearest
    to the block's centre is nearer in every pixel of the block; so the one that is nearest to a
    pixel is never dropped, and comparing a small block's pixels with its last few dots is exact.

    Args:
      dots: [N, ndim] float64, N >= 1, pixels.
      shape: sides of the image, each >= 1.
      weights: [ndim] length of a pixel along each axis.

    Returns:
      [*shape] float32, in the units of `weights`.
    """
    places = np.unique(dots * weights, axis=0)
    squared = np.empty(tuple(shape), np.float32)
    sides = 2 ** np.ceil(np.log2(shape)).astype(int)
    whole = Blocks(
        np.zeros((1, len(shape)), int), sides, np.array([len(places)]), np.arange(len(places))
    )
    _fill(squared, places, whole, weights)
    return np.sqrt(squared, out=squared)


def _fill(squared: np.ndarray, places: np.ndarray, blocks: Blocks, weights: np.ndarray) -> None:
    """Writes the least squared distances of the blocks' pixels."""
    size = int(blocks.sides.prod())
    cut = (blocks.numbers > 2) & (size > LEAF) | (blocks.numbers > MANY) & (size > 1)
    cut |= size > CHUNK
    if not cut.all():
        _compare_all(squared, places, blocks.part(~cut), weights)
    if not cut.any():
        return
    blocks = blocks.part(cut)
    ends = np.cumsum(blocks.numbers) * 2 ** len(blocks.sides) // CHUNK
    for rows in np.split(np.arange(len(ends)), np.flatnonzero(np.diff(ends)) + 1):
        smaller = _halve(blocks.part(rows), weights, squared.shape)
        _fill(squared, places, _prune(smaller, places, weights), weights)


def _halve(blocks: Blocks, weights: np.ndarray, shape: Sequence[int]) -> Blocks:
    """Cuts the long axes in two; parts outside the image are left out."""
    lengths = blocks.sides * weights
    long = (blocks.sides > 1) & (lengths > 0.5 * lengths[blocks.sides > 1].max())
    sides = np.where(long, blocks.sides // 2, blocks.sides)
    grid = np.meshgrid(*([0, s] if cut else [0] for s, cut in zip(sides, long, strict=True)))
    steps = np.stack([g.ravel() for g in grid], axis=-1)
    parents = np.repeat(np.arange(len(blocks.origins)), len(steps))
    origins = blocks.origins[parents] + np.tile(steps, (len(blocks.origins), 1))
    inside = (origins < np.asarray(shape)).all(axis=1)
    return blocks.part(parents[inside])._replace(origins=origins[inside], sides=sides)


def _prune(blocks: Blocks, places: np.ndarray, weights: np.ndarray) -> Blocks:
    """Drops the dots that can be nearest to no pixel of their block."""
    half = (blocks.sides - 1) / 2 * weights
    owner = np.repeat(np.arange(len(blocks.numbers)), blocks.numbers)
    starts = np.cumsum(blocks.numbers) - blocks.numbers
    at = places[blocks.dots]
    squared = np.square(at - (blocks.origins * weights + half)[owner]).sum(axis=1)
    least = np.minimum.reduceat(squared, starts)
    entries = np.flatnonzero(squared == least[owner])
    nearest = np.empty(len(starts), int)
    nearest[owner[entries]] = entries
    # |p - c|^2 - |p - c'|^2 is linear in p, so its least value over a box is known.
    gain = 2 * np.abs(at - at[nearest][owner]) @ half
    # The margin covers rounding; one dot too many does no harm.
    keep = squared - least[owner] <= gain + 1e-12 * (1 + squared)
    return blocks._replace(
        numbers=np.bincount(owner[keep], minlength=len(starts)), dots=blocks.dots[keep]
    )


def _compare_all(
    squared: np.ndarray, places: np.ndarray, blocks: Blocks, weights: np.ndarray
) -> None:
    """Compares all pixels of all blocks with all their dots, in chunks of about as many dots."""
    step = max(1, CHUNK // int(blocks.sides.prod()))
    classes = np.ceil(np.log2(blocks.numbers))
    for one in np.unique(classes):
        rows = np.flatnonzero(classes == one)
        for start in range(0, len(rows), step):
            chunk = blocks.part(rows[start : start + step])
            _write(squared, chunk.origins, _compare(chunk, places, weights))


def _compare(blocks: Blocks, places: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Least squared distances [n, *sides]."""
    ndim = len(blocks.sides)
    # Blocks with fewer dots than others repeat their first one.
    column = np.arange(blocks.numbers.max())
    starts = np.cumsum(blocks.numbers) - blocks.numbers
    entries = starts[:, None] + np.where(column < blocks.numbers[:, None], column, 0)
    at = places[blocks.dots[entries]]
    terms = []
    for axis, side in enumerate(blocks.sides):
        pixels = (blocks.origins[:, axis, None] + np.arange(side)) * weights[axis]
        # Differences in float64; what is summed after that is positive, so float32 is enough.
        term = np.square(pixels[:, None] - at[:, :, axis, None]).astype(np.float32)
        terms.append(term.reshape(*term.shape[:2], *(1,) * axis, side, *(1,) * (ndim - 1 - axis)))
    best = np.full((len(at), *blocks.sides), np.inf, np.float32)
    scratch = np.empty_like(best)
    for k in column:
        plane = sum(term[:, k] for term in terms[1:])
        np.minimum(best, np.add(terms[0][:, k], plane, out=scratch), out=best)
    return best


def _write(squared: np.ndarray, origins: np.ndarray, values: np.ndarray) -> None:
    """Puts blocks [n, *sides] where they belong; what reaches over the border is dropped."""
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
    """start, start + 1, ... for each start, joined."""
    offsets = np.cumsum(numbers) - numbers
    return np.repeat(starts - offsets, numbers) + np.arange(int(numbers.sum()))
