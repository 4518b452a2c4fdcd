"""Converts dots from the convention of their file to ours, and checks them against the image."""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np

from cellcount_jax.io.annotations import base

log = logging.getLogger(__name__)

MIN_ODDS = 20.0
"""Positions that fit the image in both units are taken as pixels if those of evenly spread cells,
in micrometres, would all be that small with a probability below one in this many."""

MIN_DOTS = 20
"""Least number of dots whose extent indicates their unit."""

MAX_SUSPECT_SIZE = 0.8
"""Micrometres per pixel up to which the extent of dots tells micrometres from pixels."""

MAX_BEYOND = 1.0
"""Pixels from the centre of the outermost pixel within which a dot is moved to it."""

ADVICE_ON_ORDER = 'cellcount dots convert FILE NEW.csv --order xy (order="xy" in Python)'
"""How to read a table whose columns are x, y in place of y, x."""

_AXES = ("z", "y", "x")
_SIDES = ("deep", "high", "wide")


def to_pixel_coordinates(
    file: base.AnnotationFile, raw: base.RawDots, options: base.Options
) -> base.Dots:
    """Dots in our convention from those of a reader.

    Raises:
      ValueError: A coordinate is impossible, or axes or size do not fit the image.
    """
    return base.Dots(_points(file, raw, options), _scores(file, raw), raw.labels)


def outside(points: np.ndarray, image_shape: Sequence[int]) -> np.ndarray:
    """[N] bool: which points [N, ndim] lie outside an image; its outer border is inside."""
    sides = np.asarray(image_shape, np.float64)
    return np.any((points < -0.5) | (points > sides - 0.5), axis=1)


def moved_to_border(
    file: base.AnnotationFile, dots: base.Dots, image_shape: Sequence[int]
) -> base.Dots:
    """The dots with those up to a pixel beyond the image moved to its border, which is logged."""
    inside = np.clip(dots.points, 0, np.asarray(image_shape, np.float32) - 1)
    near = np.abs(dots.points - inside).max(axis=1, initial=0) <= MAX_BEYOND
    moved = near & outside(dots.points, image_shape)
    if not moved.any():
        return dots
    log.warning(
        "%s: %d of %d dots lie up to a pixel beyond the border of the image and are moved to it; "
        "does the file count from 1?",
        *(file.path, moved.sum(), len(moved)),
    )
    return dataclasses.replace(dots, points=np.where(moved[:, None], inside, dots.points))


def outside_message(
    points: np.ndarray, image_shape: Sequence[int], i: int, *, explain: bool = True
) -> str:
    """Sentence on point `i`, which lies outside.

    Args:
      points: All points of the file, [N, ndim].
      image_shape: Sides of the image without channels.
      i: Index of the point.
      explain: Adds the likely reason if there is one, else how many more lie outside.
    """
    ndim = points.shape[1]
    where = ", ".join(
        f"{axis}={float(str(value))}" for axis, value in zip(_AXES[-ndim:], points[i], strict=True)
    )
    size = ", ".join(f"{n} {w}" for n, w in zip(image_shape, _SIDES[-ndim:], strict=True))
    text = f"dot ({where}) lies outside the image ({size})."
    if not explain:
        return text
    swapped = points[:, [*range(ndim - 2), ndim - 1, ndim - 2]]
    if not outside(swapped, image_shape).any():
        return f"{text} Are x and y swapped? If so: {ADVICE_ON_ORDER}"
    if not outside(points - 1, image_shape).any():
        return text + " Does the file count from 1?"
    count = int(outside(points, image_shape).sum())
    return text + (f" So do {count - 1} more of {len(points)}." if count > 1 else "")


def _points(file: base.AnnotationFile, raw: base.RawDots, options: base.Options) -> np.ndarray:
    """[N, ndim] points in our convention."""
    points = np.asarray(raw.points, np.float64)
    bad = ~(np.abs(points) <= base.MAX_COORDINATE).all(axis=1)  # NaN, too
    if bad.any():
        i = int(bad.argmax())
        text = f"coordinates {points[i].tolist()} are not a position in an image"
        file.fail(text, int(raw.numbers[i]), raw.item)
    shape, ndim = options.image_shape, options.ndim
    if shape is not None and raw.image_shape is not None and shape != raw.image_shape:
        made, given = ("x".join(map(str, s)) for s in (raw.image_shape, shape))
        file.fail(f"was made for an image of {made} pixels, but this one has {given}")
    spacing = options.spacing if options.spacing is not None else _own_spacing(file, raw, options)
    if spacing is not None:
        points = points / _pixel_size(file, spacing, points.shape[1], raw.planar)
    corner = raw.corner if options.origin is None else options.origin == "corner"
    points = points - 0.5 * np.broadcast_to(corner, len(points))[:, None] * _in_plane(points)
    if options.order == "xy" and not raw.ordered:
        points = points[:, [*range(points.shape[1] - 2), -1, -2]]
    if points.shape[1] == 3 and ndim != 3:
        flat = len(np.unique(points[:, 0])) <= 1
        if ndim == 2 and not flat:
            file.fail("gives dots on several planes, but the image has none. Is it a volume?")
        if ndim == 2 or (raw.planar and not points[:, 0].any()):
            points = points[:, 1:]
    elif points.shape[1] == 2 and ndim == 3:
        if len(points):
            file.fail("gives no z, but the image is a volume")
        points = np.zeros((0, 3))
    return points


def _own_spacing(
    file: base.AnnotationFile, raw: base.RawDots, options: base.Options
) -> Sequence[float] | None:
    """Pixel size by which the dots of a file in micrometres are divided; None for pixels."""
    size = options.pixel_size
    if raw.unit == "um" and size is None:
        file.fail(
            "gives positions in micrometres, and the image's file does not say its pixel size. "
            "Convert it: cellcount dots convert FILE NEW.csv --voxel-size Z Y X (spacing= in "
            "Python)"
        )
    if size is None or not len(raw.points):
        return None
    if raw.unit == "px":
        shape = options.image_shape
        if shape is not None and seem_micrometres(raw.points, size, shape):
            log.warning(
                "%s: all dots lie where positions in micrometres would (%g um per pixel); taken as "
                "pixels. If they are not: cellcount dots convert FILE NEW.csv --voxel-size Z Y X",
                *(file.path, size[-1]),
            )
        return None
    if raw.unit == "calibrated" and not _is_calibrated(raw.points, size, options.image_shape):
        return None
    log.warning(
        "%s: positions in micrometres, as ImageJ and QuPath measure them; divided by the image's "
        "pixel size, %s um",
        *(file.path, " x ".join(f"{s:g}" for s in size[-2:])),
    )
    return size


def _is_calibrated(
    points: np.ndarray, size: Sequence[float], image_shape: Sequence[int] | None
) -> bool:
    """Whether positions of a table of ImageJ are in micrometres, as they are by default.

    They are in pixels where the calibration was removed before measuring. That is assumed where
    they fit the image in pixels alone, or would hardly all do so by chance, see `MIN_ODDS`.
    """
    um = np.asarray(size[-2:], np.float64)
    if image_shape is None:
        return True
    fits = [
        not outside(points[:, -2:] / unit - 0.5, image_shape[-2:]).any() for unit in (um, um**0)
    ]
    if fits[0] != fits[1]:
        return fits[0]
    return not (fits[1] and len(points) * np.log(um).sum() > np.log(MIN_ODDS))


def seem_micrometres(points: np.ndarray, size: Sequence[float], image_shape: Sequence[int]) -> bool:
    """Whether many dots lie in the corner of the image that positions in micrometres would fill.

    Args:
      points: [N, ndim].
      size: Micrometres per pixel, of the space axes.
      image_shape: Shape of the image.
    """
    if len(points) < MIN_DOTS or (points == np.rint(points)).all() or points.min() < 0:
        return False
    shares = np.asarray(size[-2:], np.float64)
    is_small = (shares <= MAX_SUSPECT_SIZE).all()
    return bool(is_small and (points[:, -2:].max(axis=0) < shares * image_shape[-2:]).all())


def _in_plane(points: np.ndarray) -> np.ndarray:
    """1 for the axes y and x, 0 for z."""
    return (np.arange(points.shape[1]) >= points.shape[1] - 2).astype(np.float64)


def _pixel_size(
    file: base.AnnotationFile, spacing: float | Sequence[float], ndim: int, planar: bool
) -> np.ndarray:
    """[ndim] micrometres per pixel, 1 along z where planes are numbered; z is left out in 2-D."""
    size = np.asarray(spacing, np.float64).ravel()
    if len(size) == 1:
        size = np.repeat(size, ndim)
    if planar and ndim == 3:
        size = np.concatenate([[1.0], size[-2:]])
    if len(size) == 3:
        size = size[-ndim:]
    if len(size) != ndim or not (np.isfinite(size) & (size > 0)).all():
        file.fail(f"spacing must be {ndim} positive numbers, got {spacing}")
    return size


def _scores(file: base.AnnotationFile, raw: base.RawDots) -> np.ndarray | None:
    if raw.scores is None:
        return None
    scores = np.asarray(raw.scores, np.float64)
    bad = ~(np.abs(scores) <= np.finfo(np.float32).max)
    if bad.any():
        i = int(bad.argmax())
        file.fail(f"score {scores[i]} is too large", int(raw.numbers[i]), raw.item)
    return scores.astype(np.float32)
