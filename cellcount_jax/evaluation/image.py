"""Compares one image's count with its dots: the record shared by runs and labs' folders."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from cellcount_jax.data.batches import rasterize_counts
from cellcount_jax.data.sample import Sample
from cellcount_jax.evaluation import metrics
from cellcount_jax.evaluation.matching import match_labels, match_points
from cellcount_jax.evaluation.metrics import Matches
from cellcount_jax.inference.readout import Count

MATCH_RADII = (3.0, 5.0, 8.0)
"""Matching radii in pixels that are reported in addition to the chosen one."""

GAME_LEVELS = (0, 1, 2, 3)

OK, WITHOUT_DOTS = "ok", "no dots"


@dataclasses.dataclass(frozen=True, eq=False)
class ImageEvaluation:
    """One image (or a patch or region of it) compared with its dots.

    Attributes:
      name: Name of the sample, or path of the image inside the folder.
      group: Group of the sample; "" if there is none.
      roi: Region of the image; "" for the whole image.
      status: `ok`, `no dots`, or `error: ...`.
      predicted: The method's own count; None after an error.
      points: Points found, [N, ndim]; None if the method gives none.
      dots: True cells, [N, ndim]; None if not annotated.
      radius: Matching radius in pixels.
      matches: True positives, false positives and false negatives (tp, fp, fn) by matching radius
        in pixels; empty without points or dots.
      label_matches: The same for the points in an instance mask, if the sample has one.
      game: Grid error at each of `GAME_LEVELS`, in cells; empty if it was not computed.
      remarks: What is doubtful about the image or its dots.
    """

    name: str
    group: str = ""
    roi: str = ""
    status: str = OK
    predicted: float | None = None
    points: np.ndarray | None = None
    dots: np.ndarray | None = None
    radius: float = 0.0
    matches: Mapping[float, Matches] = dataclasses.field(default_factory=dict)
    label_matches: Matches | None = None
    game: tuple[float, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def true(self) -> int | None:
        """Number of true cells."""
        return None if self.dots is None else len(self.dots)

    @property
    def n_points(self) -> int | None:
        """Number of points found."""
        return None if self.points is None else len(self.points)

    @property
    def error(self) -> float | None:
        """Predicted minus true."""
        if self.predicted is None or self.true is None:
            return None
        return self.predicted - self.true


def evaluate_image(
    sample: Sample,
    found: Count,
    *,
    radius: float,
    factors: Sequence[float] = (1.0,),
    details: bool = True,
) -> ImageEvaluation:
    """The record of one image.

    Args:
      sample: Sample that was counted; if its spacing is known, distances are physical.
      found: Its count, with points in its pixels.
      radius: Matching radius in pixels (of the last axis).
      factors: Multiples of the radius at which points are matched.
      details: Whether to match also at `MATCH_RADII` and in an instance mask, and compute GAME;
        False during training.
    """
    dots, points = sample.dots, found.points
    record = ImageEvaluation(
        name=sample.name,
        group=sample.group,
        predicted=float(found.count),
        points=points,
        dots=dots,
        radius=radius,
    )
    if dots is None:
        return dataclasses.replace(record, status=WITHOUT_DOTS)
    matches, label_matches = {}, None
    if points is not None:
        radii = [*(radius * factor for factor in factors), *(MATCH_RADII if details else ())]
        spacing = spacing_of(sample)
        matches = {r: match_points(points, dots, radius=r, spacing=spacing) for r in {*radii}}
        if details and sample.labels is not None:
            label_matches = match_labels(points, sample.labels)
    game = grid_errors(dots, sample.image.shape[:-1], found) if details else ()
    return dataclasses.replace(record, matches=matches, label_matches=label_matches, game=game)


def spacing_of(sample: Sample) -> Sequence[float] | None:
    """Spacing along each axis of a sample, if it is known for all of them."""
    spacing = sample.spacing
    return spacing if spacing is not None and len(spacing) == sample.image.ndim - 1 else None


def grid_errors(dots: np.ndarray, shape: Sequence[int], found: Count) -> tuple[float, ...]:
    """GAME at each of `GAME_LEVELS`, of the points, else of the density; empty without either."""
    points, density = found.points, found.density
    if points is not None:
        return tuple(metrics.game_points(points, dots, shape, level=n) for n in GAME_LEVELS)
    if density is None:
        return ()
    # The map may be smaller than the image: dots are converted to its positions.
    scale = np.array(density.shape) / np.asarray(shape)
    truth = rasterize_counts((dots.reshape(-1, len(shape)) + 0.5) * scale - 0.5, density.shape)
    return tuple(metrics.game(density, truth, level=level) for level in GAME_LEVELS)
