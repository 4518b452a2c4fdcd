"""How large the cells of an image are: from a mask, or read off the image itself.

A network that was trained on cells of one size sees every image resized to that size. The size
need only be right within a factor of about one and a half, so plain image processing will do.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import ndimage
from skimage import filters

from cellcount_jax.data.preprocess import Preprocessing, Readable, apply, intensity_range

SMALLEST, LARGEST = 6.0, 200.0
"""Estimates in pixels are kept between these; an image of pure noise would give less."""

WIDTHS = (256, 128, 64, 32, 16)
"""Widths in pixels over which the ground is averaged, widest first."""

KEEP = 0.75
"""Cells keep at least this share of their size when the ground is averaged over half the width."""

PART = 512
"""Side in pixels of the parts that are looked at where an image is larger than two of them."""

PARTS = 4
"""So many of them, those with the most contrast, have a say."""

CLOSE = 1.1
"""Images within this factor of the wanted size stay as they are: the estimate is no nearer."""


def mean_diameter(labels: np.ndarray) -> float | None:
    """Mean over the cells of the diameter in pixels of the disc of the same area.

    Args:
      labels: [H, W] instance mask, 0 background.

    Returns:
      None without cells.
    """
    areas = np.bincount(labels.ravel())[1:]
    areas = areas[areas > 0]
    return float(np.mean(2 * np.sqrt(areas / np.pi))) if len(areas) else None


def scale_to(diameter: float, image: np.ndarray | Readable) -> float:
    """By which an image is resized so that its cells are `diameter` pixels wide, as estimated.

    1 where the image is constant, and where the cells have that size within a factor of `CLOSE`.

    Raises:
      ValueError: of `estimate_diameter`.
    """
    found = estimate_diameter(image)
    scale = diameter / found if found else 1.0
    return scale if max(scale, 1 / scale) > CLOSE else 1.0


def estimate_diameter(image: np.ndarray | Readable) -> float | None:
    """Diameter in pixels of bright cells on a darker ground.

    The ground, averaged over a width, is taken off and what is left is cut at Otsu's threshold. A
    disc's mean distance to its rim is a sixth of its diameter, whether or not it touches others by
    a little. Of the widths the widest is taken at which the result hardly changes with the next:
    a tissue that glows as a whole falls apart into its cells, a cell stays what it is.

    Args:
      image: [H, W, C] as read from a file, in memory or read by parts. Of a large one nine parts
        are looked at, and the median of the four with the most contrast is taken.

    Returns:
      Between `SMALLEST` and `LARGEST`; None where the image is constant.

    Raises:
      ValueError: a volume, or pixels that are not finite.
    """
    if len(image.shape) != 3:
        raise ValueError(
            f"the size of cells is estimated in images [H, W, C], not in {image.shape}"
        )
    brightness = Preprocessing(channels=image.shape[-1], normalise="percentile")
    range_ = intensity_range(image, brightness)
    parts = []
    for window in _windows(image.shape[:2], image.shape[2]):
        part = image[window] if isinstance(image, np.ndarray) else image.read(window)
        parts.append(apply(part, brightness, range_).mean(axis=-1))
    parts.sort(key=lambda part: -float(part.std()))
    with ThreadPoolExecutor(PARTS) as threads:  # SciPy's filters let other threads run
        found = [d for d in threads.map(_in_part, parts[:PARTS]) if d is not None]
    return float(np.clip(np.median(found), SMALLEST, LARGEST)) if found else None


def _windows(shape: tuple[int, ...], channels: int) -> list[tuple[slice, ...]]:
    """The whole image, or nine windows spread over a large one."""
    if max(shape) <= 2 * PART:
        return [(slice(0, shape[0]), slice(0, shape[1]), slice(0, channels))]
    starts = [np.unique(np.linspace(0, max(0, n - PART), 3, dtype=int)).tolist() for n in shape]
    rows, columns = (
        [slice(start, min(n, start + PART)) for start in axis]
        for axis, n in zip(starts, shape, strict=True)
    )
    return [(y, x, slice(0, channels)) for y in rows for x in columns]


def _in_part(grey: np.ndarray) -> float | None:
    smooth = ndimage.gaussian_filter(grey, 1.0)
    if np.ptp(smooth) < 1e-6:
        return None
    previous = None
    for width in WIDTHS:
        # Twice a moving mean is near a Gaussian and costs the same at any width.
        ground = ndimage.uniform_filter(ndimage.uniform_filter(smooth, width), width)
        found = _disc_diameter(smooth - ground)
        if previous is not None and found >= KEEP * previous:
            return previous
        previous = found
    return previous


def _disc_diameter(above: np.ndarray) -> float:
    cells = _without_holes(above > filters.threshold_otsu(above))
    # Cells that leave the image go on beyond its edge.
    inside = np.pad(cells, 1, mode="edge")
    nearest = ndimage.distance_transform_edt(inside, return_distances=False, return_indices=True)
    at = np.stack(np.nonzero(cells)) + 1
    depth = np.linalg.norm(nearest[:, *at] - at, axis=0)
    # A sixth in the plane; counted in pixels, with cells that touch, real ones give 1.22 of it.
    return 6 / 1.22 * float(depth.mean()) if depth.size else 0.0


def _without_holes(cells: np.ndarray) -> np.ndarray:
    """What `ndimage.binary_fill_holes` gives, in a fifth of its time."""
    parts, _ = ndimage.label(np.pad(~cells, 1, constant_values=True))
    return (parts != parts[0, 0])[1:-1, 1:-1]
