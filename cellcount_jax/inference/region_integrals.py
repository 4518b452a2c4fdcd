"""What lies in regions of an image: points, and cells by a density, whole or part by part."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cellcount_jax.data.resize import Scale
from cellcount_jax.io.regions import Region, Shape


def points_inside(points: np.ndarray, region: Region, shape: Shape) -> np.ndarray:
    """[N] bool: which points lie in a region.

    Args:
      points: [N, ndim] in pixels, integer = centre of that pixel; those beyond the image's rim
        belong to the pixel next to them.
      region: of the image.
      shape: of the image without channels.
    """
    axes = region.inside.ndim
    last = np.array(shape[-axes:]) - 1
    pixels = np.clip(np.floor(points[:, -axes:].astype(np.float64) + 0.5), 0, last).astype(np.int64)
    place = pixels - np.array(region.corner)
    near = np.flatnonzero(((place >= 0) & (place < region.inside.shape)).all(axis=1))
    inside = np.zeros(len(points), bool)
    inside[near] = region.inside[tuple(place[near].T)]
    return inside


def density_sums(
    density: np.ndarray,
    regions: Sequence[Region],
    shape: Shape,
    *,
    scale: Scale = 1.0,
    box: Sequence[slice] | None = None,
    whole: Shape | None = None,
) -> np.ndarray:
    """[R] float64: cells by the density in each region; sums of parts add up to those of the whole.

    Args:
      density: cells per position of the map, which may be coarser than the image; all of it, or
        a part.
      regions: of the image.
      shape: of the image without channels.
      scale: by which the image was resized before the map was made.
      box: where the part lies in the map.
      whole: shape of the whole map.
    """
    whole = density.shape if whole is None else whole
    box = [slice(0, n) for n in whole] if box is None else box
    scales = np.broadcast_to(scale, len(shape)).tolist()
    edges = [
        map_edges(side, n, factor)[part.start : part.stop + 1]
        for side, n, factor, part in zip(shape, whole, scales, box, strict=True)
    ]
    sums = np.zeros(len(regions))
    flat = None
    for i, region in enumerate(regions):
        values = density
        if region.inside.ndim < density.ndim:
            flat = density.sum(axis=0, dtype=np.float64) if flat is None else flat
            values = flat
        share, near = _share(region, edges[-values.ndim :])
        sums[i] = (values[near].astype(np.float64) * share).sum()
    return sums


def map_edges(side: int, positions: int, scale: float) -> np.ndarray:
    """[positions + 1] float64: where the positions of a map begin and end along an image's side.

    The image's `side` pixels were resized by `scale`, and the network makes one position of the
    map of each 1, 2, 4, ... pixels; the last one may reach beyond the image and is cut.
    """
    resized = max(1, round(side * scale))
    stride = 1
    while -(-resized // stride) > positions:
        stride *= 2
    if -(-resized // stride) != positions:
        raise ValueError(f"a map of {positions} positions is not that of {side} pixels x {scale:g}")
    return np.minimum(np.arange(positions + 1) * stride, resized) * (side / resized)


def union(regions: Sequence[Region], shape: Shape) -> Region:
    """What any of the regions covers."""
    ndim = max((region.inside.ndim for region in regions), default=len(shape))
    covered = np.zeros(tuple(shape[-ndim:]), bool)
    for region in regions:
        where: Any = (..., *region.box)  # a region of two axes goes through all planes
        covered[where] |= region.inside
    return Region("", (0,) * ndim, covered)


def _share(region: Region, edges: Sequence[np.ndarray]) -> tuple[np.ndarray, tuple[slice, ...]]:
    """Which part of each position of a map lies in a region, and which positions these are."""
    near, pixels = [], []
    for corner, n, edge in zip(region.corner, region.inside.shape, edges, strict=True):
        first = max(0, int(np.searchsorted(edge, corner, side="right")) - 1)
        last = max(first, min(len(edge) - 1, int(np.searchsorted(edge, corner + n))))
        near.append(slice(first, last))
        low, high = math.floor(edge[first]) - corner, math.ceil(edge[last]) - corner
        pixels.append(slice(max(0, low), max(0, min(n, high))))
    share = region.inside[tuple(pixels)]
    for axis, (positions, part, edge) in enumerate(zip(near, pixels, edges, strict=True)):
        own = edge[positions.start : positions.stop + 1] - (region.corner[axis] + part.start)
        share = _means(share, axis, own)
    return share, tuple(near)


def _means(values: np.ndarray, axis: int, edges: np.ndarray) -> np.ndarray:
    """Means over intervals along an axis of values that are constant over each pixel, 0 beyond."""
    n = values.shape[axis]
    pixels = np.arange(n + 1)
    if len(edges) == n + 1 and (edges == pixels).all():
        return values
    values = np.moveaxis(values, axis, 0)
    total = np.zeros((n + 1, *values.shape[1:]))
    np.cumsum(values, axis=0, out=total[1:])
    at = np.clip(edges, 0, n)
    below = np.minimum(at.astype(int), max(0, n - 1))
    part = (at - below).reshape(-1, *(1,) * (values.ndim - 1))
    reached = total[below] + part * (total[np.minimum(below + 1, n)] - total[below])
    lengths = np.diff(edges).reshape(-1, *(1,) * (values.ndim - 1))
    return np.moveaxis(np.diff(reached, axis=0) / lengths, 0, axis)
