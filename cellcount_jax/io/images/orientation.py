"""Images rotated and mirrored as their orientation tag, of EXIF or TIFF, says."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from cellcount_jax.io.images.base import ImageReader, Slices
from cellcount_jax.io.images.chunks import length

log = logging.getLogger(__name__)

ORIENTATION_TAG = 274
"""Number of the tag in EXIF and TIFF."""

UPRIGHT = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
"""Orientation tag of EXIF and TIFF: whether rows and columns are swapped, then each reversed."""


def warn_of_rotation(name: str, orientation: int) -> None:
    """Warns that an image is rotated or mirrored by its orientation tag."""
    if orientation in UPRIGHT:
        log.warning(
            "%s: rotated upright, as its orientation tag (%s) says; dots made in ImageJ, which "
            "does not rotate it, do not fit: look at them",
            *(name, orientation),
        )


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """An image [rows, columns, ...] rotated and mirrored as its orientation tag says."""
    if orientation not in UPRIGHT:
        return array
    transposed, flipped_rows, flipped_columns = UPRIGHT[orientation]
    swapped = np.swapaxes(array, 0, 1) if transposed else array
    steps = (slice(None, None, -1 if flip else 1) for flip in (flipped_rows, flipped_columns))
    return np.ascontiguousarray(swapped[tuple(steps)])


def upright_reader(reader: ImageReader, orientation: int, name: str) -> ImageReader:
    """A reader of the image rotated and mirrored as its orientation tag says, which is logged.

    Args:
      reader: Reader of the image as stored, with axes Y and X.
      orientation: Value of the tag.
      name: The file, for the log.
    """
    if orientation not in UPRIGHT:
        return reader
    warn_of_rotation(name, orientation)
    transposed, *flipped = UPRIGHT[orientation]
    y, x = reader.axes.index("Y"), reader.axes.index("X")

    def swapped(values: Sequence[Any]) -> tuple[Any, ...]:
        swap = {y: x, x: y} if transposed else {}
        return tuple(values[swap.get(i, i)] for i in range(len(values)))

    shape = swapped(reader.shape)

    def read(slices: Slices) -> np.ndarray:
        stored, steps = list(slices), [slice(None)] * len(slices)
        for axis, flip in zip((y, x), flipped, strict=True):
            if flip:
                stored[axis] = _mirrored(slices[axis], shape[axis])
                steps[axis] = slice(None, None, -1)
        found = reader.read(swapped(stored))
        return (np.swapaxes(found, y, x) if transposed else found)[tuple(steps)]

    sizes = reader.spacing
    if transposed:
        letters = {"Y": "X", "X": "Y"}
        sizes = {letters.get(letter, letter): size for letter, size in sizes.items()}
    chunks = swapped(reader.chunks) if reader.chunks else ()
    return dataclasses.replace(reader, shape=shape, chunks=chunks, spacing=sizes, read=read)


def _mirrored(part: slice, n: int) -> slice:
    """The slice of the same places of an axis of length n that is counted from its other end."""
    last = part.start + (length(part) - 1) * part.step
    return slice(n - 1 - last, n - part.start, part.step)
