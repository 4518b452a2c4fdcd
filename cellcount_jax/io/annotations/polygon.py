"""Centres of outlines."""

from collections.abc import Sequence

import numpy as np


def centroid(rings: Sequence[np.ndarray]) -> np.ndarray:
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
