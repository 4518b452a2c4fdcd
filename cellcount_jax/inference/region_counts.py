"""Counts by region: what lies in each, and what lies in none, so that nothing is dropped."""

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellcount_jax.data.pixel_size import Scale
from cellcount_jax.inference.out_of_core import TakeDensity
from cellcount_jax.inference.readout import Count
from cellcount_jax.inference.region_integrals import density_sums, points_inside, union
from cellcount_jax.io.images.image import LazyImage
from cellcount_jax.io.regions import OUTSIDE, Region, Shape, find_regions_file, read_regions

log = logging.getLogger(__name__)

Row = dict[str, Any]


def rows_of(place: Path) -> Callable[[LazyImage], "RegionRows"]:
    """Makes a row per region of an image's row, for `predict`.

    Args:
      place: a file of regions, or a folder of files named like the images. An image without a
        file keeps its one row, and that is logged.

    Raises:
      ValueError: `place` is missing.
    """
    if not place.exists():
        raise ValueError(f"{place}: no such file or folder of regions")

    def begin(image: LazyImage) -> RegionRows:
        path = find_regions_file(place, image.path)
        if path is None:
            log.warning("%s: no file of regions in %s; counted as a whole", image.path, place)
            return RegionRows([], image.space_shape)
        return RegionRows(read_regions(path, image.space_shape), image.space_shape)

    return begin


class RegionRows:
    """Rows of one image: read before it is counted, summed while it is, written after it.

    Args:
      regions: of the image; with none of them it keeps its one row.
      shape: of the image without channels.
    """

    def __init__(self, regions: Sequence[Region], shape: Shape):
        self._regions, self._shape = regions, tuple(shape)
        # What they cover together is summed with them; without regions it is nothing to be held.
        self._all = [*regions, union(regions, shape)] if regions else []
        self._sums: np.ndarray | None = None

    def start_density(self, whole: tuple[int, ...], scale: Scale) -> TakeDensity:
        """Takes the density of an image that is counted by parts; see `lazy.StartDensity`."""
        sums = self._sums = np.zeros(len(self._all))

        def take(box: tuple[slice, ...], values: np.ndarray) -> None:
            nonlocal sums
            sums += density_sums(values, self._all, self._shape, scale=scale, box=box, whole=whole)

        return take

    def rows(self, row: Row, found: Count) -> list[Row]:
        """A row per region and one for what lies outside, from the image's own."""
        if not self._regions:
            return [row]
        sizes = [row.get(f"spacing_{axis}") or None for axis in "zyx"[3 - len(self._shape) :]]
        spacing = None if None in sizes else [float(str(size)) for size in sizes]
        parts = count_regions(
            found,
            self._regions,
            self._shape,
            spacing=spacing,
            sums=self._sums,
            covered=self._all[-1],
        )
        return [row | part | _tidy(part) for part in parts]


def _tidy(part: Row) -> Row:
    """Counts to six decimals: the rows of a table still add up to its count."""
    values = {key: part[key] for key in ("count", "density_sum")}
    return {k: round(v, 6) + 0.0 if isinstance(v, float) else v for k, v in values.items()}


def count_regions(
    found: Count,
    regions: Sequence[Region],
    shape: Shape,
    *,
    spacing: Sequence[float] | None = None,
    sums: np.ndarray | None = None,
    covered: Region | None = None,
) -> list[Row]:
    """A row per region, and a last one for what lies outside all of them.

    A point belongs to the pixel that it lies in; of a pixel of the density the part within the
    region counts. Regions that overlap each count their own, and that is logged. Rows of regions
    that do not overlap and the row outside add up to the image's count.

    Args:
      found: in the image.
      regions: of the image.
      shape: of the image without channels, (H, W) or (D, H, W).
      spacing: micrometres per pixel, (y, x) or (z, y, x), if known.
      sums: [R + 1] cells by the density in each region and, last, in their `union`, for an image
        whose density is not kept; see `density_sums`.
      covered: the `union` of the regions, where it is known already.

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
) -> Row:
    count = float(n_points or 0) if density_sum is None else density_sum
    row: Row = {
        "roi": name,
        "count": count,
        "n_points": "" if n_points is None else n_points,
        "density_sum": "" if density_sum is None else density_sum,
        "area_px": area,
    }
    if spacing is not None:
        axes = len(spacing)
        extent = size * math.prod(spacing) * 10.0 ** (-3 * axes)
        row[f"cells_per_mm{axes}"] = count / extent if extent else ""
    return row
