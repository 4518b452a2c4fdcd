"""Proposes dots for images without annotations, to be corrected by hand.

Classical image processing: a threshold and connected components with touching cells split, or
blobs of one size. A start for a person, never a result.
"""

import collections
import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from skimage import filters, measure
from skimage.feature import peak_local_max

from cellcount_jax.data import outliers
from cellcount_jax.data.preprocess import Preprocessing, preprocess
from cellcount_jax.data.resize import resize_array, resized_shape
from cellcount_jax.io.annotations.dots import Dots, write_dots
from cellcount_jax.io.images.axes import chosen_spacing
from cellcount_jax.io.images.image import Image, read_image
from cellcount_jax.io.pairing import find_pairs
from cellcount_jax.prediction.remarks import error_line, remarks_of
from cellcount_jax.runtime.path_text import path_text

log = logging.getLogger(__name__)


def propose_folder(
    folder: Path,
    *,
    method: str = "otsu",
    diameter: float | None = None,
    dark: bool = False,
    overwrite: bool = False,
    voxel_size: Sequence[float] | None = None,
    find: Callable[[Image], Dots] | None = None,
    **chosen: Any,
) -> tuple[dict[Path, int], int]:
    """Writes `dots/<name>.csv` (as napari reads it) for each image without annotations.

    Args:
      folder: Images in it or in its `images/`.
      method: `otsu` or `log`.
      diameter: Cell diameter in pixels; estimated from each image if not given.
      dark: Cells are darker than the background.
      overwrite: Also for images with annotations.
      voxel_size: Micrometres per pixel, (z, y, x), in place of what the files say.
      find: Proposes the dots of an image, in place of `method`.
      **chosen: `channels`, `axes`, `scene` and `time` of `read_image`.

    Returns:
      File -> number of dots in it; and the number of images that cannot be used, each of which
      the log names.

    Raises:
      FolderError: No images.
    """
    images, pairs = find_pairs(folder)
    written, failed = {}, 0
    number = collections.Counter(path.stem.lower() for path in images)
    for path in images:
        name = path.stem if number[path.stem.lower()] == 1 else path.name
        target = folder / "dots" / f"{name}.csv"
        if path in pairs and not overwrite:
            log.info("%s: has %s already; kept", path_text(path), path_text(pairs[path].name))
            continue
        try:
            with remarks_of(path, set()):
                image = read_image(path, **chosen)
                image = dataclasses.replace(image, spacing=chosen_spacing(image, voxel_size))
                if find is None:
                    options: dict[str, Any] = {"method": method, "diameter": diameter, "dark": dark}
                    dots = Dots(propose(image.pixels, **options, spacing=image.spacing))
                else:
                    dots = find(image)
        except (ValueError, OSError, MemoryError) as error:
            log.error("%s", error_line(path, error))
            failed += 1
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        write_dots(target, dots, format="napari")
        written[target] = len(dots)
    return written, failed


def propose(
    pixels: np.ndarray,
    *,
    method: str = "otsu",
    diameter: float | None = None,
    dark: bool = False,
    spacing: Sequence[float] | None = None,
) -> np.ndarray:
    """Dots [N, ndim] float32 of the cells in an image [*space, C] or volume.

    Args:
      pixels: Pixels as read from a file.
      method: `otsu`: threshold, components, touching cells split at the peaks of the distance to
        the background; `log`: maxima of the Laplacian of Gaussian.
      diameter: Cell diameter in pixels of the plane; that of the median component if not given.
      dark: Cells are darker than the background.
      spacing: Size of a voxel along each axis of a volume, in any unit: it is looked at with voxels
        that are cubes of the same volume.

    Raises:
      ValueError: An unknown method.
    """
    if pixels.ndim == 4 and spacing is not None and len(set(spacing)) > 1:
        side = float(np.prod(spacing)) ** (1 / 3)
        space = resized_shape(pixels.shape[:-1], tuple(size / side for size in spacing))
        size = None if diameter is None else diameter * spacing[-1] / side
        found = propose(resize_array(pixels, space), method=method, diameter=size, dark=dark)
        scale = np.divide(space, pixels.shape[:-1])
        return ((found + 0.5) / scale - 0.5).astype(np.float32)
    if method not in ("otsu", "log"):
        raise ValueError(f"no method {method!r}; there are otsu and log")
    pixels = outliers.replace_outliers(pixels)[0]
    grey = preprocess(pixels, Preprocessing(channels=pixels.shape[-1], normalise="percentile"))
    image = grey.max(axis=-1) if not dark else 1.0 - grey.mean(axis=-1)
    image = ndimage.gaussian_filter(image, 1.0)
    if image.max() - image.min() < 1e-6:
        return np.zeros((0, image.ndim), np.float32)
    cells = image > filters.threshold_otsu(image)
    size = diameter or median_component_diameter(cells)
    if method == "log":
        return _blobs(image, size)
    return _split_components(cells, size)


def median_component_diameter(cells: np.ndarray) -> float:
    """Diameter in pixels of the disc or ball of the median component's size; 8 if there is none."""
    sizes = np.bincount(measure.label(cells).ravel())[1:]
    sizes = sizes[sizes >= 5]
    if not len(sizes):
        return 8.0
    size = float(np.median(sizes))
    return 2 * (size / np.pi) ** 0.5 if cells.ndim == 2 else 2 * (size * 0.75 / np.pi) ** (1 / 3)


def _split_components(cells: np.ndarray, diameter: float) -> np.ndarray:
    """Peaks of the smoothed distance to the background; the centroid of components without one."""
    depth = ndimage.distance_transform_edt(cells)
    depth = ndimage.gaussian_filter(depth, max(0.5, diameter / 10))
    labels = measure.label(cells)
    peaks = peak_local_max(
        depth,
        min_distance=max(1, round(diameter * 0.3)),
        threshold_abs=max(0.7, 0.25 * diameter / 2),
        labels=labels,
        exclude_border=False,
    )
    found = np.unique(labels[tuple(peaks.T)])
    regions = np.bincount(labels.ravel())
    least = 0.15 * (np.pi / 4 * diameter**2 if cells.ndim == 2 else np.pi / 6 * diameter**3)
    missed = np.setdiff1d(np.flatnonzero(regions >= max(3.0, least)), [0, *found])
    centres = ndimage.center_of_mass(cells, labels, missed) if len(missed) else []
    rest = np.asarray(centres, np.float32).reshape(-1, cells.ndim)
    return np.concatenate([peaks.astype(np.float32), rest])


def _blobs(image: np.ndarray, diameter: float) -> np.ndarray:
    """Maxima of the negative Laplacian of Gaussian at the scale of a disc or ball of that size."""
    response = -ndimage.gaussian_laplace(image, diameter / 2 / np.sqrt(image.ndim))
    positive = response[response > 0]
    if not positive.size:
        return np.zeros((0, image.ndim), np.float32)
    level = 0.5 * filters.threshold_otsu(positive)
    peaks = peak_local_max(
        response,
        min_distance=max(1, round(diameter * 0.3)),
        threshold_abs=level,
        exclude_border=False,
    )
    return peaks.astype(np.float32)
