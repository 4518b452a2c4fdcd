"""Counts per region and outside all regions, so that nothing is dropped."""

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
"""The values of a region in `counts.csv`, by column."""


def count_regions(
    found: Count,
    regions: Sequence[Region],
    shape: Shape,
    *,
    spacing: Sequence[float] | None = None,
    sums: np.ndarray | None = None,
    covered: Region | None = None,
) -> list[RegionRow]:
    """One row per region, and a last one for everything outside.

    A point belongs to the pixel that it lies in; a density value is divided by area. The rows add
    up to the image's count unless regions overlap: a cell in several regions counts in each, which
    is logged.

    Args:
      found: Count of the image.
      regions: Regions of the image.
      shape: Shape of the image without channels, (H, W) or (D, H, W).
      spacing: Micrometres per pixel, (y, x) or (z, y, x), if known.
      sums: Sums of the density [R + 1], in cells, in each region and, last, in their `union`, for
        an image whose density is not kept; see `density_sums`.
      covered: The `union` of the regions, if already known.

    Returns:
      Rows with `roi`, `count`, `n_points`, `density_sum`, `area_px` (in the plane), and, with
      `spacing`, `cells_per_mm2` or `cells_per_mm3` of the region; "" where not applicable.

    Raises:
      ValueError: The count is a sum of the density, but neither the density nor `sums` are given.
    """
    covered = union(regions, shape) if covered is None else covered
    every = [*regions, covered]
    sizes = [_size(region, shape) for region in every]
    if sum(size for size, _ in sizes[:-1]) > sizes[-1][0]:
        log.warning("regions overlap: cells in several of them are counted in each")
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
    """Pixels or voxels in a region (or outside it), and its area in the plane, in pixels."""
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
      count: Number of cells.
      size: Number of pixels or voxels in which they lie; if 0, the value is "".
      spacing: Micrometres per pixel, (y, x) or (z, y, x).
    """
    axes = len(spacing)
    extent = size * math.prod(spacing) * 10.0 ** (-3 * axes)
    # Six significant digits: more than a count has.
    return {f"cells_per_mm{axes}": float(f"{count / extent:.6g}") if extent else ""}


def points_inside(points: np.ndarray, region: Region, shape: Shape) -> np.ndarray:
    """Which points lie in a region, [N] bool.

    Args:
      points: Positions [N, ndim] in pixels, an integer is a pixel's centre; points outside the
        image belong to the nearest pixel.
      region: A region of the image.
      shape: Shape of the image without channels.
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
    """Sum of the density in each region, [R] float64, in cells; the sums of boxes add up.

    Args:
      density: Cells per position of the map, which may be coarser than the image; all of it, or
        a box of it.
      regions: Regions of the image.
      shape: Shape of the image without channels.
      scale: Factor by which the image was resized before the map was made.
      box: Box of the map that `density` holds.
      whole: Shape of the whole map.
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
    """Borders of a map's positions along one side of the image, [positions + 1] float64, in pixels.

    The image's `side` pixels were resized by `scale`, and one position of the map stands for 1,
    2, 4, ... of these; the last one may extend beyond the image and is cut.
    """
    resized = max(1, round(side * scale))
    stride = 1
    while -(-resized // stride) > positions:
        stride *= 2
    if -(-resized // stride) != positions:
        raise ValueError(f"a map of {positions} positions is not that of {side} pixels x {scale:g}")
    return np.minimum(np.arange(positions + 1) * stride, resized) * (side / resized)


def union(regions: Sequence[Region], shape: Shape) -> Region:
    """The union of the regions."""
    ndim = max((region.inside.ndim for region in regions), default=len(shape))
    covered = np.zeros(tuple(shape[-ndim:]), bool)
    for region in regions:
        where: Any = (..., *region.box)  # a 2-D region extends through all planes
        covered[where] |= region.inside
    return Region("", (0,) * ndim, covered)


def _sum_inside(values: np.ndarray, region: Region, edges: Sequence[np.ndarray]) -> float:
    """Sum of the values in a region; `edges` are the borders of their positions, in pixels."""
    inside = []
    for axis, edge in enumerate(edges[-values.ndim :]):
        corner, n = region.corner[axis], region.inside.shape[axis]
        low = max(corner, int(edge[0]))
        high = max(low, min(corner + n, math.ceil(edge[-1])))
        inside.append(slice(low - corner, high - corner))
        # From positions to the region's pixels along this axis.
        moved = np.moveaxis(values, axis, 0)
        spread = _overlaps(edge, low, high).T @ moved.reshape(len(moved), -1)
        values = np.moveaxis(spread.reshape(high - low, *moved.shape[1:]), 0, axis)
    return float(values[region.inside[tuple(inside)]].sum())


def _overlaps(edges: np.ndarray, low: int, high: int) -> sparse.csr_array:
    """Fraction of each position in each pixel from `low` on, [positions, high - low]."""
    start, stop = edges[:-1, None], edges[1:, None]
    pixels = np.floor(start).astype(int) + np.arange(math.ceil((stop - start).max()) + 1)
    shared = np.minimum(stop, pixels + 1) - np.maximum(start, pixels)
    entries = np.nonzero((shared > 0) & (pixels >= low) & (pixels < high))
    fractions = (shared / (stop - start))[entries]
    shape = (len(pixels), high - low)
    return sparse.csr_array((fractions, (entries[0], pixels[entries] - low)), shape=shape)
