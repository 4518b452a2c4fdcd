"""An image's count against the truth, region by region."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cellcount_jax.evaluation.matching import match_pairs
from cellcount_jax.evaluation.summary import FACTORS, Row
from cellcount_jax.inference.readout import Count
from cellcount_jax.inference.region_counts import count_regions
from cellcount_jax.inference.region_integrals import points_inside, union
from cellcount_jax.io.regions import Region, Shape


def region_rows(
    row: Row,
    found: Count,
    regions: Sequence[Region],
    shape: Shape,
    *,
    spacing: Sequence[float] | None = None,
) -> list[Row]:
    """A row per region, and a last one for what lies outside all of them.

    Points are matched in the image as a whole, so that a border between a cell and its point
    makes no error. A pair belongs to the region of its true cell, a point without a partner to
    its own: tp, fp and fn of regions that do not overlap and of the outside add up to the
    image's.

    Args:
      row: of the whole image, compared with its dots if it has any.
      found: in it.
      regions: of it; none give no rows.
      shape: of its space.
      spacing: of a pixel in any unit, by which distances are measured.

    Returns:
      Rows with `roi`, without GAME: that is of whole images.
    """
    if not regions:
        return []
    pairs = _pairs(row, shape, spacing)
    covered = union(regions, shape)
    counted = count_regions(found, regions, shape, covered=covered)
    rows = []
    for part, region in zip(counted, [*regions, covered], strict=True):
        points, dots = (_inside(x, region, shape) for x in (row.points, row.dots))
        if region is covered:  # the last row is of what no region covers
            points, dots = (None if mask is None else ~mask for mask in (points, dots))
        rows.append(
            dataclasses.replace(
                row,
                roi=part["roi"],
                predicted=float(part["count"]),
                points=None if row.points is None else row.points[points],
                dots=None if row.dots is None else row.dots[dots],
                matches=tuple(_matches(p, points, dots) for p in pairs),
                game=(),
            )
        )
    return rows


def _inside(places: np.ndarray | None, region: Region, shape: Shape) -> np.ndarray | None:
    return None if places is None else points_inside(places, region, shape)


def _pairs(row: Row, shape: Shape, spacing: Sequence[float] | None) -> list[np.ndarray]:
    """Pairs (point, dot) [K, 2] at each radius at which the image's own were matched."""
    if not row.matches or row.points is None or row.dots is None or row.radius is None:
        return []
    known = spacing if spacing is not None and len(spacing) == len(shape) else None
    return [
        match_pairs(row.points, row.dots, radius=row.radius * factor, spacing=known)[0]
        for factor in FACTORS
    ]


def _matches(
    pairs: np.ndarray, points: np.ndarray | None, dots: np.ndarray | None
) -> tuple[int, int, int]:
    """(tp, fp, fn) in a region, from pairs in the image and masks of what lies inside."""
    assert points is not None
    assert dots is not None
    tp = int(dots[pairs[:, 1]].sum())
    fp = int(np.delete(points, pairs[:, 0]).sum())
    return tp, fp, int(dots.sum()) - tp
