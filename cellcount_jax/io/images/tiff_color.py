"""Converts the colour models of TIFF files to grey or RGB while parts are read."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import tifffile

from cellcount_jax.io.images.base import ImageReader, ProblemError, Slices, warn_of_transparency

_WHITE_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 2, 3, 5, 6
_NO_RGB = {8: "CIELab", 9: "ICCLab", 10: "ITULab", 32803: "CFA (raw camera)", 34892: "LinearRaw"}
_ALPHA = (1, 2)


def to_colours(
    reader: ImageReader, page: tifffile.TiffPage, *, all_samples: bool = False
) -> ImageReader:
    """Grey or RGB values: applies palette, white-is-zero and CMYK, and drops transparency.

    Args:
      reader: Values as stored.
      page: Any of the series; it holds the colour model.
      all_samples: Keep what the file tags as transparency.

    Raises:
      ProblemError: An unknown colour model.
    """
    model = int(page.photometric)
    if model in _NO_RGB:
        raise ProblemError(f"uses the colour model {_NO_RGB[model]}; save it as grey or RGB")
    # JPEG is decoded to RGB by its codec; other YCbCr is rare.
    if model == _YCBCR and int(page.compression) not in (6, 7, 34892, 33007):
        raise ProblemError("uses the colour model YCbCr without JPEG; save it as RGB")
    if model == _PALETTE and page.colormap is not None and "S" not in reader.axes:
        return _palette(reader, page.colormap)
    # tifffile marks the 1-bit masks that it writes as white-is-zero, but stores them as given.
    is_tifffile_mask = page.is_shaped and reader.dtype == bool
    if model == _WHITE_IS_ZERO and reader.dtype.kind in "bu" and not is_tifffile_mask:
        return _inverted(reader, page.bitspersample)
    if "S" not in reader.axes:
        return reader
    samples = reader.shape[reader.axes.index("S")]
    if model == _CMYK and samples >= 4 and reader.dtype.kind == "u":
        return _cmyk(reader)
    alpha = sum(int(kind) in _ALPHA for kind in page.extrasamples)
    if all_samples or not 0 < alpha < samples:
        return reader
    warn_of_transparency(page.parent.filehandle.name, samples)
    return _first_samples(reader, samples - alpha)


def _palette(reader: ImageReader, colormap: np.ndarray) -> ImageReader:
    # Colour tables have 16 bits, of which programs use the upper 8.
    table = np.ascontiguousarray(np.asarray(colormap).T >> 8).astype(np.uint8)

    def read(slices: Slices) -> np.ndarray:
        return table[reader.read(slices[:-1])][..., slices[-1]]

    return dataclasses.replace(
        reader,
        shape=(*reader.shape, 3),
        dtype=table.dtype,
        axes=reader.axes + "S",
        chunks=(*reader.chunks, 3),
        read=read,
    )


def _inverted(reader: ImageReader, bits: int) -> ImageReader:
    if reader.dtype == bool:
        return dataclasses.replace(reader, read=lambda slices: ~reader.read(slices))
    top = reader.dtype.type(2 ** min(bits, 8 * reader.dtype.itemsize) - 1)
    return dataclasses.replace(reader, read=lambda slices: top - reader.read(slices))


def _cmyk(reader: ImageReader) -> ImageReader:
    top = np.iinfo(reader.dtype).max

    def convert(ink: np.ndarray) -> np.ndarray:
        left = (top - ink.astype(np.float64)) / top
        return np.rint(left[..., :3] * left[..., 3:4] * top).astype(ink.dtype)

    return _all_samples(reader, 3, convert)


def _first_samples(reader: ImageReader, count: int) -> ImageReader:
    return _all_samples(reader, count, lambda values: values[..., :count])


def _all_samples(
    reader: ImageReader, count: int, convert: Callable[[np.ndarray], np.ndarray]
) -> ImageReader:
    """A reader whose samples are computed from all samples of the file."""
    axis = reader.axes.index("S")

    def changed(shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:axis], count, *shape[axis + 1 :])

    def read(slices: Slices) -> np.ndarray:
        whole = slice(0, reader.shape[axis], 1)
        values = reader.read((*slices[:axis], whole, *slices[axis + 1 :]))
        result = np.moveaxis(convert(np.moveaxis(values, axis, -1)), -1, axis)
        return result[(slice(None),) * axis + (slices[axis],)]

    chunks = changed(reader.chunks) if math.prod(reader.chunks) else reader.chunks
    return dataclasses.replace(reader, shape=changed(reader.shape), chunks=chunks, read=read)
