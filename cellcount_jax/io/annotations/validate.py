"""Checks dots against their image before they are trained on or counted."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from cellcount_jax.io.annotations.base import Dots, Options
from cellcount_jax.io.annotations.coordinates import (
    ADVICE_ON_ORDER,
    MIN_DOTS,
    outside,
    outside_message,
    seem_micrometres,
)
from cellcount_jax.io.annotations.dots import locate_dots

_MAX_LISTED = 20
# Swapped axes put a larger share of dots outside; fewer are single mistakes.
_MIN_SWAPPED_SHARE = 0.02
# Dots that all lie within this share of every side are probably in another unit.
_MAX_SUSPECT_EXTENT = 1 / 3


@dataclasses.dataclass(frozen=True)
class Finding:
    """A mistake, certain or probable, in dots.

    Attributes:
      kind: `unreadable`, `swapped`, `counts_from_one`, `physical_units`, `outside` or `duplicate`.
      text: Says what is wrong and what to do.
      file: The file, if the dots came from one.
      place: Place such as `line 14`, if it concerns one dot of a file.
    """

    kind: str
    text: str
    file: str | None = None
    place: str | None = None

    def __str__(self) -> str:
        where = ", ".join(part for part in (self.file, self.place) if part)
        return f"{where}: {self.text}" if where else self.text


def check_dots(
    dots: Dots | np.ndarray | str | os.PathLike[str],
    image_shape: Sequence[int],
    *,
    order: str | None = None,
    pixel_size: Sequence[float] | None = None,
) -> list[Finding]:
    """Looks for impossible dots and the usual reasons for them.

    Args:
      dots: A file of dots, or dots, or [N, ndim] points.
      image_shape: Sides of the image without channels, (H, W) or (D, H, W).
      order: Column order of a table without header, as in `read_dots`.
      pixel_size: Pixel size of the image if known, as in `read_dots`.

    Returns:
      Findings, probable reasons first; empty if there are none. A file that cannot be read is a
      finding, too. Of each kind at most 20 dots are listed; then their number is given.
    """
    if isinstance(dots, (Dots, np.ndarray)):
        points = dots.points if isinstance(dots, Dots) else Dots(dots).points
        return _findings(points, tuple(image_shape), None, None, pixel_size)
    return read_checked(dots, image_shape, order=order, pixel_size=pixel_size)[0]


def read_checked(
    path: str | os.PathLike[str],
    image_shape: Sequence[int],
    *,
    order: str | None = None,
    pixel_size: Sequence[float] | None = None,
) -> tuple[list[Finding], Dots | None]:
    """Like `check_dots` for a file, with all dots, also those outside; None if unreadable."""
    file = os.fspath(path)
    try:
        read, numbers, item = locate_dots(
            file, Options(image_shape, order=order, pixel_size=pixel_size), allow_outside=True
        )
    except (ValueError, OSError) as error:
        return [Finding("unreadable", str(error))], None
    places = [f"{item} {number}" for number in numbers]
    return _findings(read.points, tuple(image_shape), file, places, pixel_size), read


def _findings(
    points: np.ndarray,
    shape: tuple[int, ...],
    file: str | None,
    places: list[str] | None,
    pixel_size: Sequence[float] | None,
) -> list[Finding]:
    if points.shape[1] != len(shape):
        raise ValueError(f"dots have {points.shape[1]} axes, the image has {len(shape)}")
    texts = {
        "swapped": _swapped(points, shape),
        "counts_from_one": _counts_from_one(points, shape),
        "physical_units": _physical_units(points, shape, pixel_size),
    }
    findings = [Finding(kind, text, file) for kind, text in texts.items() if text]
    out = np.flatnonzero(outside(points, shape))
    again, original = _duplicates(points)
    names = places or [f"dot {i + 1}" for i in range(len(points))]
    for kind, found in (("outside", out), ("duplicate", again)):
        for i in map(int, found[:_MAX_LISTED]):
            if kind == "outside":
                text = outside_message(points, shape, i, explain=i == out[0] and not findings)
            else:
                text = f"repeats the dot at {names[original[i]]}"
            findings.append(Finding(kind, text, file, names[i]))
        if len(found) > _MAX_LISTED:
            findings.append(Finding(kind, f"{len(found) - _MAX_LISTED} more such dots", file))
    return findings


def _swapped(points: np.ndarray, shape: tuple[int, ...]) -> str | None:
    out = int(outside(points, shape).sum())
    swapped = points[:, [*range(len(shape) - 2), -1, -2]]
    if not out or out < _MIN_SWAPPED_SHARE * len(points) or outside(swapped, shape).sum() > out / 4:
        return None
    still = int(outside(swapped, shape).sum())
    return (
        f"{out} of {len(points)} dots lie outside the image, {still} with x and y swapped: "
        f"{ADVICE_ON_ORDER}"
    )


def _counts_from_one(points: np.ndarray, shape: tuple[int, ...]) -> str | None:
    if not len(points) or (points != np.rint(points)).any():
        return None
    plane, sides = points[:, -2:], np.array(shape[-2:])
    if plane.min() < 1 or (plane > sides).any() or not (plane == sides).any():
        return None
    return (
        "the dots seem to count pixels from 1: none has a coordinate 0, some have one equal to "
        "the image's side. Subtract 1"
    )


def _physical_units(
    points: np.ndarray, shape: tuple[int, ...], pixel_size: Sequence[float] | None
) -> str | None:
    if len(points) < MIN_DOTS or (points == np.rint(points)).all():
        return None
    sides = np.array(shape[-2:], np.float64)
    reach = points[:, -2:].max(axis=0)
    suspect = bool((reach < sides * _MAX_SUSPECT_EXTENT).all() and points.min() >= 0)
    if suspect or (pixel_size is not None and seem_micrometres(points, pixel_size, shape)):
        return (
            f"all {len(points)} dots lie within y < {reach[0]:.4g}, x < {reach[1]:.4g} of an image "
            f"{shape[-2]} high, {shape[-1]} wide, and are not whole pixels. If they are in "
            "micrometres: cellcount dots convert FILE NEW.csv --voxel-size Z Y X"
        )
    return None


def _duplicates(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the dots that repeat an earlier one, and for every dot the first one like it."""
    _, first, which = np.unique(points, axis=0, return_index=True, return_inverse=True)
    original = first[which.ravel()]
    return np.flatnonzero(original != np.arange(len(points))), original
