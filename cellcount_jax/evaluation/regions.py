"""Compares an image's count with the ground truth, region by region."""

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
    """One record per region, and a last one for everything outside.

    Points are matched in the whole image, so a region border between a dot and its match is not
    counted as an error. A pair belongs to the region of its dot, an unmatched point to its own: tp,
    fp and fn of regions without overlap and of the outside add up to the image's.

    Args:
      whole: Record of the image.
      found: Its count.
      regions: Its regions; without any there are no records.
      sample: The image with its dots.

    Returns:
      Records with `roi`, without GAME, which is defined for whole images.
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
        if region is covered:  # the last record is for what no region covers
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
