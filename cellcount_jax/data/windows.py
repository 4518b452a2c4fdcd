"""Windows of images and their targets, read without processing the whole image.

A window may extend beyond the image, which continues by reflection. The result equals that part of
the output of `batches.stack_samples` for the whole image; densities up to float32 rounding.
"""

import functools
from collections.abc import Sequence

import numpy as np

from cellcount_jax.data import batches, targets
from cellcount_jax.data.preprocess import IntensityRange, Preprocessing, apply, intensity_range
from cellcount_jax.data.resize import Box, reflected_indices, unfold
from cellcount_jax.data.sample import Sample
from cellcount_jax.io.cache import ArrayCache

CACHE_BYTES = 512 * 2**20
"""Size of the cache of whole targets, for targets that cannot be computed for a window alone."""


class WindowReader:
    """Reads windows of samples; thread-safe.

    The intensity range of an image is computed when it is first read, and kept.

    Args:
      preprocessing: Preprocessing of whole images.
      target: Makes a map from dots and space shape. A `targets.gaussian_density` with one sigma is
        computed around the window; any other is computed for the whole image and cached.
      weight: Makes the loss weight from places marked as no cell, inside the shape or not, and the
        space shape.
      cache_bytes: Size of the cache of whole targets.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        *,
        target: batches.Target | None = None,
        weight: batches.Target | None = None,
        cache_bytes: int = CACHE_BYTES,
    ):
        self._preprocessing = preprocessing
        self._target, self._weight = target, weight
        self._ranges: dict[int, IntensityRange] = {}
        self._wholes = ArrayCache(cache_bytes)

    def read(
        self, index: int, sample: Sample, corner: np.ndarray, side: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Reads one window.

        Args:
          index: Index of the sample in its dataset; the key of the caches.
          sample: The image with its dots, if it has any.
          corner: First pixel of the window.
          side: Side of the window per space axis.

        Returns:
          The image [*side, C] float32, dots (raster) [*side] uint8 and, if there are such, target
          and weight [*side] float32.

        Raises:
          ValueError: Pixels or dots cannot be used; names the sample.
        """
        shape = sample.image.shape[:-1]
        at = [reflected_indices(n, c, s) for n, c, s in zip(shape, corner, side, strict=True)]
        box = tuple(slice(int(a.min()), int(a.max()) + 1) for a in at)
        dots = np.zeros((0, len(shape)), np.float32) if sample.dots is None else sample.dots
        try:
            maps = {
                "image": apply(sample.image[box], self._preprocessing, self._range(index, sample)),
                "dots": raster_part(dots, shape, box),
            }
            if self._target is not None:
                maps["target"] = self._target_part(index, dots, shape, box)
            if self._weight is not None:
                first, last = _ends(box)
                maps["weight"] = self._weight(batches.marked_places(sample) - first, last - first)
        except ValueError as error:
            raise ValueError(f"{sample.name}: {error}") from error
        return {name: unfold(value, at) for name, value in maps.items()}

    def _range(self, index: int, sample: Sample) -> IntensityRange:
        if index not in self._ranges:
            self._ranges[index] = intensity_range(sample.image, self._preprocessing)
        return self._ranges[index]

    def _target_part(
        self, index: int, dots: np.ndarray, shape: Sequence[int], box: Box
    ) -> np.ndarray:
        target = self._target
        assert target is not None
        reach = gaussian_reach(target, len(shape))
        if reach is not None:
            return density_part(target, dots, shape, box, reach)
        whole = self._wholes.get(index, lambda: np.asarray(target(dots, shape), np.float32))
        return whole[box]


def raster_part(dots: np.ndarray, shape: Sequence[int], box: Box) -> np.ndarray:
    """A box of `batches.rasterize_counts` of the whole image."""
    first, last = _ends(box)
    cells = np.clip(np.rint(dots).astype(int), 0, np.asarray(shape) - 1)
    inside = ((cells >= first) & (cells < last)).all(axis=1)
    return batches.rasterize_counts(cells[inside] - first, last - first)


def gaussian_reach(target: batches.Target, ndim: int) -> np.ndarray | None:
    """Pixels per axis beyond which a dot does not contribute; None for other targets."""
    if not isinstance(target, functools.partial) or target.func is not targets.gaussian_density:
        return None
    options = {"truncate": 4.0, **target.keywords}
    if target.args or isinstance(options["sigma"], np.ndarray):  # one sigma per dot
        return None
    sigma = np.broadcast_to(np.asarray(options["sigma"], np.float64), (ndim,))
    return (options["truncate"] * sigma + 0.5).astype(int)


def density_part(
    target: batches.Target, dots: np.ndarray, shape: Sequence[int], box: Box, reach: np.ndarray
) -> np.ndarray:
    """A box of the whole image's density, from the dots that reach it."""
    first, last = _ends(box)
    margin = reach + 1  # a dot between two pixels belongs to both
    near = ((dots >= first - margin) & (dots <= last - 1 + margin)).all(axis=1)
    # Room for whole kernels, as each is normalised inside the image, not inside the box.
    start = np.maximum(first - 2 * margin, 0)
    stop = np.minimum(last + 2 * margin, shape)
    grown = target(dots[near] - start, tuple(stop - start))
    inner = tuple(slice(a, b) for a, b in zip(first - start, last - start, strict=True))
    return np.asarray(grown, np.float32)[inner]


def _ends(box: Box) -> tuple[np.ndarray, np.ndarray]:
    return np.array([b.start for b in box]), np.array([b.stop for b in box])
