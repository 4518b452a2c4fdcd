"""TIFF and its kin (OME, ImageJ, tiled slides), by tile or strip, through tifffile."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile

from cellcount_jax.io.cache import ArrayCache
from cellcount_jax.io.images import base
from cellcount_jax.io.images.chunks import length, outer_axes, read_frames
from cellcount_jax.io.images.tiff_color import to_colours
from cellcount_jax.io.images.tiff_metadata import channel_names, spacing
from cellcount_jax.io.images.tiff_pages import PageReader, check_inside, memory_map
from cellcount_jax.io.log_capture import tiff_damage_is_an_error

Read = Callable[[base.Slices], np.ndarray]


def open_tiff(path: Path, request: base.Request) -> base.ImageReader:
    """Opens a TIFF.

    Args:
      path: of the file.
      request: the caller's.

    Returns:
      The image; it keeps the file open.

    Raises:
      ProblemError: damaged, too large, or a choice is left open.
      Exception: whatever tifffile raises on damaged files.
    """
    tif = None
    try:
        with tiff_damage_is_an_error():
            tif = tifffile.TiffFile(path)
            return _reader(tif, request)
    except BaseException:
        if tif is not None:
            tif.close()
        raise


def _reader(tif: tifffile.TiffFile, request: base.Request) -> base.ImageReader:
    scene = base.pick_scene([math.prod(series.shape) for series in tif.series], request.scene)
    full = tif.series[scene]
    series = full.levels[base.pick_level(len(full.levels), request.level)]
    if series.dtype is None or 0 in series.keyframe.shaped:
        raise base.ProblemError("holds no values that can be read; save it as 8 or 16 bits")
    # tifffile fills what is missing with zeros, which would be an empty image.
    offsets, sizes = series.keyframe.dataoffsets, series.keyframe.databytecounts
    if request.strict and (len(sizes) != len(offsets) or not sizes or min(sizes) < 1):
        raise base.ProblemError("is damaged (pixels are missing); save or copy it again")
    shape = tuple(int(n) for n in series.get_shape(False))
    read, chunks, borrowed = _part_reader(series, shape, request.limit)
    reader = base.ImageReader(
        shape=shape,
        dtype=series.dtype,
        axes=series.get_axes(False),
        read=read,
        chunks=chunks,
        borrowed=borrowed,
        spacing=spacing(tif, scene, full, series),
        channel_names=channel_names(tif, scene),
        close=tif.close,
    )
    return reader if request.stored else to_colours(reader, series.keyframe)


def _part_reader(
    series: tifffile.TiffPageSeries, shape: tuple[int, ...], limit: int
) -> tuple[Read, tuple[int, ...], bool]:
    """Function that reads parts of a series, shape of its chunks, and whether it gives views."""
    page = series.keyframe
    plain = series.transform is None
    if plain and series.dataoffset is not None and page.is_memmappable:
        check_inside(page, series.dataoffset, math.prod(shape) * series.dtype.itemsize)
        array = memory_map(page, shape, series.dataoffset)
        return (lambda slices: np.asarray(array[slices])), shape, True
    n_outer = outer_axes(shape, page.size)
    frame = shape[n_outer:] if n_outer is not None else ()
    fits = [n for n in frame if n > 1] == [n for n in page.shaped if n > 1]
    if not plain or not fits:
        base.check_size(math.prod(shape), limit, "can only be read whole; it declares an image")
        cache = ArrayCache()
        return (lambda s: cache.get(0, lambda: series.asarray().reshape(shape))[s]), shape, True
    pages = PageReader(series)
    base.check_size(math.prod(pages.piece), limit, "is stored in pieces")

    def read_frame(number: int, slices: base.Slices) -> np.ndarray:
        part = pages.read(number, _spread(slices, frame, page.shaped))
        return part.reshape([length(s) for s in slices])

    def read(slices: base.Slices) -> np.ndarray:
        return read_frames(shape, n_outer or 0, series.dtype, slices, read_frame)

    pieces = iter(n for n, whole in zip(pages.piece, page.shaped, strict=True) if whole > 1)
    chunks = tuple(next(pieces) if n > 1 else 1 for n in frame)
    return read, (1,) * (n_outer or 0) + chunks, False


def _spread(slices: base.Slices, frame: tuple[int, ...], shaped: tuple[int, ...]) -> base.Slices:
    """Slices of a frame's axes as slices of (separate sample, depth, row, column, sample)."""
    long = iter(s for s, n in zip(slices, frame, strict=True) if n > 1)
    return tuple(next(long) if n > 1 else slice(0, 1, 1) for n in shaped)
