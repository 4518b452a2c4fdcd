"""Counts by region: what lies in each, and what lies in none, so that nothing is dropped."""

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellcount_jax.counting.readout import Count
from cellcount_jax.data.images import LazyPicture
from cellcount_jax.data.regions import OUTSIDE, Region, Shape, find_regions_file, read_regions
from cellcount_jax.data.units import Scale

__all__ = [
    "OUTSIDE",
    "Region",
    "count_regions",
    "density_sums",
    "find_regions_file",
    "points_inside",
    "read_regions",
    "rows_of",
    "union",
]

log = logging.getLogger(__name__)

Row = dict[str, Any]


def rows_of(place: Path) -> Callable[[Row, Count, LazyPicture], list[Row]]:
    """Makes a row per region of a picture's row, for `predict`.

    Args:
      place: a file of regions, or a folder of files named like the pictures. A picture without a
        file keeps its one row, and that is logged.

    Raises:
      ValueError: `place` is missing.
    """
    if not place.exists():
        raise ValueError(f"{place}: no such file or folder of regions")

    def rows(row: Row, found: Count, picture: LazyPicture) -> list[Row]:
        path = find_regions_file(place, picture.path)
        if path is None:
            log.warning("%s: no file of regions in %s; counted as a whole", picture.path, place)
            return [row]
        shape = picture.space_shape
        regions = read_regions(path, shape)
        sizes = [row.get(f"spacing_{axis}") or None for axis in "zyx"[3 - len(shape) :]]
        spacing = None if None in sizes else [float(str(size)) for size in sizes]
        parts = count_regions(found, regions, shape, spacing=spacing)
        return [row | part | _tidy(part) for part in parts]

    return rows


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
    sums: Sequence[float] | None = None,
) -> list[Row]:
    """A row per region, and a last one for what lies outside all of them.

    A point belongs to the pixel that it lies in; of a pixel of the density the part within the
    region counts. Regions that overlap each count their own, and that is logged. Rows of regions
    that do not overlap and the row outside add up to the picture's count.

    Args:
      found: in the picture.
      regions: of the picture.
      shape: of the picture without channels, (H, W) or (D, H, W).
      spacing: micrometres per pixel, (y, x) or (z, y, x), if known.
      sums: cells by the density in each region and, last, in their `union`, for a picture whose
        density is not kept; see `density_sums`.

    Returns:
      Rows with `roi`, `count`, `n_points`, `density_sum`, `area_px` (in the plane), and, with
      `spacing`, `area_mm2` and `cells_per_mm2` or `cells_per_mm3`; "" where there is none.

    Raises:
      ValueError: the count is a density's, and neither the density nor `sums` are given.
    """
    covered = union(regions, shape)
    all_of = [*regions, covered]
    inside = None if found.points is None else points_inside(found.points, all_of, shape)
    if found.density_sum is not None and sums is None:
        if found.density is None:
            raise ValueError(
                "a picture of this size is counted by parts and its density is not kept, so it "
                "cannot be summed in regions; cut the picture into smaller ones"
            )
        sums = density_sums(found.density, all_of, shape, scale=found.scale).tolist()
    sizes = [_size(region, shape) for region in all_of]
    if sum(size for size, _ in sizes[:-1]) > sizes[-1][0]:
        log.warning("regions overlap: cells in several of them count in each")
    rows = [
        _row(
            region.name,
            None if inside is None else int(inside[i].sum()),
            None if found.density_sum is None or sums is None else float(sums[i]),
            *sizes[i],
            spacing,
        )
        for i, region in enumerate(regions)
    ]
    outside = _row(
        OUTSIDE,
        None if inside is None else int((~inside[-1]).sum()),
        None if found.density_sum is None or sums is None else found.density_sum - sums[-1],
        *_size(covered, shape, outside=True),
        spacing,
    )
    return [*rows, outside]


def points_inside(points: np.ndarray, regions: Sequence[Region], shape: Shape) -> np.ndarray:
    """[R, N] bool: which points lie in which regions.

    Args:
      points: [N, ndim] in pixels, integer = centre of that pixel; those beyond the picture's rim
        belong to the pixel next to them.
      regions: of the picture.
      shape: of the picture without channels.
    """
    last = np.array(shape) - 1
    pixels = np.clip(np.floor(points.astype(np.float64) + 0.5), 0, last).astype(np.int64)
    inside = np.zeros((len(regions), len(points)), bool)
    for row, region in zip(inside, regions, strict=True):
        place = pixels[:, -region.inside.ndim :] - np.array(region.corner)
        near = np.flatnonzero(((place >= 0) & (place < region.inside.shape)).all(axis=1))
        row[near] = region.inside[tuple(place[near].T)]
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
      density: cells per position of the map, which may be coarser than the picture; all of it, or
        a part.
      regions: of the picture.
      shape: of the picture without channels.
      scale: by which the picture was resized before the map was made.
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
    """[positions + 1] float64: where the positions of a map begin and end along a picture's side.

    The picture's `side` pixels were resized by `scale`, and the network makes one position of the
    map of each 1, 2, 4, ... pixels; the last one may reach beyond the picture and is cut.
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
        row["area_mm2"] = area * math.prod(spacing[-2:]) * 1e-6
        axes = len(spacing)
        extent = size * math.prod(spacing) * 10.0 ** (-3 * axes)
        row[f"cells_per_mm{axes}"] = count / extent if extent else ""
    return row
