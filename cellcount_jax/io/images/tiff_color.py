"""Colour models of TIFF files, turned into grey or RGB while they are read by parts."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import tifffile

from cellcount_jax.io.images.base import ProblemError, Slices, Source

_WHITE_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 2, 3, 5, 6
_NO_RGB = {8: "CIELab", 9: "ICCLab", 10: "ITULab", 32803: "CFA (raw camera)", 34892: "LinearRaw"}
_ALPHA = (1, 2)


def to_colours(source: Source, page: tifffile.TiffPage) -> Source:
    """Applies palette, white-is-zero and CMYK, and drops transparency.

    Args:
      source: values as stored.
      page: one that tells the colour model.

    Returns:
      Grey or RGB values.

    Raises:
      ProblemError: a colour model that is not known.
    """
    model = int(page.photometric)
    if model in _NO_RGB:
        raise ProblemError(f"uses the colour model {_NO_RGB[model]}; save it as grey or RGB")
    # JPEG is decoded to RGB by its codec; other YCbCr is rare.
    if model == _YCBCR and int(page.compression) not in (6, 7, 34892, 33007):
        raise ProblemError("uses the colour model YCbCr without JPEG; save it as RGB")
    if model == _PALETTE and page.colormap is not None and "S" not in source.axes:
        return _palette(source, page.colormap)
    # tifffile itself marks its masks of one bit white-is-zero, and means the stored values.
    as_meant = page.is_shaped and source.dtype == bool
    if model == _WHITE_IS_ZERO and source.dtype.kind in "bu" and not as_meant:
        return _inverted(source, page.bitspersample)
    if "S" not in source.axes:
        return source
    samples = source.shape[source.axes.index("S")]
    if model == _CMYK and samples >= 4 and source.dtype.kind == "u":
        return _cmyk(source)
    alpha = sum(int(kind) in _ALPHA for kind in page.extrasamples)
    return _first_samples(source, samples - alpha) if 0 < alpha < samples else source


def _palette(source: Source, colormap: np.ndarray) -> Source:
    # Colours of the file have 16 bits, the upper 8 of which are what programs write.
    table = np.ascontiguousarray(np.asarray(colormap).T >> 8).astype(np.uint8)

    def read(slices: Slices) -> np.ndarray:
        return table[source.read(slices[:-1])][..., slices[-1]]

    return dataclasses.replace(
        source,
        shape=(*source.shape, 3),
        dtype=table.dtype,
        axes=source.axes + "S",
        chunks=(*source.chunks, 3),
        read=read,
    )


def _inverted(source: Source, bits: int) -> Source:
    if source.dtype == bool:
        return dataclasses.replace(source, read=lambda slices: ~source.read(slices))
    top = source.dtype.type(2 ** min(bits, 8 * source.dtype.itemsize) - 1)
    return dataclasses.replace(source, read=lambda slices: top - source.read(slices))


def _cmyk(source: Source) -> Source:
    top = np.iinfo(source.dtype).max

    def convert(ink: np.ndarray) -> np.ndarray:
        left = (top - ink.astype(np.float64)) / top
        return np.rint(left[..., :3] * left[..., 3:4] * top).astype(ink.dtype)

    return _all_samples(source, 3, convert)


def _first_samples(source: Source, count: int) -> Source:
    return _all_samples(source, count, lambda values: values[..., :count])


def _all_samples(source: Source, count: int, convert: Callable[[np.ndarray], np.ndarray]) -> Source:
    """A source whose samples are computed from all samples of the file."""
    axis = source.axes.index("S")

    def changed(shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:axis], count, *shape[axis + 1 :])

    def read(slices: Slices) -> np.ndarray:
        whole = slice(0, source.shape[axis], 1)
        values = source.read((*slices[:axis], whole, *slices[axis + 1 :]))
        result = np.moveaxis(convert(np.moveaxis(values, axis, -1)), -1, axis)
        return result[(slice(None),) * axis + (slices[axis],)]

    chunks = changed(source.chunks) if math.prod(source.chunks) else source.chunks
    return dataclasses.replace(source, shape=changed(source.shape), chunks=chunks, read=read)
