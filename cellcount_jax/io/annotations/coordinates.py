"""Converts dots from the convention of their file to ours, and checks them against the image."""

from collections.abc import Sequence

import numpy as np

from cellcount_jax.io.annotations import base

_AXES = ("z", "y", "x")
_SIDES = ("deep", "high", "wide")


def to_pixel_coordinates(
    file: base.AnnotationFile, raw: base.RawDots, options: base.Options
) -> base.Dots:
    """Dots in our convention from those of a reader.

    Raises:
      ValueError: a coordinate is impossible, or axes or size do not fit the image.
    """
    return base.Dots(_points(file, raw, options), _scores(file, raw), raw.labels)


def outside(points: np.ndarray, image_shape: Sequence[int]) -> np.ndarray:
    """[N] bool: which points [N, ndim] lie outside an image; its outer border is inside."""
    sides = np.asarray(image_shape, np.float64)
    return np.any((points < -0.5) | (points > sides - 0.5), axis=1)


def outside_message(points: np.ndarray, image_shape: Sequence[int], i: int) -> str:
    """Sentence on point `i`, which lies outside, with the likely reason if there is one."""
    ndim = points.shape[1]
    where = ", ".join(
        f"{axis}={float(str(value))}" for axis, value in zip(_AXES[-ndim:], points[i], strict=True)
    )
    size = ", ".join(f"{n} {w}" for n, w in zip(image_shape, _SIDES[-ndim:], strict=True))
    text = f"dot ({where}) lies outside the image ({size})."
    swapped = points[:, [*range(ndim - 2), ndim - 1, ndim - 2]]
    if not outside(swapped, image_shape).any():
        return text + ' Are x and y swapped? Pass order="xy".'
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
    if options.spacing is not None:
        points = points / _pixel_size(file, options.spacing, points.shape[1], raw.planar)
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


def _in_plane(points: np.ndarray) -> np.ndarray:
    """1 for the axes y and x, 0 for z."""
    return (np.arange(points.shape[1]) >= points.shape[1] - 2).astype(np.float64)


def _pixel_size(
    file: base.AnnotationFile, spacing: float | Sequence[float], ndim: int, planar: bool
) -> np.ndarray:
    """[ndim] micrometres per pixel; 1 along z where planes are numbered."""
    size = np.asarray(spacing, np.float64).ravel()
    if len(size) == 1:
        size = np.repeat(size, ndim)
    if planar and ndim == 3:
        size = np.concatenate([[1.0], size[-2:]])
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
