"""Counts by region: what lies in each, and what lies in none, so that nothing is dropped."""

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from cellcount_jax.data.resize import Scale
from cellcount_jax.inference.readout import Count
from cellcount_jax.io.regions import OUTSIDE, Region, Shape

log = logging.getLogger(__name__)

RegionRow = dict[str, Any]
"""What a region adds to its image's row in `counts.csv`, by column."""


def count_regions(
    found: Count,
    regions: Sequence[Region],
    shape: Shape,
    *,
    spacing: Sequence[float] | None = None,
    sums: np.ndarray | None = None,
    covered: Region | None = None,
) -> list[RegionRow]:
    """A row per region, and a last one for what lies outside all of them.

    A point belongs to the pixel that it lies in; a position of the density is divided by area.
    The rows add up to the image's count unless regions overlap: those each count their own, which
    is logged.

    Args:
      found: count of the image.
      regions: of the image.
      shape: of the image without channels, (H, W) or (D, H, W).
      spacing: micrometres per pixel, (y, x) or (z, y, x), if known.
      sums: [R + 1] cells by the density in each region and, last, in their `union`, for an image
        whose density is not kept; see `density_sums`.
      covered: the `union` of the regions, if it is known already.

    Returns:
      Rows with `roi`, `count`, `n_points`, `density_sum`, `area_px` (in the plane), and, with
      `spacing`, `cells_per_mm2` or `cells_per_mm3` of the region; "" where there is none.

    Raises:
      ValueError: the count is a density's, and neither the density nor `sums` are given.
    """
    covered = union(regions, shape) if covered is None else covered
    every = [*regions, covered]
    sizes = [_size(region, shape) for region in every]
    if sum(size for size, _ in sizes[:-1]) > sizes[-1][0]:
        log.warning("regions overlap: cells in several of them count in each")
    sizes[-1] = _size(covered, shape, outside=True)
    numbers: list[int | None] = [None] * len(every)
    if found.points is not None:
        inside = [int(points_inside(found.points, region, shape).sum()) for region in every]
        numbers = [*inside[:-1], len(found.points) - inside[-1]]
    cells: list[float | None] = [None] * len(every)
    if found.density_sum is not None:
        if sums is None:
            if found.density is None:
                raise ValueError("the image's density is not kept, and its sums are not given")
            sums = density_sums(found.density, every, shape, scale=found.scale)
        cells = [*sums[:-1].tolist(), found.density_sum - float(sums[-1])]
    names = [*(region.name for region in regions), OUTSIDE]
    columns = zip(names, numbers, cells, sizes, strict=True)
    return [_row(*values, spacing) for values in columns]


def _size(region: Region, shape: Shape, *, outside: bool = False) -> tuple[int, int]:
    """Pixels or voxels of a region, or of all else, and pixels that they cover in the plane."""
    planes = 1 if region.inside.ndim == len(shape) else shape[0]
    inside = ~region.inside if outside else region.inside
    flat = inside.any(axis=0) if inside.ndim == 3 else inside
    return planes * int(inside.sum()), int(flat.sum())


def _row(
    name: str,
    n_points: int | None,
    density_sum: float | None,
    size: tuple[int, int],
    spacing: Sequence[float] | None,
) -> RegionRow:
    count = float(n_points or 0) if density_sum is None else density_sum
    row: RegionRow = {
        "roi": name,
        "count": count,
        "n_points": "" if n_points is None else n_points,
        "density_sum": "" if density_sum is None else density_sum,
        "area_px": size[1],
    }
    return row if spacing is None else row | cells_per_mm(count, size[0], spacing)


def cells_per_mm(count: float, size: int, spacing: Sequence[float]) -> RegionRow:
    """The column `cells_per_mm2` or `cells_per_mm3`.

    Args:
      count: cells.
      size: pixels or voxels in which they lie; "" stands for the density of none.
      spacing: micrometres per pixel, (y, x) or (z, y, x).
    """
    axes = len(spacing)
    extent = size * math.prod(spacing) * 10.0 ** (-3 * axes)
    # Six digits: more than a count has.
    return {f"cells_per_mm{axes}": float(f"{count / extent:.6g}") if extent else ""}


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
