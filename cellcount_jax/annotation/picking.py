"""Which dot a click means, and which is the next doubtful one. NumPy, without loops over dots."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from cellcount_jax.annotation.records import Rows, State
from cellcount_jax.data.distance_transform import anisotropy


class Picked(NamedTuple):
    """The dot that a click means.

    Attributes:
      id: Its number.
      is_near_slice: It lies on another slice than the click.
    """

    id: int
    is_near_slice: bool


def pick(
    rows: Rows,
    shown: np.ndarray,
    point: ArrayLike,
    *,
    radius: float,
    near_radius: float | None = None,
    spacing: Sequence[float] | None = None,
) -> Picked | None:
    """The dot at a click: on its slice the nearest within `radius`, else one of a near slice.

    Args:
      rows: Positions of all dots.
      shown: [n] dots that can be clicked.
      point: Position of the click in pixels.
      radius: Radius in pixels of the last axis, on the slice of the click.
      near_radius: Matching radius in space, in pixels of the last axis, for dots of other slices;
        `radius` if not given.
      spacing: Voxel size per axis, to measure in physical proportions.
    """
    at = np.asarray(point, np.float64)
    reach = radius if near_radius is None else near_radius
    close = np.abs(rows.points[:, -1] - at[-1]) <= max(radius, reach)  # spares distances to all
    ids = np.flatnonzero(shown & close)
    if not len(ids):
        return None
    away = (rows.points[ids] - at) * anisotropy(spacing, len(at))
    squares = np.einsum("ij,ij->i", away, away)
    if len(at) == 3:
        here = np.abs(rows.points[ids, 0] - at[0]) < 0.5
        in_plane = np.where(here, np.einsum("ij,ij->i", away[:, 1:], away[:, 1:]), np.inf)
        best = int(in_plane.argmin())
        if in_plane[best] <= radius**2:
            return Picked(int(ids[best]), False)
        best = int(np.where(here, np.inf, squares).argmin())
        is_near = not here[best] and squares[best] <= reach**2
        return Picked(int(ids[best]), True) if is_near else None
    best = int(squares.argmin())
    return Picked(int(ids[best]), False) if squares[best] <= radius**2 else None


def far_from(points: np.ndarray, others: np.ndarray, *, radius: float) -> np.ndarray:
    """[N] whether each point [N, ndim] is farther than `radius` from all others [M, ndim]."""
    if not (len(points) and len(others)):
        return np.ones(len(points), bool)
    return cKDTree(others).query(points, distance_upper_bound=radius)[0] == np.inf


def by_doubt(rows: Rows, threshold: float) -> np.ndarray:
    """Numbers of the dots that have a score, nearest the threshold first.

    Judged dots stay in the list, so that one can go back to them. Without a threshold the lowest
    score is the most doubtful.
    """
    scored = np.flatnonzero(~np.isnan(rows.scores) & (rows.states != State.REMOVED))
    scores = rows.scores[scored]
    if not np.isfinite(threshold):
        return scored[np.argsort(scores, kind="stable")]
    return scored[np.argsort(np.abs(scores - np.float32(threshold)), kind="stable")]


def next_doubtful(rows: Rows, threshold: float, current: int | None, *, step: int) -> int | None:
    """The dot to look at next: forwards one that nobody has judged, backwards the one before.

    Args:
      rows: Positions of all dots.
      threshold: Threshold of the scores.
      current: The current dot; None: start with the first.
      step: 1 or -1.

    Returns:
      Its number, or None if nothing is left.
    """
    order = by_doubt(rows, threshold)
    found = np.flatnonzero(order == (-1 if current is None else current))
    at = int(found[0]) if len(found) else -1
    if step < 0:
        return int(order[at - 1]) if at > 0 else None
    open_ones = order[rows.states[order] == State.PROPOSED]
    if not len(open_ones):
        return None
    later = np.flatnonzero(rows.states[order[at + 1 :]] == State.PROPOSED)
    return int(order[at + 1 + later[0]]) if len(later) else int(open_ones[0])
