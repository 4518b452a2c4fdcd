"""From the convention of a file to ours, and whether the dots fit the image."""

from collections.abc import Sequence

import numpy as np

from cellcount_jax.io.annotations import base

# No image has coordinates beyond this many pixels or micrometres.
_LIMIT = 1e9
_AXES = ("z", "y", "x")
_SIDES = ("deep", "high", "wide")


def settle(source: base.Source, found: base.Found, options: base.Options) -> base.Dots:
    """Dots in our convention from what a reader found.

    Raises:
      ValueError: a coordinate is no position, or axes or size do not fit the image.
    """
    return base.Dots(_points(source, found, options), _scores(source, found), found.labels)


def outside(points: np.ndarray, image_shape: Sequence[int]) -> np.ndarray:
    """[N] bool: which points [N, ndim] lie outside the pixels of an image, whose rim counts in."""
    sides = np.asarray(image_shape, np.float64)
    return np.any((points < -0.5) | (points > sides - 0.5), axis=1)


def outside_message(points: np.ndarray, image_shape: Sequence[int], i: int) -> str:
    """Sentence on point `i` that lies outside, with the likely reason if there is one."""
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


def _points(source: base.Source, found: base.Found, options: base.Options) -> np.ndarray:
    """[N, ndim] points in our convention."""
    points = np.asarray(found.points, np.float64)
    bad = ~(np.abs(points) <= _LIMIT).all(axis=1)  # NaN, too
    if bad.any():
        i = int(bad.argmax())
        text = f"coordinates {points[i].tolist()} are no position in an image"
        source.fail(text, int(found.places[i]), found.place)
    shape, ndim = options.image_shape, options.ndim
    if shape is not None and found.image_shape is not None and shape != found.image_shape:
        made, given = ("x".join(map(str, s)) for s in (found.image_shape, shape))
        source.fail(f"was made for an image of {made} pixels, but this one has {given}")
    if options.spacing is not None:
        points = points / _pixel_size(source, options.spacing, points.shape[1], found.planar)
    corner = found.corner if options.origin is None else options.origin == "corner"
    points = points - 0.5 * np.broadcast_to(corner, len(points))[:, None] * _in_plane(points)
    if options.order == "xy" and not found.ordered:
        points = points[:, [*range(points.shape[1] - 2), -1, -2]]
    if points.shape[1] == 3 and ndim != 3:
        flat = len(np.unique(points[:, 0])) <= 1
        if ndim == 2 and not flat:
            source.fail("gives dots on several planes, but the image has none. Is it a volume?")
        if ndim == 2 or (found.planar and not points[:, 0].any()):
            points = points[:, 1:]
    elif points.shape[1] == 2 and ndim == 3:
        if len(points):
            source.fail("gives no z, but the image is a volume")
        points = np.zeros((0, 3))
    return points


def _in_plane(points: np.ndarray) -> np.ndarray:
    """1 for the axes y and x, 0 for z."""
    return (np.arange(points.shape[1]) >= points.shape[1] - 2).astype(np.float64)


def _pixel_size(
    source: base.Source, spacing: float | Sequence[float], ndim: int, planar: bool
) -> np.ndarray:
    """[ndim] micrometres per pixel; planes that are numbered stay as they are."""
    size = np.asarray(spacing, np.float64).ravel()
    if len(size) == 1:
        size = np.repeat(size, ndim)
    if planar and ndim == 3:
        size = np.concatenate([[1.0], size[-2:]])
    if len(size) != ndim or not (np.isfinite(size) & (size > 0)).all():
        source.fail(f"spacing must be {ndim} positive numbers, got {spacing}")
    return size


def _scores(source: base.Source, found: base.Found) -> np.ndarray | None:
    if found.scores is None:
        return None
    scores = np.asarray(found.scores, np.float64)
    bad = ~(np.abs(scores) <= np.finfo(np.float32).max)
    if bad.any():
        i = int(bad.argmax())
        source.fail(f"score {scores[i]} is too large", int(found.places[i]), found.place)
    return scores.astype(np.float32)
