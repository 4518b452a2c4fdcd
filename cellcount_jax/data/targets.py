"""Training targets from dots: Gaussian densities, inverse-distance maps, sum-pooling.

NumPy on the host, one 2-D image or volume at a time. Dots are [N, ndim] in pixels; integers are
pixel centres, and dots between pixels are not rounded.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from cellcount_jax.data.distance_transform import anisotropy, nearest_distance

CHUNK_SIZE = 2**21
"""Number of kernel values computed together; bounds the memory."""

AXIS_NAMES = {1: "x", 2: "yx", 3: "zyx"}


def gaussian_density(
    dots: ArrayLike,
    shape: Sequence[int],
    *,
    sigma: float | Sequence[float] | np.ndarray,
    truncate: float = 4.0,
) -> np.ndarray:
    """A density map that sums to the number of dots.

    Every dot is a Gaussian sampled at pixel centres in a window of `int(truncate * sigma + 0.5)`
    pixels on each side, normalised inside the image: no mass is lost at the border.

    Args:
      dots: Positions [N, ndim] in pixels; duplicates add up.
      shape: Sides of the image, (H, W) or (D, H, W).
      sigma: Standard deviation in pixels: a number; a tuple or list with one per axis; or an array
        with one per dot, [N] or [N, ndim]. 0 assigns a dot to its nearest pixel.
      truncate: Radius of the window in standard deviations.

    Returns:
      [*shape] float32, cells per pixel.

    Raises:
      ValueError: A dot lies outside the image, or sigma does not fit or is negative.

    Source: MCNN (CVPR 2016), Eq. 1, renormalised at the border.
    """
    points = _checked(dots, shape)
    sigmas = _sigma_per_dot(sigma, points)
    density = np.zeros(tuple(shape), np.float32)
    radii = (truncate * sigmas + 0.5).astype(int)
    for rows in _chunks(radii, shape):
        _add_kernels(density, points[rows], sigmas[rows], radii[rows])
    return density


def raised_weight(
    places: ArrayLike, shape: Sequence[int], *, radius: float, weight: float
) -> np.ndarray:
    """A loss weight that is 1, and `weight` within `radius` pixels of a place.

    Args:
      places: Positions [K, ndim] in pixels, inside the image or not.
      shape: Sides of the image.
      radius: Distance in pixels.
      weight: Weight near a place.

    Returns:
      [*shape] float32.
    """
    found = np.ones(tuple(shape), np.float32)
    for place in np.asarray(places, np.float64).reshape(-1, len(shape)):
        first = np.clip(np.ceil(place - radius), 0, shape).astype(int)
        last = np.clip(np.floor(place + radius) + 1, first, shape).astype(int)
        box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        away = [np.square(g - p) for g, p in zip(np.ogrid[box], place, strict=True)]
        found[box][np.asarray(sum(away)) <= radius**2] = weight
    return found


def adaptive_sigma(
    dots: ArrayLike,
    *,
    beta: float = 0.3,
    k: int = 3,
    shape: Sequence[int] | None = None,
) -> np.ndarray:
    """Standard deviation per dot from the distance to its neighbours.

    Args:
      dots: Positions [N, ndim] in pixels.
      beta: Ratio of sigma to the mean distance to the `k` nearest other dots (all others if there
        are fewer).
      k: Number of neighbours.
      shape: Sides of the image; the sigma of a single dot is a quarter of their mean.

    Returns:
      [N] float32, pixels; 0 for a dot whose neighbours all coincide with it.

    Raises:
      ValueError: A single dot and no `shape`.

    Source: MCNN (CVPR 2016), Section 2.2; the rule for a single dot is that of the CSRNet code.
    """
    points = np.asarray(dots, np.float64)
    if len(points) == 0:
        return np.zeros(0, np.float32)
    if len(points) == 1:
        if shape is None:
            raise ValueError(
                "a single dot has no neighbour to derive sigma from: pass the image's shape"
            )
        return np.full(1, np.mean(shape) / 4, np.float32)
    # The first neighbour found is the dot itself, or a duplicate at the same distance 0.
    distances, _ = cKDTree(points).query(points, k=range(2, min(k + 1, len(points)) + 1))
    return (beta * distances.mean(axis=1)).astype(np.float32)


def inverse_distance_map(
    dots: ArrayLike,
    shape: Sequence[int],
    *,
    spacing: Sequence[float] | None = None,
    cutoff: float = 0.0,
) -> np.ndarray:
    """The focal inverse-distance map 1 / (L^(0.02 L + 0.75) + 1), 1 at a dot; not a density.

    Args:
      dots: Positions [N, ndim] in pixels.
      shape: Sides of the image, (H, W) or (D, H, W).
      spacing: Voxel size per axis in any unit; L is then the physical distance divided by the
        in-plane spacing (the last axis's). None: L in pixels or voxels.
      cutoff: Values below it become 0 (0.01 in the FIDTM code, about L > 30).

    Returns:
      [*shape] float32 in [0, 1]; zeros if there are no dots.

    Raises:
      ValueError: A dot lies outside the image, or the spacing does not fit.

    Source: FIDTM (IEEE TMM 2022), Eq. 2, with C = 1.
    """
    values = distance_map(dots, shape, spacing=spacing)
    flat = values.reshape(-1)
    # log(0) and overflow have the right limits, 1 and 0; inf means "no dot".
    with np.errstate(divide="ignore", over="ignore"):
        for start in range(0, flat.size, CHUNK_SIZE):
            part = flat[start : start + CHUNK_SIZE]
            power = 0.02 * part + 0.75
            np.exp(np.multiply(power, np.log(part), out=power), out=power)
            np.reciprocal(np.add(power, 1.0, out=power), out=part)
            if cutoff > 0:
                part[part < cutoff] = 0.0
    return values


def distance_map(
    dots: ArrayLike, shape: Sequence[int], *, spacing: Sequence[float] | None = None
) -> np.ndarray:
    """Exact distance from each pixel's centre to the nearest dot.

    Args:
      dots: Positions [N, ndim] in pixels.
      shape: Sides of the image, (H, W) or (D, H, W).
      spacing: As in `inverse_distance_map`.

    Returns:
      [*shape] float32, pixels (of the last axis); infinite if there are no dots.

    Raises:
      ValueError: A dot lies outside the image, or the spacing does not fit.
    """
    points = _checked(dots, shape)
    weights = anisotropy(spacing, len(shape))
    if not len(points) or not np.prod(shape):
        return np.full(tuple(shape), np.inf, np.float32)
    return nearest_distance(points, shape, weights)


def sum_pool(density: Any, stride: int | Sequence[int]) -> Any:
    """Sums of blocks: a coarser density with the same total.

    Args:
      density: NumPy or JAX array [H, W] or [D, H, W]; any array if `stride` names every axis.
      stride: Side of a block, one for all axes or one per axis; the last block of an axis may be
        smaller.

    Returns:
      The density with each side divided by the stride, rounded up, in the dtype of `density`.

    Raises:
      ValueError: The strides do not fit the axes.
    """
    xp: Any = jnp if isinstance(density, jax.Array) else np
    pooled = xp.asarray(density)
    strides = [stride] * pooled.ndim if isinstance(stride, int | np.integer) else list(stride)
    if len(strides) != pooled.ndim or any(s < 1 for s in strides):
        raise ValueError(f"stride {stride!r} does not fit a map of shape {pooled.shape}")
    sizes = [-(-n // s) for n, s in zip(pooled.shape, strides, strict=True)]
    padding = [(0, b * s - n) for n, b, s in zip(pooled.shape, sizes, strides, strict=True)]
    blocks = [side for pair in zip(sizes, strides, strict=True) for side in pair]
    pooled = xp.pad(pooled, padding).reshape(blocks)
    # Devices sum in the array's own dtype.
    wide = np.float64 if xp is np and np.issubdtype(pooled.dtype, np.floating) else pooled.dtype
    return pooled.sum(axis=tuple(range(1, len(blocks), 2)), dtype=wide).astype(pooled.dtype)


def _checked(dots: ArrayLike, shape: Sequence[int]) -> np.ndarray:
    """Dots as float64 [N, ndim], all inside the image."""
    points = np.asarray(dots, np.float64)
    points = points.reshape(0, len(shape)) if points.size == 0 else points
    if points.ndim != 2 or points.shape[1] != len(shape):
        raise ValueError(
            f"dots of shape {points.shape} do not fit an image of shape {tuple(shape)}"
        )
    # A pixel extends half a side beyond its centre; the negated form also catches NaN.
    outside = ~((points >= -0.5) & (points <= np.asarray(shape) - 0.5)).all(axis=1)
    if outside.any():
        names = AXIS_NAMES.get(len(shape), "")
        first = points[np.flatnonzero(outside)[0]]
        where = ", ".join(f"{n}={v:g}" for n, v in zip(names, first, strict=True))
        sides = ", ".join(f"{n} {s}" for n, s in zip(names, shape, strict=True))
        raise ValueError(
            f"dot ({where}) lies outside the image ({sides} pixels); {int(outside.sum())} of "
            f"{len(points)} dots do. Are the axes swapped, or the units not pixels?"
        )
    return points


def _sigma_per_dot(sigma: float | Sequence[float] | np.ndarray, points: np.ndarray) -> np.ndarray:
    """[N, ndim] float64."""
    values = np.asarray(sigma, np.float64)
    n, ndim = points.shape
    if isinstance(sigma, tuple | list):
        fits = values.shape == (ndim,)
    else:
        fits = values.shape in ((), (n,), (n, ndim))
        values = values[:, None] if values.shape == (n,) else values
    if not fits:
        raise ValueError(
            f"sigma of shape {np.shape(sigma)} fits neither {ndim} axes (a tuple) nor {n} dots "
            "(an array)"
        )
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise ValueError("sigma must be finite and non-negative")
    return np.broadcast_to(values, (n, ndim))


def _chunks(radii: np.ndarray, shape: Sequence[int]) -> Iterator[np.ndarray]:
    """Indices of dots in chunks that fit, with windows of similar size together."""
    windows = np.minimum(2 * radii + 1, np.asarray(shape)).astype(np.float64)
    order = np.argsort(windows.prod(axis=1), kind="stable")
    start = 0
    while start < len(order):
        largest = np.maximum.accumulate(windows[order[start:]], axis=0).prod(axis=1)
        # The padded size of a chunk stays below the limit and below twice what is needed.
        numbers = np.arange(1, len(largest) + 1)
        needed = np.cumsum(windows[order[start:]].prod(axis=1))
        fits = (largest * numbers <= CHUNK_SIZE) & (largest * numbers <= 2 * needed)
        stop = start + max(1, len(fits) if fits.all() else int(np.argmin(fits)))
        yield order[start:stop]
        start = stop


def _add_kernels(
    density: np.ndarray, points: np.ndarray, sigmas: np.ndarray, radii: np.ndarray
) -> None:
    """Adds the outer products of the dots' 1-D kernels [n, k] to the map."""
    ndim = density.ndim
    index = np.zeros((len(points), *(1,) * ndim), np.int64)
    weight = np.ones((len(points), *(1,) * ndim), np.float32)
    for axis, side in enumerate(density.shape):
        first, kernel = _kernels(points[:, axis], sigmas[:, axis], radii[:, axis], side)
        along = (len(points), *(1,) * axis, -1, *(1,) * (ndim - 1 - axis))
        step = density.strides[axis] // density.itemsize
        index = index + ((first[:, None] + np.arange(kernel.shape[1])) * step).reshape(along)
        weight = weight * kernel.astype(np.float32).reshape(along)
    np.add.at(density.reshape(-1), index.reshape(-1), weight.reshape(-1))


def _kernels(
    at: np.ndarray, sigma: np.ndarray, radius: np.ndarray, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """First pixels [n] and weights [n, k], of sum 1, of 1-D Gaussians on an axis of `side`."""
    width = min(2 * int(radius.max()) + 1, side)
    first = np.clip(np.ceil(at - radius).astype(int), 0, side - width)
    squared = np.square(first[:, None] + np.arange(width) - at[:, None])
    # The nearest pixel is always in the window, and its weight cannot underflow.
    nearest = squared.min(axis=1, keepdims=True)
    inside = squared <= np.maximum(np.square(radius[:, None]), nearest)
    spread = np.maximum(2 * np.square(sigma), 1e-12)[:, None]
    kernel = np.where(inside, np.exp((nearest - squared) / spread), 0.0)
    return first, kernel / kernel.sum(axis=1, keepdims=True)
