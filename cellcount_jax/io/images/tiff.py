"""TIFF and its relatives (OME, ImageJ, tiled slides), read by tile or strip with tifffile."""

import functools
import itertools
import math
import os
import re
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cellcount_jax.io.cache import ArrayCache
from cellcount_jax.io.images import base
from cellcount_jax.io.images.chunks import length, outer_axes, overlap, read_frames
from cellcount_jax.io.images.orientation import ORIENTATION_TAG, upright_reader
from cellcount_jax.io.images.tiff_color import to_colours
from cellcount_jax.io.images.tiff_metadata import channel_names, spacing
from cellcount_jax.io.log_capture import tiff_damage_is_an_error

MAX_PLANES = 10**7
"""Maximum number of planes of an OME-TIFF; tifffile makes an entry for each in the metadata."""

_PIXELS = re.compile(r"<(?:\w+:)?Pixels\b[^>]*>")
_PLANES = re.compile(r"""\bSize[ZCT]\s*=\s*["'](\d{1,18})["']""")

Page = tifffile.TiffPage | tifffile.TiffFrame
Read = Callable[[base.Slices], np.ndarray]


def open_tiff(path: Path, request: base.Request) -> base.ImageReader:
    """Opens a TIFF.

    Raises:
      ProblemError: Damaged, too large, or the caller must choose.
      Exception: Whatever tifffile raises on damaged files.
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
    _check_pages(tif)
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
    if not request.stored:
        reader = to_colours(reader, series.keyframe, all_samples=request.all_samples)
    tag = series.keyframe.tags.valueof(ORIENTATION_TAG, default=1)
    return upright_reader(reader, tag, tif.filehandle.name)


def _check_pages(tif: tifffile.TiffFile) -> None:
    """Refuses what tifffile would follow without end: cycles of pages, and billions of planes.

    It recognises cycles of up to 100 pages. Pages of OME-TIFF are found as they are read, so that
    the first of 100,000 need not wait for all.

    Raises:
      ProblemError: The file is damaged.
    """
    if tif.is_ome:
        planes = 0
        for pixels in _PIXELS.findall(tif.ome_metadata or ""):
            planes += math.prod(int(n) for n in _PLANES.findall(pixels))
        if planes > MAX_PLANES:
            raise base.ProblemError(
                f"is damaged (its metadata name {planes} planes); save it again"
            )
        return
    file, layout = tif.filehandle, tif.tiff
    seen, used, offset = set(), 0, tif.pages.first.offset
    while offset and used <= file.size:
        if offset in seen:
            raise base.ProblemError("is damaged (its pages form a cycle); save or copy it again")
        seen.add(offset)
        file.seek(offset)
        head = file.read(layout.tagnosize)
        if len(head) < layout.tagnosize:
            return  # tifffile says what is missing
        n_tags = struct.unpack(layout.tagnoformat, head)[0]
        file.seek(n_tags * layout.tagsize, os.SEEK_CUR)
        following = file.read(layout.offsetsize)
        if len(following) < layout.offsetsize:
            return
        used += layout.tagnosize + n_tags * layout.tagsize + layout.offsetsize
        offset = struct.unpack(layout.offsetformat, following)[0]
    if offset:
        raise base.ProblemError("is damaged (its pages overlap); save or copy it again")


def _part_reader(
    series: tifffile.TiffPageSeries, shape: tuple[int, ...], limit: int
) -> tuple[Read, tuple[int, ...], bool]:
    """Function that reads parts of a series, shape of its chunks, and whether it gives views."""
    page = series.keyframe
    plain = series.transform is None
    if plain and series.dataoffset is not None and page.is_memmappable:
        _check_inside(page, series.dataoffset, math.prod(shape) * series.dtype.itemsize)
        array = _memory_map(page, shape, series.dataoffset)
        return (lambda slices: np.asarray(array[slices])), shape, True
    n_outer = outer_axes(shape, page.size)
    frame = shape[n_outer:] if n_outer is not None else ()
    fits = [n for n in frame if n > 1] == [n for n in page.shaped if n > 1]
    if not plain or not fits:
        base.check_size(math.prod(shape), limit, "can only be read whole; it declares an image")
        cache = ArrayCache()
        return (lambda s: cache.get(0, lambda: series.asarray().reshape(shape))[s]), shape, True
    pages = _PageReader(series)
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


class _PageReader:
    """Reads parts of the pages of one series as [separate sample, depth, row, column, sample].

    Attributes:
      piece: Shape of a tile or strip in these five axes.
    """

    def __init__(self, series: tifffile.TiffPageSeries):
        self._series = series
        self._keyframe = series.keyframe
        self._cache = ArrayCache()
        self._lock = threading.RLock()
        self.piece = _piece_shape(self._keyframe)

    def read(self, number: int, slices: base.Slices) -> np.ndarray:
        """A part of a page by its number in the series."""
        with self._lock, tiff_damage_is_an_error():
            page = self._series[number]
        if page is None:
            raise base.ProblemError(
                "lacks planes that its metadata name; copy all files of the set"
            )
        if not _is_contiguous(page):
            return self._compose(page, number, slices)
        _check_inside(page, page.dataoffsets[0], self._keyframe.nbytes)
        with self._lock:
            array = _memory_map(page, self._keyframe.shaped, page.dataoffsets[0])
        return np.array(array[slices])

    def _compose(self, page: Page, number: int, slices: base.Slices) -> np.ndarray:
        shaped, sizes = self._keyframe.shaped, self.piece
        part = np.full([length(s) for s in slices], self._keyframe.nodata, self._keyframe.dtype)
        counts = [-(-n // size) for n, size in zip(shaped[:4], sizes[:4], strict=True)]
        touched = [
            range(s.start // size, (s.stop - 1) // size + 1)
            for s, size in zip(slices[:4], sizes[:4], strict=True)
        ]
        last = int(np.ravel_multi_index([each[-1] for each in touched], counts))
        if last >= min(len(page.dataoffsets), len(page.databytecounts)):
            raise base.ProblemError("lacks tiles or strips that it declares; copy it again")
        for position in itertools.product(*touched):
            overlaps = [
                overlap(s, i * size, min((i + 1) * size, n))
                for s, i, size, n in zip(slices, (*position, 0), sizes, shaped, strict=True)
            ]
            if not all(overlaps):
                continue
            index = int(np.ravel_multi_index(position, counts))
            piece = self._cache.get((number, index), functools.partial(self._decode, page, index))
            if piece.size:
                inside, outside = zip(*(o for o in overlaps if o is not None), strict=True)
                part[outside] = piece[None][inside]
        return part

    def _decode(self, page: Page, index: int) -> np.ndarray:
        """One tile or strip [depth, row, column, sample]; empty where the file leaves it out."""
        keyframe = self._keyframe
        offset, size = page.dataoffsets[index], page.databytecounts[index]
        if offset == 0 or size == 0:
            if not keyframe.is_tiled:
                raise base.ProblemError("lacks strips that it declares; copy it again")
            return np.empty(0, keyframe.dtype)
        _check_inside(page, offset, size)
        tables = {"jpegtables": page.jpegtables, "jpegheader": keyframe.jpegheader}
        options: Any = {name: table for name, table in tables.items() if table is not None}
        with self._lock:
            handle = _opened(page)
            decode: Any = keyframe.decode
            handle.seek(offset)
            data = handle.read(size)
        return decode(data, index, **options)[0]


def _piece_shape(keyframe: tifffile.TiffPage) -> tuple[int, int, int, int, int]:
    """Shape of a tile or strip: separate sample, depth, row, column, sample."""
    if keyframe.is_tiled:
        piece = (keyframe.tiledepth, keyframe.tilelength, keyframe.tilewidth)
    else:
        piece = (1, min(keyframe.rowsperstrip, keyframe.imagelength), keyframe.imagewidth)
    return (1, *piece, keyframe.shaped[-1])


def _memory_map(page: Page, shape: tuple[int, ...], offset: int) -> np.ndarray:
    """Values that are stored uncompressed from an offset on."""
    keyframe: Any = page.keyframe
    kind = f"{page.parent.byteorder}{keyframe.dtype.char}"
    return _opened(page).memmap_array(kind, shape, offset=offset)


def _check_inside(page: Page, offset: int, size: int) -> None:
    """Refuses a range of bytes beyond the end of the file.

    Raises:
      ProblemError: The file is cut short.
    """
    if offset < 0 or size < 0 or offset + size > page.parent.filehandle.size:
        raise base.ProblemError("is cut short: it declares more than it holds; copy it again")


def _opened(page: Page) -> tifffile.FileHandle:
    """The page's file; files of a set are closed until they are needed."""
    handle = page.parent.filehandle
    if handle.closed:
        handle.open()
    return handle


def _is_contiguous(page: Page) -> bool:
    """Whether a page is uncompressed and its strips follow each other."""
    keyframe: Any = page.keyframe
    if not keyframe.is_memmappable:
        return False
    ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False)]
    return list(page.dataoffsets[1:]) == ends[:-1] and len(ends) > 0
