"""An image's count against the truth, region by region."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cellcount_jax.data.sample import Sample
from cellcount_jax.evaluation.image import ImageEvaluation, spacing_of
from cellcount_jax.evaluation.matching import match_pairs
from cellcount_jax.evaluation.metrics import Matches
from cellcount_jax.inference.readout import Count
from cellcount_jax.inference.region_counts import count_regions, points_inside, union
from cellcount_jax.io.regions import Region, Shape


def evaluate_regions(
    whole: ImageEvaluation, found: Count, regions: Sequence[Region], sample: Sample
) -> list[ImageEvaluation]:
    """A record per region, and a last one for what lies outside all of them.

    Points are matched in the image as a whole, so that a border between a cell and its point
    makes no error. A pair belongs to the region of its true cell, a point without a partner to
    its own: tp, fp and fn of regions that do not overlap and of the outside add up to the
    image's.

    Args:
      whole: record of the image.
      found: in it.
      regions: of it; none give no records.
      sample: the image with its dots.

    Returns:
      Records with `roi`, without GAME: that is of whole images.
    """
    if not regions:
        return []
    shape, spacing = sample.image.shape[:-1], spacing_of(sample)
    pairs = {
        radius: match_pairs(whole.points, whole.dots, radius=radius, spacing=spacing)[0]
        for radius in whole.matches
        if whole.points is not None and whole.dots is not None
    }
    covered = union(regions, shape)
    counted = count_regions(found, regions, shape, covered=covered)
    records = []
    for part, region in zip(counted, [*regions, covered], strict=True):
        points, dots = (_inside(places, region, shape) for places in (whole.points, whole.dots))
        if region is covered:  # the last record is of what no region covers
            points, dots = (None if mask is None else ~mask for mask in (points, dots))
        records.append(
            dataclasses.replace(
                whole,
                roi=part["roi"],
                predicted=float(part["count"]),
                points=None if whole.points is None else whole.points[points],
                dots=None if whole.dots is None else whole.dots[dots],
                matches={radius: _matches(p, points, dots) for radius, p in pairs.items()},
                label_matches=None,
                game=(),
            )
        )
    return records


def _inside(places: np.ndarray | None, region: Region, shape: Shape) -> np.ndarray | None:
    return None if places is None else points_inside(places, region, shape)


def _matches(pairs: np.ndarray, points: np.ndarray | None, dots: np.ndarray | None) -> Matches:
    """(tp, fp, fn) in a region, from pairs in the image and masks of what lies inside."""
    assert points is not None
    assert dots is not None
    tp = int(dots[pairs[:, 1]].sum())
    fp = int(np.delete(points, pairs[:, 0]).sum())
    return tp, fp, int(dots.sum()) - tp
