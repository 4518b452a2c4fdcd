"""Points of a map that is only ever seen in parts: what `points.find_points` finds in the whole.

The parts are boxes that cover the map once, in any order. Away from the borders between parts a
part decides alone; at them, only the values that could matter are kept until all parts were seen.
"""

import itertools
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components

from cellcount_jax.counting.points import find_points
from cellcount_jax.methods.stage import Readout

Box = tuple[slice, ...]


class PointsByParts(Protocol):
    """Takes a map part by part and gives its points."""

    def add(self, box: Box, values: np.ndarray) -> None:
        """Values [*box] of a part that no other part holds.

        Raises:
          ValueError: they hold NaN or infinity.
        """
        ...

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Points [N, ndim] float32 in map pixels, in raster order, and scores [N] float32."""
        ...


def start(readout: Readout, shape: Sequence[int]) -> PointsByParts:
    """A decoder for the points map of a readout, whose shape is `shape`."""
    if readout.decoder == "components":
        return _Components(shape, readout.threshold)
    return _Peaks(shape, readout.threshold, readout.reference)


class _Peaks:
    """Local maxima; one at a part's border waits for the neighbours in other parts."""

    def __init__(self, shape: Sequence[int], threshold: float, reference: float | None):
        self._shape = tuple(shape)
        self._threshold, self._reference = threshold, reference
        self._top = 0.0
        self._inner: list[tuple[np.ndarray, np.ndarray]] = []
        self._border: list[tuple[np.ndarray, np.ndarray]] = []
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []

    def _level(self) -> float:
        return self._threshold * (self._top if self._reference is None else self._reference)

    def add(self, box: Box, values: np.ndarray) -> None:
        values = np.asarray(values, np.float32)
        # The level only rises, so what is below it now never becomes a point.
        self._top = max(self._top, float(values.max(initial=0.0)))
        level = max(self._level(), float(np.finfo(np.float32).tiny))
        found, scores = find_points(values, decoder="peaks", threshold=1.0, reference=level)
        rim = _rim(box, self._shape)
        at = found.astype(np.int64)
        on_rim = rim[tuple(at.T)]
        places = _flat(at, box, self._shape)
        self._inner.append((places[~on_rim], scores[~on_rim]))
        self._waiting.append((places[on_rim], scores[on_rim]))
        near = np.stack(np.nonzero(rim & (values >= level)), axis=-1)
        self._border.append((_flat(near, box, self._shape), values[tuple(near.T)]))

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        waiting, scores = _joined(self._waiting)
        border, values = _joined(self._border)
        order = np.argsort(border)
        border, values = border[order], values[order]
        highest = np.ones(len(waiting), bool)
        for step in _steps(len(self._shape)):
            mine, theirs = _neighbours(waiting, border, step, self._shape)
            highest[mine[values[theirs] > scores[mine]]] = False
        places, all_scores = _joined([*self._inner, (waiting[highest], scores[highest])])
        keep = all_scores >= self._level()
        places, all_scores = places[keep], all_scores[keep]
        order = np.argsort(places)
        points = np.stack(np.unravel_index(places[order], self._shape), axis=-1)
        return points.astype(np.float32), all_scores[order]


class _Components:
    """Centroids of connected components; pieces that touch across borders become one."""

    def __init__(self, shape: Sequence[int], threshold: float):
        self._shape, self._threshold = tuple(shape), threshold
        self._n = 0
        # Per piece: size, sum of coordinates, greatest value, first pixel.
        self._pieces: list[tuple[np.ndarray, ...]] = []
        self._border: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, box: Box, values: np.ndarray) -> None:
        if not np.isfinite(values).all():
            raise ValueError("the map holds NaN or infinity, so no points can be read from it")
        above = values > self._threshold
        labels, n = ndimage.label(above, np.ones((3,) * values.ndim, bool))
        where = np.nonzero(labels)
        which = labels[where] - 1
        at = np.stack(where, axis=-1) + np.array([b.start for b in box])
        places = np.ravel_multi_index(tuple(at.T), self._shape)
        top, first = np.full(n, -np.inf), np.full(n, np.iinfo(np.int64).max)
        np.maximum.at(top, which, values[where])
        np.minimum.at(first, which, places)
        sums = [np.bincount(which, weights=axis, minlength=n) for axis in at.T]
        size = np.bincount(which, minlength=n)
        self._pieces.append((size, np.stack(sums, axis=-1), top, first))
        on_rim = _rim(box, self._shape)[where]
        self._border.append((places[on_rim], which[on_rim] + self._n))
        self._n += n

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        if not self._n:
            return np.zeros((0, len(self._shape)), np.float32), np.zeros(0, np.float32)
        size, sums, top, first = (
            np.concatenate(column) for column in zip(*self._pieces, strict=True)
        )
        n, whole = connected_components(self._touching(), directed=False)
        total = np.bincount(whole, weights=size, minlength=n)
        centres = [np.bincount(whole, weights=s, minlength=n) / total for s in sums.T]
        scores, begin = np.full(n, -np.inf), np.full(n, np.iinfo(np.int64).max)
        np.maximum.at(scores, whole, top)
        np.minimum.at(begin, whole, first)
        order = np.argsort(begin)
        points = np.stack(centres, axis=-1)[order]
        return points.astype(np.float32), scores[order].astype(np.float32)

    def _touching(self) -> sparse.coo_array:
        """Which pieces [n, n] hold neighbouring pixels."""
        border, piece = _joined(self._border)
        order = np.argsort(border)
        border, piece = border[order], piece[order]
        pairs = [
            _neighbours(border, border, step, self._shape) for step in _steps(len(self._shape))
        ]
        one = piece[np.concatenate([mine for mine, _ in pairs])]
        other = piece[np.concatenate([theirs for _, theirs in pairs])]
        return sparse.coo_array((np.ones(len(one), bool), (one, other)), shape=(self._n, self._n))


def _rim(box: Box, shape: Sequence[int]) -> np.ndarray:
    """Mask [*box] of the pixels that have a neighbour in another part."""
    rim = np.zeros([b.stop - b.start for b in box], bool)
    for axis, (b, n) in enumerate(zip(box, shape, strict=True)):
        lines = np.moveaxis(rim, axis, 0)
        if b.start > 0:
            lines[0] = True
        if b.stop < n:
            lines[-1] = True
    return rim


def _flat(at: np.ndarray, box: Box, shape: tuple[int, ...]) -> np.ndarray:
    """Raster index in the whole map of pixels [N, ndim] of a box."""
    return np.ravel_multi_index(tuple((at + np.array([b.start for b in box])).T), shape)


def _steps(ndim: int) -> list[np.ndarray]:
    """To all neighbours of a pixel."""
    return [np.array(s) for s in itertools.product((-1, 0, 1), repeat=ndim) if any(s)]


def _neighbours(
    places: np.ndarray, others: np.ndarray, step: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Indices into `places` and `others` of the pixels that are one step apart.

    Args:
      places: [N] raster indices.
      others: [M] raster indices, sorted.
      step: [ndim] from a place to the other.
      shape: of the map.
    """
    at = np.stack(np.unravel_index(places, shape), axis=-1) + step
    inside = np.flatnonzero(((at >= 0) & (at < shape)).all(axis=1))
    wanted = np.ravel_multi_index(tuple(at[inside].T), shape)
    found = np.searchsorted(others, wanted)
    hit = found < len(others)
    hit[hit] = others[found[hit]] == wanted[hit]
    return inside[hit], found[hit]


def _joined(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    return np.concatenate([p for p, _ in parts]), np.concatenate([v for _, v in parts])
