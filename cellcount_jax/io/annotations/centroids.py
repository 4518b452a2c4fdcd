"""Centres of the cells of a label mask, and of outlines."""

from collections.abc import Sequence

import numpy as np

# Labels up to here are counted in a table, which is faster than sorting the pixels.
MAX_TABLE_LABEL = 1 << 24


def label_centroids(mask: np.ndarray) -> np.ndarray:
    """Centroids of the cells of a label mask.

    Args:
      mask: [*space] integers, 0 is background, each other number one cell.

    Returns:
      [N, ndim] float32, in pixels, in the order of the labels.
    """
    positions = np.nonzero(mask)
    labels = mask[positions]
    if labels.size and labels.max() >= MAX_TABLE_LABEL:
        labels = np.unique(labels, return_inverse=True)[1] + 1
    labels = labels.astype(np.int64)
    sizes = np.bincount(labels)
    present = np.flatnonzero(sizes)
    sums = [np.bincount(labels, weights=axis)[present] for axis in positions]
    return (np.stack(sums, axis=1) / sizes[present, None]).astype(np.float32)


def polygon_centroid(rings: Sequence[np.ndarray]) -> np.ndarray:
    """Centre of area of a polygon.

    Args:
      rings: [M, 2] float arrays of vertices, closed or open, any axis order: the outer ring, then
        the holes.

    Returns:
      [2] float64, the mean of the outer vertices when the area is zero. Not finite where the
      vertices are not.
    """
    outer = np.asarray(rings[0], np.float64)
    origin = outer[0]
    area, moment = 0.0, np.zeros(2)
    with np.errstate(all="ignore"):
        for i, ring in enumerate(rings):
            # Relative to a vertex: far from the origin the products would lose digits.
            a = np.asarray(ring, np.float64) - origin
            b = np.roll(a, -1, axis=0)
            cross = a[:, 0] * b[:, 1] - b[:, 0] * a[:, 1]
            part = cross.sum() / 2
            sign = np.sign(part) if i == 0 else -np.sign(part)
            area += sign * part
            moment += sign * ((a + b) * cross[:, None]).sum(axis=0) / 6
        if not area > 0:
            return outer.mean(axis=0)
        return origin + moment / area
