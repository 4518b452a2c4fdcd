"""From the maps of an image to its count and points."""

import dataclasses

import numpy as np

from cellcount_jax.data.pixel_size import Scale
from cellcount_jax.inference import detect as decode
from cellcount_jax.methods.base import Readout


@dataclasses.dataclass(frozen=True)
class Count:
    """What was found in one image.

    Attributes:
      count: number of cells by the method's own count.
      points: [N, ndim] float32, (y, x) or (z, y, x) in pixels of the image; None if the method
        gives no points.
      scores: [N] height of the map at each point, in its own unit; None without points.
      density: cells per map position, [*space / stride]; None if no map sums to the count, or if
        the image is too large to keep its maps.
      maps: all maps of the stage by name; empty if the image is too large to keep them.
      scale: pixels of the maps' image per pixel of the image given; per axis of a volume where
        they differ.
      density_sum: cells by the map that sums to the count; None if there is none.
    """

    count: float
    points: np.ndarray | None
    scores: np.ndarray | None
    density: np.ndarray | None
    maps: dict[str, np.ndarray]
    scale: Scale = 1.0
    density_sum: float | None = None


def counts_points(readout: Readout) -> bool:
    """Whether the count is the number of points; otherwise a map sums to it.

    Raises:
      ValueError: points are to be counted, and no map gives any.
    """
    if readout.count in ("l1", "integral"):
        return False
    if readout.points_map is None:
        raise ValueError(f"readout {readout.count!r} counts points but names no points_map")
    return True


def density_of(values: np.ndarray, readout: Readout) -> np.ndarray:
    """Cells per position, float64, of the map that counts or of any part of it."""
    density = values.astype(np.float64) / readout.count_scale
    return np.abs(density) if readout.count == "l1" else density


def nothing(maps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same maps of an image in which there is nothing."""
    return {name: np.zeros_like(values) for name, values in maps.items()}


def to_image_pixels(points: np.ndarray, scale: Scale) -> np.ndarray:
    """Points of an image that was resized by `scale`, in pixels before that."""
    if scale == 1.0:
        return points
    return ((points + 0.5) / np.asarray(scale) - 0.5).astype(np.float32)


def read_out(maps: dict[str, np.ndarray], readout: Readout, scale: Scale = 1.0) -> Count:
    """Count and points of one image's maps.

    Args:
      maps: named maps of the whole image.
      readout: of the stage.
      scale: by which the image was resized; points are given in pixels before that.
    """
    points = scores = None
    if readout.points_map is not None:
        points, scores = decode.find_points(
            maps[readout.points_map],
            decoder=readout.decoder,
            threshold=readout.threshold,
            reference=readout.reference,
        )
        points = to_image_pixels(points, scale)
    if counts_points(readout):
        assert points is not None
        return Count(float(len(points)), points, scores, None, maps, scale)
    density = density_of(maps[readout.count_map], readout)
    total = float(density.sum())
    return Count(total, points, scores, density.astype(np.float32), maps, scale, total)
