"""Micrometres and pixels: where they meet."""

from collections.abc import Iterable, Sequence

import numpy as np

from cellcount_jax.data.sample import Sample

SAME = 0.02
"""Pixel sizes that differ by less than this share are one size."""

FARTHEST = 16.0
"""An image is not resized by more than this to a network's pixel size: one of them is wrong."""

Scale = float | tuple[float, ...]
"""Of all axes, or of each."""


def points_in_um(points: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Points in micrometres, measured from the centre of the first pixel, as pixels are.

    Args:
      points: [N, ndim] in pixels, (y, x) or (z, y, x).
      spacing: micrometres per pixel, in the same order.

    Returns:
      [N, ndim] float64.

    Raises:
      ValueError: one does not fit the other.
    """
    if points.ndim != 2 or points.shape[1] != len(spacing):
        raise ValueError(f"points {points.shape} do not fit a pixel size of {len(spacing)} axes")
    return points.astype(np.float64) * np.asarray(spacing, np.float64)


def common_pixel_size(samples: Iterable[Sample]) -> Scale | None:
    """Micrometres per pixel that all samples share.

    Returns:
      That of the plane for images; for volumes one number where all axes have it, else one per
      axis; None where a sample has no pixel size or another one.
    """
    spacings = [sample.spacing for sample in samples]
    if not spacings or any(s is None or len(s) != len(spacings[0] or ()) for s in spacings):
        return None
    sizes = np.array(spacings, np.float64)
    middle = np.median(sizes, axis=0)
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        return None
    if (np.abs(sizes / middle - 1) >= SAME).any():
        return None
    return _short([round(float(size), 6) for size in middle])


def in_plane(scale: Scale) -> float:
    """Of a scale per axis that of the plane."""
    return scale if isinstance(scale, float | int) else scale[-1]


def scale_between(spacing: Sequence[float], pixel_size: float | Sequence[float]) -> Scale:
    """By which an image is resized so that its pixels get a network's size.

    Args:
      spacing: micrometres per pixel of the image, (y, x) or (z, y, x).
      pixel_size: of the images that the network was trained on: one number, that of the plane,
        by which all axes are resized alike; or one per axis, each resized on its own.

    Raises:
      ValueError: the sizes are so far apart that one of them must be wrong.
    """
    trained = [float(size) for size in np.ravel(pixel_size)]
    scale = [float(spacing[-1]) / trained[-1]] * len(spacing)
    if len(trained) == len(spacing):
        scale = [float(s) / t for s, t in zip(spacing, trained, strict=True)]
    if not all(1 / FARTHEST <= s <= FARTHEST for s in scale):
        own, others = (" x ".join(f"{s:g}" for s in np.ravel(x)) for x in (spacing, trained))
        raise ValueError(
            f"a pixel is {own} um and the model was trained at {others} um; one of them must be "
            "wrong: give the right size with --voxel-size (-v)"
        )
    return _short(scale)


def _short(values: list[float]) -> Scale:
    """One number where all are the same, and for images: their pixels are squares."""
    if len(values) == 2 or all(abs(value / values[-1] - 1) < SAME for value in values):
        return values[-1]
    return tuple(values)
