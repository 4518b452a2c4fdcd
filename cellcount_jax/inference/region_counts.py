"""Counts by region: what lies in each, and what lies in none, so that nothing is dropped.

How much of a density lies in a region, and which points do, is computed in `region_integrals`.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cellcount_jax.inference.readout import Count
from cellcount_jax.inference.region_integrals import density_sums, points_inside, union
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
    all_of = [*regions, covered]
    if found.density_sum is None:
        sums = None
    elif sums is None:
        if found.density is None:
            raise ValueError("the image's density is not kept, and its sums are not given")
        sums = density_sums(found.density, all_of, shape, scale=found.scale)
    numbers: list[int | None] = [None] * len(all_of)
    if found.points is not None:
        numbers = [int(points_inside(found.points, region, shape).sum()) for region in all_of]
    sizes = [_size(region, shape) for region in all_of]
    if sum(size for size, _ in sizes[:-1]) > sizes[-1][0]:
        log.warning("regions overlap: cells in several of them count in each")
    rows = [
        _row(region.name, numbers[i], None if sums is None else float(sums[i]), *sizes[i], spacing)
        for i, region in enumerate(regions)
    ]
    outside = _row(
        OUTSIDE,
        None if found.points is None else len(found.points) - int(numbers[-1] or 0),
        None if sums is None or found.density_sum is None else found.density_sum - float(sums[-1]),
        *_size(covered, shape, outside=True),
        spacing,
    )
    return [*rows, outside]


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
    size: int,
    area: int,
    spacing: Sequence[float] | None,
) -> RegionRow:
    count = float(n_points or 0) if density_sum is None else density_sum
    row: RegionRow = {
        "roi": name,
        "count": count,
        "n_points": "" if n_points is None else n_points,
        "density_sum": "" if density_sum is None else density_sum,
        "area_px": area,
    }
    return row if spacing is None else row | cells_per_mm(count, size, spacing)


def cells_per_mm(count: float, size: int, spacing: Sequence[float]) -> RegionRow:
    """The column `cells_per_mm2` or `cells_per_mm3`.

    Args:
      count: cells.
      size: pixels or voxels in which they lie; "" stands for the density of none.
      spacing: micrometres per pixel, (y, x) or (z, y, x).
    """
    axes = len(spacing)
    extent = size * math.prod(spacing) * 10.0 ** (-3 * axes)
    return {f"cells_per_mm{axes}": count / extent if extent else ""}
