"""What lies in regions of an image: points, and cells by a density, whole or box by box."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

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
    """[R] float64: cells by the density in each region; the sums of boxes add up.

    Args:
      density: cells per position of the map, which may be coarser than the image; all of it, or
        a box of it.
      regions: of the image.
      shape: of the image without channels.
      scale: by which the image was resized before the map was made.
      box: where the density lies in the map.
      whole: shape of the whole map.
    """
    whole = density.shape if whole is None else whole
    box = [slice(0, n) for n in whole] if box is None else box
    scales = np.broadcast_to(scale, len(shape)).tolist()
    edges = [
        map_edges(side, n, factor)[part.start : part.stop + 1]
        for side, n, factor, part in zip(shape, whole, scales, box, strict=True)
    ]
    flat = density.sum(axis=0, dtype=np.float64) if density.ndim == 3 else density
    return np.array(
        [
            _sum_inside(density if region.inside.ndim == density.ndim else flat, region, edges)
            for region in regions
        ]
    )


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


def _sum_inside(values: np.ndarray, region: Region, edges: Sequence[np.ndarray]) -> float:
    """Sum in a region of values whose positions begin and end at these edges, in pixels."""
    inside = []
    for axis, edge in enumerate(edges[-values.ndim :]):
        corner, n = region.corner[axis], region.inside.shape[axis]
        low = max(corner, int(edge[0]))
        high = max(low, min(corner + n, math.ceil(edge[-1])))
        inside.append(slice(low - corner, high - corner))
        # From positions to the pixels that the region has along this axis.
        moved = np.moveaxis(values, axis, 0)
        spread = _overlaps(edge, low, high).T @ moved.reshape(len(moved), -1)
        values = np.moveaxis(spread.reshape(high - low, *moved.shape[1:]), 0, axis)
    return float(values[region.inside[tuple(inside)]].sum())


def _overlaps(edges: np.ndarray, low: int, high: int) -> sparse.csr_array:
    """[positions, high - low]: fraction of each position that lies in each pixel from `low` on."""
    start, stop = edges[:-1, None], edges[1:, None]
    pixels = np.floor(start).astype(int) + np.arange(math.ceil((stop - start).max()) + 1)
    shared = np.minimum(stop, pixels + 1) - np.maximum(start, pixels)
    entries = np.nonzero((shared > 0) & (pixels >= low) & (pixels < high))
    fractions = (shared / (stop - start))[entries]
    shape = (len(pixels), high - low)
    return sparse.csr_array((fractions, (entries[0], pixels[entries] - low)), shape=shape)
