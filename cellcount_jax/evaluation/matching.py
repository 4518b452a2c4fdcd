"""Matches predicted points to true dots, one to one within a radius, or to an instance mask."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

from cellcount_jax.data.distance_transform import anisotropy


def match_pairs(
    predicted: ArrayLike,
    true: ArrayLike,
    *,
    radius: float,
    spacing: Sequence[float] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """One-to-one pairs at distance <= radius: as many as possible, then with least total distance.

    Args:
      predicted: Points [N, ndim] in pixels.
      true: Dots [M, ndim] in pixels.
      radius: Radius in pixels; with `spacing`, in pixels of the last axis.
      spacing: Voxel size per axis in any unit, to measure physical distances.

    Returns:
      Pairs [K, 2] of indices (predicted, true), sorted, and their distances [K] float64.

    Raises:
      ValueError: The points have different numbers of axes, or the radius is negative or infinite.
    """
    found, dots = _points_of(predicted), _points_of(true)
    if not 0 <= radius < np.inf:
        raise ValueError(f"matching radius {radius}: it must be a finite distance of 0 or more")
    if not (len(found) and len(dots)):
        return np.zeros((0, 2), np.int64), np.zeros(0)
    if found.shape[1] != dots.shape[1]:
        raise ValueError(
            f"predicted points have {found.shape[1]} axes and true dots {dots.shape[1]}"
        )
    weights = anisotropy(spacing, dots.shape[1])
    found, dots = found * weights, dots * weights
    near = cKDTree(found).sparse_distance_matrix(
        cKDTree(dots), radius * (1 + 1e-9), output_type="ndarray"
    )
    pairs = np.stack([near["i"], near["j"]], axis=-1)
    distances = np.linalg.norm(found[pairs[:, 0]] - dots[pairs[:, 1]], axis=1)
    inside = distances <= radius
    chosen = _assign(pairs[inside], distances[inside], (len(found), len(dots)))
    pairs, distances = pairs[inside][chosen], distances[inside][chosen]
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    return pairs[order], distances[order]


def _points_of(points: ArrayLike) -> np.ndarray:
    array = np.asarray(points, np.float64)
    if array.size and (array.ndim != 2 or not np.isfinite(array).all()):
        raise ValueError(f"points of shape {array.shape}: finite numbers [N, ndim] are needed")
    return array if array.size else array.reshape(0, 0)


def _assign(pairs: np.ndarray, distances: np.ndarray, sizes: tuple[int, int]) -> np.ndarray:
    """Indices of the chosen among the candidate `pairs` [E, 2]."""
    if not len(pairs):
        return np.zeros(0, np.int64)
    n, m = sizes
    if n > m:  # The solver adds rows one by one, and a poor counter may predict very many points.
        return _assign(pairs[:, ::-1], distances, (m, n))
    # Every row gets a fallback column of its own, so that a full matching always exists. A fallback
    # costs more than any rearrangement can save, so the fewest possible rows use it. All costs are
    # raised alike, because the solver takes a zero for a missing edge.
    longest = max(float(distances.max()), 1.0)
    raised = longest + 1.0
    dear = raised + (min(n, m) + 1) * longest
    rows = np.concatenate([pairs[:, 0], np.arange(n)])
    columns = np.concatenate([pairs[:, 1], m + np.arange(n)])
    costs = np.concatenate([distances + raised, np.full(n, dear)])
    graph = sparse.csr_array((costs, (rows, columns)), shape=(n, m + n))
    chosen = np.stack(min_weight_full_bipartite_matching(graph), axis=-1)
    chosen = chosen[chosen[:, 1] < m]
    order = np.argsort(pairs[:, 0] * m + pairs[:, 1])
    keys = (pairs[:, 0] * m + pairs[:, 1])[order]
    return order[np.searchsorted(keys, chosen[:, 0] * m + chosen[:, 1])]


def match_points(
    predicted: ArrayLike,
    true: ArrayLike,
    *,
    radius: float,
    spacing: Sequence[float] | None = None,
) -> tuple[int, int, int]:
    """True positives, false positives and false negatives of one image.

    Args:
      predicted: Points [N, ndim] in pixels.
      true: Dots [M, ndim] in pixels.
      radius: As in `match_pairs`.
      spacing: As in `match_pairs`.

    Returns:
      (tp, fp, fn): matched pairs, predictions and dots left over.
    """
    pairs, _ = match_pairs(predicted, true, radius=radius, spacing=spacing)
    return len(pairs), len(np.asarray(predicted)) - len(pairs), len(np.asarray(true)) - len(pairs)


def match_labels(points: ArrayLike, labels: np.ndarray) -> tuple[int, int, int]:
    """Matches points to an instance mask: a label that holds exactly one point is found.

    Args:
      points: Points [N, ndim] in pixels; each belongs to the pixel it lies in.
      labels: Instance mask [*space] of integers, 0 is background.

    Returns:
      (tp, fp, fn). tp: labels with exactly one point. fp: labels with several (one each, however
      many points) plus points on the background. fn: labels with none. A label with several
      points is not a miss, so tp + fn can be less than the number of labels.

    Raises:
      ValueError: A point lies outside the mask.

    Source: evaluation of NuMorph (Cell Reports 2021): precision = correct / (correct + multiple +
    empty), recall = correct / (correct + merged + missed).
    """
    names, flat = np.unique(labels, return_inverse=True)
    at = _points_of(points).reshape(-1, labels.ndim)
    pixels = np.floor(at + 0.5).astype(np.int64)
    # A point on the far border of the last pixel still belongs to it.
    pixels = np.where(at == np.asarray(labels.shape) - 0.5, pixels - 1, pixels)
    if ((pixels < 0) | (pixels >= labels.shape)).any():
        raise ValueError(f"a point lies outside the mask of shape {labels.shape}")
    held = flat.reshape(labels.shape)[tuple(pixels.T)]
    numbers = np.bincount(held, minlength=len(names))
    cells = numbers[names != 0]
    empty = int(numbers[names == 0].sum())
    return int((cells == 1).sum()), int((cells > 1).sum()) + empty, int((cells == 0).sum())
