"""From a map to points. NumPy on the host, 2-D and 3-D."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cellcount_jax.methods.base import Decoder


def find_points(
    map: np.ndarray,
    *,
    decoder: Decoder = "components",
    threshold: float,
    single_cell_peak: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds cells in a map.

    `components`: the unweighted centroids of the 8- or 26-connected components
    of `map > threshold`. `peaks`: every positive element that no neighbour (3 per axis) exceeds
    and that reaches `threshold` times the map's maximum; each element of a plateau counts.

    Args:
      map: Map [H, W] or [D, H, W].
      decoder: `components` or `peaks`, see above.
      threshold: Absolute level for components, fraction of the maximum for peaks.
      single_cell_peak: Peak height of one cell. If given, `threshold` of `peaks` is a fraction of
        it, not of the map's maximum, so that the tiles of a large image agree.

    Returns:
      Points [N, ndim] float32 in map pixels, in raster order, and scores [N] float32: the map's
      value at a peak, or its maximum in a component.

    Raises:
      ValueError: Unknown decoder, or the map holds NaN or infinity.

    Source: FIDTM (IEEE TMM 2022), local maxima with threshold 100/255; NuMorph (Cell Reports
    2021), components at 0.5.
    """
    values = np.asarray(map)
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float32)
    if decoder not in ("components", "peaks"):
        raise ValueError(f"unknown decoder {decoder!r}; choose 'components' or 'peaks'")
    check_finite(values)
    if not values.size:
        return np.zeros((0, values.ndim), np.float32), np.zeros(0, np.float32)
    if decoder == "components":
        pieces, _, _ = label_components(values, threshold)
        return pieces.centroids(), pieces.top.astype(np.float32)
    top = float(values.max()) if single_cell_peak is None else single_cell_peak
    return find_peaks(values, threshold * top)


def check_finite(values: np.ndarray) -> None:
    """Raises ValueError if a map holds NaN or infinity."""
    if not np.isfinite(values).all():
        raise ValueError("the map holds NaN or infinity, so no points can be read from it")


class Pieces(NamedTuple):
    """n connected components, or the pieces of components that lie in one tile.

    Attributes:
      size: Number of pixels, [n].
      sums: Sums of the pixels' coordinates, [ndim, n].
      top: Maximum of the map, [n].
      first: Raster index of the first pixel, [n].
    """

    size: np.ndarray
    sums: np.ndarray
    top: np.ndarray
    first: np.ndarray

    def merge(self, into: np.ndarray, n: int) -> "Pieces":
        """Merges the pieces into `n`; `into` holds the new index of each."""
        top = np.full(n, -np.inf, self.top.dtype)  # same dtype: NumPy is slow on mixed dtypes
        first = np.full(n, np.iinfo(np.int64).max)
        np.maximum.at(top, into, self.top)
        np.minimum.at(first, into, self.first)
        sums = [np.bincount(into, weights=axis, minlength=n) for axis in self.sums]
        return Pieces(np.bincount(into, self.size, n), np.stack(sums), top, first)

    @staticmethod
    def concatenate(pieces: Sequence["Pieces"]) -> "Pieces":
        """The pieces of several tiles as one record."""
        return Pieces(*(np.concatenate(column, axis=-1) for column in zip(*pieces, strict=True)))

    def select(self, mask: np.ndarray) -> "Pieces":
        """The pieces selected by a mask [n]."""
        return Pieces(*(column[..., mask] for column in self))

    def centroids(self) -> np.ndarray:
        """Centroids [n, ndim] float32."""
        return (self.sums / self.size).T.astype(np.float32, order="C")


def label_components(
    values: np.ndarray,
    threshold: float,
    *,
    corner: Sequence[int] | None = None,
    shape: Sequence[int] | None = None,
) -> tuple[Pieces, np.ndarray, np.ndarray]:
    """Connected components of `values > threshold`.

    Args:
      values: A map, or a box of one.
      threshold: Absolute level.
      corner: First pixel of the box in the whole map.
      shape: Shape of the whole map.

    Returns:
      The components in raster order, their pixels [N] as raster indices of the whole map, and the
      component [N] that each pixel belongs to.
    """
    labels, n = ndimage.label(values > threshold, np.ones((3,) * values.ndim, bool))
    inside = np.nonzero(labels)
    component = labels[inside] - 1
    at = np.stack(inside) + (0 if corner is None else np.array(corner)[:, None])
    places = np.ravel_multi_index(tuple(at), values.shape if shape is None else tuple(shape))
    pixels = Pieces(np.ones(len(component)), at, values[inside], places)
    return pixels.merge(component, n), places, component


def find_peaks(values: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Like `find_points` with decoder `peaks`, at an absolute level.

    Args:
      values: Map [*space].
      level: Least value of a peak.

    Returns:
      Points [N, ndim] and their values [N], both float32.
    """
    padded = np.pad(values, 1, constant_values=-np.inf)
    flat = padded.ravel()
    at = np.flatnonzero((flat > 0) & (flat >= level))
    strides = [math.prod(padded.shape[axis + 1 :]) for axis in range(padded.ndim)]
    # Few elements are left after the first neighbours: far less work than a moving maximum.
    for step in neighbour_steps(padded.ndim) @ strides:
        at = at[flat[at] >= flat[at + step]]
    points = np.stack(np.unravel_index(at, padded.shape), axis=-1) - 1
    return points.astype(np.float32), flat[at].astype(np.float32)


def neighbour_steps(ndim: int) -> np.ndarray:
    """Steps [3**ndim - 1, ndim] from a pixel to its neighbours."""
    steps = np.array(list(itertools.product((-1, 0, 1), repeat=ndim)))
    return steps[steps.any(axis=1)]
