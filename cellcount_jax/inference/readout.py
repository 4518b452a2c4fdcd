"""Reads the count and points from an image's maps, at once or window by window."""

from collections.abc import Callable, Sequence

import numpy as np

from cellcount_jax.data.resize import Box, Scale
from cellcount_jax.inference import tiling
from cellcount_jax.inference.batched_predict import Maps
from cellcount_jax.inference.count import Count
from cellcount_jax.inference.detect import find_points
from cellcount_jax.inference.detect_tiled import TiledDetector, tiled_detector
from cellcount_jax.methods.base import Readout

TakeDensity = Callable[[Box, np.ndarray], None]
"""Called with a box of the density and its values (cells per position), once per box."""

OpenDensity = Callable[[tuple[int, ...], Scale], TakeDensity]
"""Called before the first box with the shape of the whole density and the factor by which the image
was resized; called again if counting restarts with smaller windows."""


def counts_points(readout: Readout) -> bool:
    """Whether the count is the number of points; otherwise a map sums to it.

    Raises:
      ValueError: Points are to be counted, but no map gives any.
    """
    if readout.count in ("l1", "integral"):
        return False
    if readout.points_map is None:
        raise ValueError(f"readout {readout.count!r} counts points but names no points_map")
    return True


def density_of(values: np.ndarray, readout: Readout) -> np.ndarray:
    """Cells per position, float64, from the counting map or any part of it."""
    density = values.astype(np.float64) / readout.count_scale
    return np.abs(density) if readout.count == "l1" else density


def to_image_pixels(points: np.ndarray, scale: Scale) -> np.ndarray:
    """Converts points of an image resized by `scale` to pixels of the original."""
    if scale == 1.0:
        return points
    return ((points + 0.5) / np.asarray(scale) - 0.5).astype(np.float32)


def read_out(maps: dict[str, np.ndarray], readout: Readout, scale: Scale = 1.0) -> Count:
    """Count and points from one image's maps.

    Args:
      maps: Named maps of the whole image.
      readout: Readout of the stage.
      scale: Factor by which the image was resized; points are in pixels of the original.
    """
    found = None
    if readout.points_map is not None:
        found = find_points(
            maps[readout.points_map],
            decoder=readout.decoder,
            threshold=readout.threshold,
            single_cell_peak=readout.single_cell_peak,
        )
    if counts_points(readout):
        return _count(found, None, scale, maps=maps)
    density = density_of(maps[readout.count_map], readout)
    total = float(density.sum())
    return _count(found, total, scale, density=density.astype(np.float32), maps=maps)


def _count(
    found: tuple[np.ndarray, np.ndarray] | None,
    total: float | None,
    scale: Scale,
    *,
    density: np.ndarray | None = None,
    maps: dict[str, np.ndarray] | None = None,
) -> Count:
    """The record, from points and scores, and the sum of the density where that is the count."""
    points = scores = None
    if found is not None:
        points, scores = to_image_pixels(found[0], scale), found[1]
    count = float(0 if points is None else len(points)) if total is None else total
    return Count(count, points, scores, density, maps or {}, scale, total)


class StitchedMaps:
    """Keeps the maps of an image, window by window, and reads them out at the end.

    Args:
      readout: Readout of the stage.
      space: Shape of the resized image without channels.
      scale: Factor by which it was resized.
    """

    def __init__(self, readout: Readout, space: Sequence[int], scale: Scale):
        self._readout, self._space, self._scale = readout, space, scale
        self._maps: dict[str, np.ndarray] = {}

    def add(self, window: tiling.Window, maps: Maps) -> None:
        """Adds the maps of a window."""
        for name, part in maps.items():
            box, values, shape = tiling.owned(part, window, self._space)
            if name not in self._maps:
                self._maps[name] = np.empty((*shape, *part.shape[len(shape) :]), np.float32)
            self._maps[name][box] = values

    def finish(self) -> Count:
        """Count, points and maps, after all windows were added."""
        return read_out(self._maps, self._readout, self._scale)


class RunningCount:
    """Counts an image whose windows come in raster order, and keeps no map.

    Args:
      readout: Readout of the stage.
      space: Shape of the resized image without channels.
      scale: Factor by which it was resized.
      open_density: Receives the density box by box, if a map sums to the count.
    """

    def __init__(
        self,
        readout: Readout,
        space: Sequence[int],
        scale: Scale,
        *,
        open_density: Sequence[OpenDensity] = (),
    ):
        self._readout, self._space, self._scale = readout, space, scale
        self._points: TiledDetector | None = None
        self._total = None if counts_points(readout) else 0.0
        self._open_density = open_density
        self._take_density: list[TakeDensity] | None = None

    def add(self, window: tiling.Window, maps: Maps) -> None:
        """Adds the maps of a window."""
        readout, space = self._readout, self._space
        if readout.points_map is not None:
            box, values, shape = tiling.owned(maps[readout.points_map], window, space)
            self._points = self._points or tiled_detector(readout, shape)
            if values.size:
                self._points.add(box, values)
        if self._total is None:
            return
        box, values, shape = tiling.owned(maps[readout.count_map], window, space)
        density = density_of(values, readout)
        self._total += float(density.sum())
        if self._take_density is None:
            self._take_density = [opened(shape, self._scale) for opened in self._open_density]
        for take in self._take_density if values.size else ():
            take(box, density.astype(np.float32))

    def finish(self) -> Count:
        """Count and points, after all windows were added."""
        found = None if self._points is None else self._points.finish()
        return _count(found, self._total, self._scale)
