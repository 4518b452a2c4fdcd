"""Reads parts of TIFF pages, decoding only the tiles or strips that they touch."""

import functools
import itertools
import threading
from typing import Any

import numpy as np
import tifffile

from cellcount_jax.io.cache import ArrayCache
from cellcount_jax.io.images.base import ProblemError, Slices
from cellcount_jax.io.images.chunks import length, overlap
from cellcount_jax.io.log_capture import tiff_damage_is_an_error

Page = tifffile.TiffPage | tifffile.TiffFrame


class PageReader:
    """Reads parts of the pages of one series as [separate sample, depth, row, column, sample].

    Attributes:
      piece: shape of a tile or strip in these five axes.
    """

    def __init__(self, series: tifffile.TiffPageSeries):
        self._series = series
        self._keyframe = series.keyframe
        self._cache = ArrayCache()
        self._lock = threading.RLock()
        self.piece = piece_shape(self._keyframe)

    def read(self, number: int, slices: Slices) -> np.ndarray:
        """A part of a page by its number in the series."""
        with self._lock, tiff_damage_is_an_error():
            page = self._series[number]
        if page is None:
            raise ProblemError("lacks planes that its metadata name; copy all files of the set")
        if _is_contiguous(page):
            return np.array(self._memory_map(page)[slices])
        return self._compose(page, number, slices)

    def _memory_map(self, page: Page) -> np.ndarray:
        keyframe = self._keyframe
        check_inside(page, page.dataoffsets[0], keyframe.nbytes)
        with self._lock:
            return memory_map(page, keyframe.shaped, page.dataoffsets[0])

    def _compose(self, page: Page, number: int, slices: Slices) -> np.ndarray:
        shaped, sizes = self._keyframe.shaped, self.piece
        part = np.full([length(s) for s in slices], self._keyframe.nodata, self._keyframe.dtype)
        counts = [-(-n // size) for n, size in zip(shaped[:4], sizes[:4], strict=True)]
        touched = [
            range(s.start // size, (s.stop - 1) // size + 1)
            for s, size in zip(slices[:4], sizes[:4], strict=True)
        ]
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
        if index >= min(len(page.dataoffsets), len(page.databytecounts)):
            raise ProblemError("lacks tiles or strips that it declares; copy it again")
        offset, size = page.dataoffsets[index], page.databytecounts[index]
        if offset == 0 or size == 0:
            if not keyframe.is_tiled:
                raise ProblemError("lacks strips that it declares; copy it again")
            return np.empty(0, keyframe.dtype)
        check_inside(page, offset, size)
        options: dict[str, Any] = {}
        if page.jpegtables is not None:
            options["jpegtables"] = page.jpegtables
        if keyframe.jpegheader is not None:
            options["jpegheader"] = keyframe.jpegheader
        with self._lock:
            handle = _opened(page)
            decode: Any = keyframe.decode
            handle.seek(offset)
            data = handle.read(size)
        return decode(data, index, **options)[0]


def piece_shape(keyframe: tifffile.TiffPage) -> tuple[int, int, int, int, int]:
    """Shape of a tile or strip: separate sample, depth, row, column, sample."""
    if keyframe.is_tiled:
        piece = (keyframe.tiledepth, keyframe.tilelength, keyframe.tilewidth)
    else:
        piece = (1, min(keyframe.rowsperstrip, keyframe.imagelength), keyframe.imagewidth)
    return (1, *piece, keyframe.shaped[-1])


def memory_map(page: Page, shape: tuple[int, ...], offset: int) -> np.ndarray:
    """Values that are stored uncompressed from an offset on."""
    keyframe: Any = page.keyframe
    kind = f"{page.parent.byteorder}{keyframe.dtype.char}"
    return _opened(page).memmap_array(kind, shape, offset=offset)


def check_inside(page: Page, offset: int, size: int) -> None:
    """Refuses a range of bytes beyond the end of the file.

    Raises:
      ProblemError: the file is cut short.
    """
    if offset < 0 or size < 0 or offset + size > page.parent.filehandle.size:
        raise ProblemError("is cut short: it declares more than it holds; copy it again")


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
