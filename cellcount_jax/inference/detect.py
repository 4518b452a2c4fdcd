"""From a map to points. NumPy on the host, 2-D and 3-D."""

import itertools
import math
from typing import Literal

import numpy as np
from scipy import ndimage

Decoder = Literal["components", "peaks"]


def find_points(
    map: np.ndarray,
    *,
    decoder: Decoder = "components",
    threshold: float,
    reference: float | None = None,
    floor: float = 0.0,
    subpixel: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Cells of a map as points.

    `components`: the centroids (plain means of coordinates) of the 8- or 26-connected components
    of `map > threshold`. `peaks`: every positive element that no neighbour (3 per axis) exceeds
    and that reaches `threshold` times the map's maximum; each element of a plateau counts.

    Args:
      map: [H, W] or [D, H, W].
      decoder: see above.
      threshold: an absolute level for components, a share for peaks.
      reference: peaks only: level that `threshold` is a share of, in place of the map's maximum,
        so that the tiles of a large image agree.
      floor: a map whose maximum is smaller holds no points.
      subpixel: peaks only: moves each peak to the top of the parabola through it and its two
        neighbours along each axis, by half a pixel at most.

    Returns:
      Points [N, ndim] float32 in map pixels, in raster order, and scores [N] float32: the map's
      value at a peak, or its maximum in a component.

    Raises:
      ValueError: no such decoder, or the map holds NaN or infinity.

    Source: FIDTM (IEEE TMM 2022), local maxima with threshold 100/255 and floor 0.1; NuMorph
    (Cell Reports 2021), components at 0.5.
    """
    values = np.asarray(map)
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float32)
    if decoder not in ("components", "peaks"):
        raise ValueError(f"no decoder {decoder!r}; there are 'components' and 'peaks'")
    if not np.isfinite(values).all():
        raise ValueError("the map holds NaN or infinity, so no points can be read from it")
    top = float(values.max(initial=-np.inf))
    if not values.size or top < floor:
        return np.zeros((0, values.ndim), np.float32), np.zeros(0, np.float32)
    if decoder == "components":
        return _components(values, threshold)
    return _peaks(values, threshold * (top if reference is None else reference), subpixel)


def _components(values: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    labels, n = ndimage.label(values > threshold, np.ones((3,) * values.ndim, bool))
    where = np.nonzero(labels)
    which = labels[where] - 1
    size = np.bincount(which, minlength=n)
    sums = [np.bincount(which, weights=at, minlength=n) for at in where]
    scores = np.full(n, -np.inf)
    np.maximum.at(scores, which, values[where])
    return (np.stack(sums, axis=-1) / size[:, None]).astype(np.float32), scores.astype(np.float32)


def _peaks(values: np.ndarray, level: float, subpixel: bool) -> tuple[np.ndarray, np.ndarray]:
    beyond = np.pad(values, 1, constant_values=-np.inf)
    flat = beyond.ravel()
    at = np.flatnonzero((flat > 0) & (flat >= level))
    # Few elements are left after the first neighbours: far less work than a moving maximum.
    for step in _neighbour_steps(beyond.shape):
        at = at[flat[at] >= flat[at + step]]
    where = np.stack(np.unravel_index(at, beyond.shape), axis=-1) - 1
    offsets = _parabola_tops(values, where) if subpixel else 0.0
    return (where + offsets).astype(np.float32), flat[at].astype(np.float32)


def _neighbour_steps(shape: tuple[int, ...]) -> np.ndarray:
    """From an element to its 8 or 26 neighbours in the flattened array."""
    strides = np.array([math.prod(shape[axis + 1 :]) for axis in range(len(shape))])
    moves = np.array(list(itertools.product((-1, 0, 1), repeat=len(shape))))
    return moves[moves.any(axis=1)] @ strides


def _parabola_tops(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Offsets [N, ndim] in [-0.5, 0.5] of the tops; 0 at the border and along flat axes."""
    offsets = np.zeros(where.shape)
    centre = values[tuple(where.T)].astype(np.float64)
    for axis, side in enumerate(values.shape):
        step = np.eye(values.ndim, dtype=int)[axis]
        inner = (where[:, axis] > 0) & (where[:, axis] < side - 1)
        before, after = (
            values[tuple((where[inner] + sign * step).T)].astype(np.float64) for sign in (-1, 1)
        )
        bend = before - 2 * centre[inner] + after
        shift = np.divide(0.5 * (before - after), bend, out=np.zeros_like(bend), where=bend < 0)
        offsets[inner, axis] = np.clip(shift, -0.5, 0.5)
    return offsets
