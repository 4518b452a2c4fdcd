"""Points of a map that is never held whole: the same as `detect.find_points` of the whole map.

Tiles are boxes that cover the map once, band after band along the first axis. Away from the
borders between tiles each tile is decided alone; at them, the values that could matter are kept
until the band is complete. So what is held grows with the number of points, not with the map.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from cellcount_jax.data.windows import Box
from cellcount_jax.inference.detect import (
    Pieces,
    check_finite,
    find_points,
    label_components,
    neighbour_steps,
)
from cellcount_jax.methods.base import Readout

Pair = tuple[np.ndarray, np.ndarray]
"""Raster indices [N] int64 in the whole map and a value [N] of each."""


class TiledDetector(Protocol):
    """Takes a map tile by tile and gives its points."""

    def add(self, box: Box, values: np.ndarray) -> None:
        """Values [*box] of a tile that overlaps no other.

        Boxes come in the order of their first axis: when one begins further on than those before,
        the map is complete up to there.

        Raises:
          ValueError: they hold NaN or infinity, or lie before what is complete.
        """
        ...

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Points [N, ndim] float32 in map pixels, in raster order, and scores [N] float32."""
        ...


def tiled_detector(readout: Readout, shape: Sequence[int]) -> TiledDetector:
    """The decoder of a readout for a points map of the given shape."""
    if readout.decoder == "components":
        return _Components(shape, readout.threshold)
    return _Peaks(shape, readout.threshold, readout.single_cell_peak)


class _Bands:
    """Tells when a band of tiles is complete."""

    def __init__(self, shape: Sequence[int]):
        self._shape = tuple(shape)
        self._plane = int(np.prod(self._shape[1:]))
        self._begin = 0

    def _next_band(self, box: Box) -> int | None:
        """First line of the band that the box begins, if all before it is complete; else None."""
        if box[0].start < self._begin:
            raise ValueError(f"a tile at {box[0].start} comes after the band at {self._begin}")
        if box[0].start == self._begin:
            return None
        self._begin = box[0].start
        return self._begin

    def _line(self, places: np.ndarray) -> np.ndarray:
        """Coordinates along the first axis of raster indices."""
        return places // self._plane


class _Peaks(_Bands):
    """Local maxima; one at a tile's border waits for its neighbours in other tiles."""

    def __init__(self, shape: Sequence[int], threshold: float, single_cell_peak: float | None):
        super().__init__(shape)
        self._threshold, self._single_cell_peak = threshold, single_cell_peak
        self._top = 0.0
        self._decided: list[tuple[np.ndarray, np.ndarray]] = []  # points and scores
        self._inner: list[Pair] = []
        self._border: list[Pair] = []
        self._waiting: list[Pair] = []

    def _level(self) -> float:
        peak = self._top if self._single_cell_peak is None else self._single_cell_peak
        return self._threshold * peak

    def add(self, box: Box, values: np.ndarray) -> None:
        if (begin := self._next_band(box)) is not None:
            self._decide(begin - 1)
        values = np.asarray(values, np.float32)
        # The level only rises, so what is below it now never becomes a point.
        self._top = max(self._top, float(values.max(initial=0.0)))
        level = max(self._level(), float(np.finfo(np.float32).tiny))
        found, scores = find_points(values, decoder="peaks", threshold=1.0, single_cell_peak=level)
        rim = _rim(box, self._shape)
        at = found.astype(np.int64)
        on_rim = rim[tuple(at.T)]
        places = self._places(at, box)
        self._inner.append((places[~on_rim], scores[~on_rim]))
        self._waiting.append((places[on_rim], scores[on_rim]))
        near = np.stack(np.nonzero(rim & (values >= level)), axis=-1)
        self._border.append((self._places(near, box), values[tuple(near.T)]))

    def _places(self, at: np.ndarray, box: Box) -> np.ndarray:
        """Raster indices in the whole map of pixels [N, ndim] of a box."""
        return np.ravel_multi_index(tuple((at + [b.start for b in box]).T), self._shape)

    def _decide(self, stop: int) -> None:
        """Keeps or drops all that lies before a line whose neighbours are all known."""
        waiting, scores = _joined(self._waiting)
        border, values = _joined(self._border)
        now, later = self._line(waiting) < stop, self._line(border) >= stop - 1
        self._waiting = [(waiting[~now], scores[~now])]
        self._border = [(border[later], values[later])]
        waiting, scores = waiting[now], scores[now]
        order = np.argsort(border)
        border, values = border[order], values[order]
        highest = np.ones(len(waiting), bool)
        for step in neighbour_steps(len(self._shape)):
            mine, theirs = _neighbours(waiting, border, step, self._shape)
            highest[mine[values[theirs] > scores[mine]]] = False
        places, scores = _joined([*self._inner, (waiting[highest], scores[highest])])
        self._inner = []
        keep = np.flatnonzero(scores >= self._level())
        order = keep[np.argsort(places[keep])]
        points = np.stack(np.unravel_index(places[order], self._shape), axis=-1)
        self._decided.append((points.astype(np.float32), scores[order]))

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        self._decide(self._shape[0])
        points, scores = (np.concatenate(column) for column in zip(*self._decided, strict=True))
        keep = scores >= self._level()
        return points[keep], scores[keep]


class _Components(_Bands):
    """Centroids of connected components; pieces that touch across borders become one."""

    def __init__(self, shape: Sequence[int], threshold: float):
        super().__init__(shape)
        self._threshold = threshold
        no_top, no_first = np.zeros(0, np.float32), np.zeros(0, np.int64)
        self._open = [Pieces(np.zeros(0), np.zeros((len(shape), 0)), no_top, no_first)]
        self._n_open = 0
        self._border: list[Pair] = []
        self._closed: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # centroid, top, first

    def add(self, box: Box, values: np.ndarray) -> None:
        if (begin := self._next_band(box)) is not None:
            self._join(begin - 1)
        check_finite(values)
        pieces, places, piece = label_components(
            values, self._threshold, corner=[b.start for b in box], shape=self._shape
        )
        self._open.append(pieces)
        on_rim = _rim(box, self._shape)[values > self._threshold]
        self._border.append((places[on_rim], piece[on_rim] + self._n_open))
        self._n_open += len(pieces.size)

    def _join(self, last: int) -> None:
        """Joins pieces that touch; those that do not reach the line `last` are complete."""
        border, piece = _joined(self._border)
        order = np.argsort(border)
        border, piece = border[order], piece[order].astype(np.int64)
        n, into = connected_components(self._touching(border, piece), directed=False)
        columns = zip(*self._open, strict=True)
        pieces = Pieces(*(np.concatenate(c, axis=-1) for c in columns)).merge(into, n)
        edge = self._line(border) >= last
        border, piece = border[edge], into[piece[edge]]
        is_open = np.zeros(n, bool)
        is_open[piece] = True
        closed = pieces.select(~is_open)
        self._closed.append((closed.centroids(), closed.top.astype(np.float32), closed.first))
        number = np.cumsum(is_open) - 1
        self._open, self._n_open = [pieces.select(is_open)], int(is_open.sum())
        self._border = [(border, number[piece])]

    def _touching(self, border: np.ndarray, piece: np.ndarray) -> sparse.coo_array:
        """Which pieces [n, n] hold neighbouring pixels."""
        pairs = [
            _neighbours(border, border, step, self._shape)
            for step in neighbour_steps(len(self._shape))
            if tuple(step) > (0,) * len(step)  # the other half are the same pairs
        ]
        one, other = (piece[np.concatenate(side)] for side in zip(*pairs, strict=True))
        shape = (self._n_open, self._n_open)
        return sparse.coo_array((np.ones(len(one), bool), (one, other)), shape=shape)

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        self._join(self._shape[0])
        centroids, top, first = (
            np.concatenate(column) for column in zip(*self._closed, strict=True)
        )
        order = np.argsort(first)
        return centroids[order], top[order]


def _rim(box: Box, shape: Sequence[int]) -> np.ndarray:
    """Mask [*box] of the pixels that have a neighbour in another tile."""
    rim = np.zeros([b.stop - b.start for b in box], bool)
    for axis, (b, n) in enumerate(zip(box, shape, strict=True)):
        lines = np.moveaxis(rim, axis, 0)
        if b.start > 0:
            lines[0] = True
        if b.stop < n:
            lines[-1] = True
    return rim


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


def _joined(pairs: Sequence[Pair]) -> Pair:
    if not pairs:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    return np.concatenate([p for p, _ in pairs]), np.concatenate([v for _, v in pairs])
