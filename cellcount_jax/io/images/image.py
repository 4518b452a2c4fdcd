"""Images and volumes of any format, read whole or by parts."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellcount_jax.io.images import base
from cellcount_jax.io.images.axes import Channels, Layout, arrange, axis_letters, read_part
from cellcount_jax.io.images.base import ImageError
from cellcount_jax.io.images.registry import open_reader

MAX_PIXELS = 2**29
"""Most values (pixels times channels) that are read at once unless a caller allows more."""


class _SpaceAxes:
    shape: Any

    @property
    def ndim(self) -> int:
        """Number of space axes, 2 or 3."""
        return len(self.shape) - 1

    @property
    def space_shape(self) -> tuple[int, ...]:
        """(H, W) or (D, H, W)."""
        return self.shape[:-1]


@dataclasses.dataclass(frozen=True, eq=False)
class Image(_SpaceAxes):
    """One image in memory.

    Attributes:
      pixels: [H, W, C] or [D, H, W, C], the file's own dtype and values.
      spacing: Size of a pixel in micrometres, (y, x) or (z, y, x), if the file says.
      channel_names: Name of each channel, or empty.
      path: Path of the file.
    """

    pixels: np.ndarray
    spacing: tuple[float, ...] | None = None
    channel_names: tuple[str, ...] = ()
    path: Path | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, C) or (D, H, W, C)."""
        return self.pixels.shape


@dataclasses.dataclass(frozen=True, eq=False)
class LazyImage(_SpaceAxes):
    """One open image that is read by parts, also by several threads; a context manager.

    Attributes:
      shape: [H, W, C] or [D, H, W, C].
      dtype: Data type of the file.
      spacing: Size of a pixel in micrometres, (y, x) or (z, y, x), if the file says.
      channel_names: Name of each channel, or empty.
      chunks: Sizes that the file stores together, per axis of `shape`; aligned reads are fast.
      path: Path of the file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    spacing: tuple[float, ...] | None
    channel_names: tuple[str, ...]
    chunks: tuple[int, ...]
    path: Path
    _reader: base.ImageReader = dataclasses.field(repr=False)
    _layout: Layout = dataclasses.field(repr=False)

    def read(self, slices: slice | Sequence[slice] = ()) -> np.ndarray:
        """Values of a part.

        Args:
          slices: Slices, one per axis, from the first; axes left out are read whole. Steps must be
            positive; only the values asked for are kept.

        Returns:
          [*space, C] of the part, the file's dtype.

        Raises:
          ImageError: That part of the file is damaged.
          ValueError: The slices do not fit the image.
        """
        whole = _full_slices(self.shape, slices)
        return base.guarded(self.path, lambda: read_part(self._reader, self._layout, whole))

    def close(self) -> None:
        """Closes the file; the image cannot be read afterwards."""
        self._reader.close()

    def __enter__(self) -> "LazyImage":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_image(
    path: str | Path,
    *,
    axes: str | None = None,
    channels: Channels | None = None,
    index: Mapping[str, int] | None = None,
    scene: int | None = None,
    time: int | None = None,
    level: int = 0,
    stored: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Image:
    """Reads a whole image; its format is detected from the content.

    Colours are RGB: palettes and CMYK are converted, transparency is dropped. White-is-zero
    TIFFs are inverted, so that bright is high. Grey pages of equal size are a stack along z
    unless the file says otherwise. A stack of one plane is a 2-D image, unless `axes` has a Z.

    Args:
      path: PNG, JPEG, BMP, GIF, WebP, JPEG 2000, PNM, TIFF and its relatives (OME, ImageJ,
        slides), OME-Zarr 0.4 and 0.5 or plain Zarr folder, NumPy .npy, CZI, ND2.
      axes: Letters of the file's axes, such as "TZCYX" or "YXC", in place of what it says itself.
      channels: Index or name, or several, of the channels to keep; all if not given.
      index: Positions along other axes, such as {"T": 0} or {"Z": 5}, counted from 0.
      scene: Index of the image in a file that holds several, counted from 0.
      time: Index of the time point in a series, counted from 0; ignored for other files.
      level: Level of a pyramid; 0 is the finest.
      stored: Values as stored: no colours for a palette, no inversion (for label masks).
      max_pixels: Most values (pixels times channels) to accept.

    Returns:
      The image.

    Raises:
      ImageError: It cannot be read, or the options do not fit it.
    """
    request = base.Request(
        scene, level, stored=stored, limit=max_pixels, all_samples=channels is not None
    )
    with _open(Path(path), request, axes, channels, index, time) as lazy:
        size = math.prod(lazy.shape)
        base.guarded(lazy.path, lambda: base.check_size(size, max_pixels, "declares an image"))
        return Image(lazy.read(), lazy.spacing, lazy.channel_names, lazy.path)


def open_lazy(
    path: str | Path,
    *,
    axes: str | None = None,
    channels: Channels | None = None,
    index: Mapping[str, int] | None = None,
    scene: int | None = None,
    time: int | None = None,
    level: int = 0,
    stored: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> LazyImage:
    """Opens an image of any size to read it by parts.

    Zarr is read by chunk, TIFF by tile or strip, .npy and uncompressed TIFF are memory-mapped.
    PNG, JPEG and the like can only be decoded whole, which is done once. The options are those of
    `read_image`; `max_pixels` limits what is decoded at once: a chunk, a tile or strip, or a PNG.

    Returns:
      The image, open.

    Raises:
      ImageError: It cannot be read, or the options do not fit it.
    """
    request = base.Request(
        scene, level, stored=stored, limit=max_pixels, all_samples=channels is not None
    )
    return _open(Path(path), request, axes, channels, index, time)


def _open(
    path: Path,
    request: base.Request,
    axes: str | None,
    channels: Channels | None,
    index: Mapping[str, int] | None,
    time: int | None,
) -> LazyImage:
    reader = base.guarded(path, lambda: open_reader(path, request))
    lengths = dict(zip((axes or reader.axes).upper(), reader.shape, strict=False))
    if time is not None and lengths.get("T", 1) > 1:
        index = {**(index or {}), "T": time}
    try:
        layout = base.guarded(
            path, lambda: arrange(reader, axes=axes, channels=channels, index=index)
        )
    except ImageError:
        reader.close()
        raise
    return LazyImage(
        shape=layout.shape,
        dtype=reader.dtype.newbyteorder("="),
        spacing=layout.spacing,
        channel_names=layout.channel_names,
        chunks=layout.chunks,
        path=path,
        _reader=reader,
        _layout=layout,
    )


def count_scenes(path: Path) -> int:
    """Number of images in a file among which a caller must choose; 1 if there is no choice.

    Raises:
      ImageError: It cannot be read.
    """
    try:
        # With all samples: what is left out is said when the image is read.
        base.guarded(path, lambda: open_reader(path, base.Request(all_samples=True))).close()
    except ImageError as error:
        if isinstance(error.__cause__, base.ChooseError):
            return error.__cause__.count
        raise
    return 1


def count_steps(path: Path, *, axes: str | None = None, scene: int | None = None) -> dict[str, int]:
    """Length of each axis of a file by its letter, such as {"T": 5, "Y": 512, "X": 512}.

    Raises:
      ImageError: It cannot be read, or its axes are not known.
    """
    reader = base.guarded(path, lambda: open_reader(path, base.Request(scene, all_samples=True)))
    try:
        letters = base.guarded(path, lambda: axis_letters(reader, axes, {}))
        return dict(zip(letters, reader.shape, strict=True))
    finally:
        reader.close()


def read_stored(path: str | Path) -> tuple[np.ndarray, str]:
    """Reads the first image of a file exactly as it is stored, for masks and dots.

    Damage that viewers tolerate (a wrong checksum, missing tiles) is an error, because what is
    missing would look like background.

    Args:
      path: Path of the file.

    Returns:
      The values in the file's own shape, and a letter per axis (YX, ZYX, YXS for colours); no
      letters if the file does not name its axes.

    Raises:
      ImageError: It is damaged, holds more than `MAX_PIXELS` values, or declares far more values
        than its size can hold.
    """
    path = Path(path)

    def read() -> tuple[np.ndarray, str]:
        size = path.stat().st_size if path.is_file() else 0
        # No codec compresses a mask further; a header that declares more is damaged.
        limit = max(base.MIN_VALUES, base.MAX_COMPRESSION_RATIO * size)
        request = base.Request(scene=0, stored=True, strict=True, limit=limit)
        reader = open_reader(path, request)
        try:
            n_bytes = math.prod(reader.shape) * reader.dtype.itemsize
            if n_bytes > limit:
                raise base.ProblemError(f"is damaged (it declares {n_bytes} bytes of pixels)")
            if (n_values := math.prod(reader.shape)) > MAX_PIXELS:
                raise base.ProblemError(
                    f"holds {n_values} values (limit {MAX_PIXELS}); crop it, or save positions"
                )
            values = reader.read(tuple(slice(0, n, 1) for n in reader.shape))
            # Values that belong to the file, which is closed next, are copied.
            copy = True if reader.borrowed else None
            return np.array(values, reader.dtype.newbyteorder("="), copy=copy), reader.axes
        finally:
            reader.close()

    return base.guarded(path, read)


def _full_slices(shape: tuple[int, ...], slices: slice | Sequence[slice]) -> tuple[slice, ...]:
    given = (slices,) if isinstance(slices, slice) else tuple(slices)
    if len(given) > len(shape):
        raise ValueError(f"{len(given)} slices for an image of shape {shape}")
    given += (slice(None),) * (len(shape) - len(given))
    full = tuple(slice(*s.indices(n)) for s, n in zip(given, shape, strict=True))
    if any(s.step < 1 or s.stop <= s.start for s in full):
        raise ValueError(f"slices {given} are empty or go backwards in shape {shape}")
    return full
