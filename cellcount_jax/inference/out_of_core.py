"""Counts images that are too large for memory: windows in, sums and points out.

Brightness is normalised over the whole image, maps are never held whole, and what comes out is
what the whole image in memory would give.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from cellcount_jax.data.patches import resize_part, resized_shape
from cellcount_jax.data.pixel_size import Scale
from cellcount_jax.data.preprocess import IntensityRange, Preprocessing, apply, intensity_range
from cellcount_jax.data.windows import mirrored, unfold
from cellcount_jax.inference import detect_tiled, tiling
from cellcount_jax.inference.batched_predict import Network, OutOfDeviceMemoryError
from cellcount_jax.inference.readout import (
    Count,
    counts_points,
    density_of,
    nothing,
    to_image_pixels,
)
from cellcount_jax.io.images.image import LazyImage

LARGE = 2**25
"""Images of more pixels (without channels) are counted by parts."""

LOOKED_AT = 24
"""Windows over which the brightness of a large image is measured that must be resized first."""

OnPart = Callable[[int, int], None]
"""Called with the number of windows done and of all."""

TakeDensity = Callable[[tuple[slice, ...], np.ndarray], None]
"""Called with a box of the density and its values, once for every box of it."""

StartDensity = Callable[[tuple[int, ...], Scale], TakeDensity]
"""Called with the shape of the whole density and the scale at which it was made, before its first
box; again where the counting must begin anew with smaller windows."""


def count_by_parts(
    network: Network,
    image: LazyImage,
    preprocessing: Preprocessing,
    *,
    scale: Scale = 1.0,
    on_part: OnPart | None = None,
    start_density: StartDensity | None = None,
) -> Count:
    """Counts an open image of any size.

    Args:
      network: counts.
      image: open; its windows are read in raster order.
      preprocessing: of whole images.
      scale: the image is resized by it, window by window.
      on_part: told after each window.
      start_density: makes what is given the density, box by box, if the method has one.

    Returns:
      Count and points; no maps.

    Raises:
      ValueError: the image is damaged or does not fit the network.
      OutOfDeviceMemoryError: the smallest window is too large for the device.
    """
    resized = _Resized(image, preprocessing, scale)
    while True:
        try:
            return _count(network, resized, on_part, start_density)
        except OutOfDeviceMemoryError as error:
            if not network.shrink(error.shape):
                raise


class _Resized:
    """An image as the network takes it, by windows; it goes on in its own mirror image."""

    def __init__(self, image: LazyImage, preprocessing: Preprocessing, scale: Scale):
        self._image, self._preprocessing = image, preprocessing
        self.scale = scale
        self.space = resized_shape(image.space_shape, scale)
        if self.space == image.space_shape:
            self._range = intensity_range(image, preprocessing)
        else:
            self._range = self._measured()

    def read(self, window: tuple[slice, ...]) -> np.ndarray:
        """[*window, channels] float32."""
        at = [
            mirrored(n, b.start, b.stop - b.start) for n, b in zip(self.space, window, strict=True)
        ]
        box = tuple(slice(int(a.min()), int(a.max()) + 1) for a in at)
        return unfold(apply(self._pixels(box), self._preprocessing, self._range), at)

    def is_blank(self, windows: Sequence[tiling.Window]) -> bool:
        """Whether all pixels have one value; known from the first window of most images."""
        value = None
        for window in windows:
            # What a window shows beyond the image is its mirror image: nothing new.
            inside = (
                slice(b.start, min(b.stop, n)) for b, n in zip(window.read, self.space, strict=True)
            )
            part = self._pixels(tuple(inside))
            value = part.flat[0] if value is None else value
            if part.min() != value or part.max() != value:
                return False
        return True

    def _pixels(self, box: tuple[slice, ...]) -> np.ndarray:
        return resize_part(self._image.read, self._image.space_shape, self.space, box)

    def _measured(self) -> IntensityRange:
        """Brightness range of the resized image, from windows spread over it."""
        ndim = len(self.space)
        side = [min(n, tiling.LARGEST[ndim] // 2) for n in self.space]
        each = math.ceil(LOOKED_AT ** (1 / ndim))
        starts = [
            np.unique(np.linspace(0, n - s, each).astype(int))
            for n, s in zip(self.space, side, strict=True)
        ]
        corners = np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, ndim)
        boxes = [tuple(slice(a, a + s) for a, s in zip(c, side, strict=True)) for c in corners]
        return intensity_range(np.stack([self._pixels(b) for b in boxes]), self._preprocessing)


def _count(
    network: Network,
    resized: _Resized,
    on_part: OnPart | None,
    start_density: StartDensity | None,
) -> Count:
    readout = network.stage.readout
    by_points = counts_points(readout)
    windows = network.cut(resized.space)[1]
    blank = resized.is_blank(windows)
    points_of, take_density, total = None, None, 0.0
    maps_of_windows = network.maps(resized.read(window.read) for window in windows)
    for done, (window, maps) in enumerate(zip(windows, maps_of_windows, strict=True), 1):
        maps = nothing(maps) if blank else maps
        if readout.points_map is not None:
            box, values, shape = _owned(maps[readout.points_map], window, resized.space)
            points_of = points_of or detect_tiled.start(readout, shape)
            if values.size:
                points_of.add(box, values)
        if not by_points:
            box, values, shape = _owned(maps[readout.count_map], window, resized.space)
            density = density_of(values, readout)
            total += float(density.sum())
            if start_density is not None and take_density is None:
                take_density = start_density(shape, resized.scale)
            if take_density is not None and values.size:
                take_density(box, density.astype(np.float32))
        if on_part is not None:
            on_part(done, len(windows))
    points = scores = None
    if points_of is not None:
        points, scores = points_of.finish()
        points = to_image_pixels(points, resized.scale)
    if by_points:
        assert points is not None
        return Count(float(len(points)), points, scores, None, {}, resized.scale)
    return Count(total, points, scores, None, {}, resized.scale, total)


def _owned(
    part: np.ndarray, window: tiling.Window, space: tuple[int, ...]
) -> tuple[tuple[slice, ...], np.ndarray, tuple[int, ...]]:
    """Box that a window owns of the image's map, its values, and the shape of that map."""
    stride = (window.read[0].stop - window.read[0].start) // part.shape[0]
    shape = tuple(-(-n // stride) for n in space)
    box, values = tiling.owned(part, window, stride=stride)
    # What was added by mirroring belongs to nobody.
    stops = [min(b.stop, n) for b, n in zip(box, shape, strict=True)]
    kept = tuple(slice(b.start, max(b.start, s)) for b, s in zip(box, stops, strict=True))
    return kept, values[tuple(slice(0, k.stop - k.start) for k in kept)], shape
