"""Points of a map that is never held whole: the same as `detect.find_points` of the whole map.

Tiles cover the map without overlap, band after band along the first axis. Away from the
borders between tiles each tile is decided alone; at them, the values that could matter are kept
until the band is complete. So memory grows with the number of points, not with the size of the map.
"""

from collections.abc import Sequence

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from cellcount_jax.data.resize import Box
from cellcount_jax.inference.detect import (
    Pieces,
    check_finite,
    find_peaks,
    label_components,
    neighbour_steps,
)
from cellcount_jax.methods.base import Readout

Pair = tuple[np.ndarray, np.ndarray]
"""Raster indices [N] int64 in the whole map, and a value [N] for each."""


def tiled_detector(readout: Readout, shape: Sequence[int]) -> "TiledDetector":
    """The decoder of a readout for a points map of the given shape."""
    if readout.decoder == "components":
        return _Components(shape, readout.threshold)
    return _Peaks(shape, readout.threshold, readout.single_cell_peak)


class TiledDetector:
    """Takes a map of the given shape tile by tile and gives its points."""

    def __init__(self, shape: Sequence[int]):
        self._shape = tuple(shape)
        self._plane = int(np.prod(self._shape[1:]))
        self._band = 0
        self._steps = neighbour_steps(len(self._shape))

    def add(self, box: Box, values: np.ndarray) -> None:
        """Takes the values [*box] of a tile that overlaps no other.

        Boxes come in the order of their first axis: a box that begins further on than the ones
        before it means that the map is complete up to there.

        Raises:
          ValueError: They hold NaN or infinity, or lie before what is complete.
        """
        if box[0].start < self._band:
            raise ValueError(f"a tile at {box[0].start} comes after the band at {self._band}")
        if box[0].start > self._band:
            self._band = box[0].start
            self._decide(self._band - 1)
        check_finite(values)
        self._take(box, values)

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Points [N, ndim] float32 in map pixels, in raster order, and scores [N] float32."""
        self._decide(self._shape[0])
        return self._points()

    def _take(self, box: Box, values: np.ndarray) -> None:
        """Decides the inner part of a tile and keeps what may depend on its neighbours."""
        raise NotImplementedError

    def _decide(self, stop: int) -> None:
        """Decides what lies before `stop` along the first axis, whose neighbours are all known."""
        raise NotImplementedError

    def _points(self) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError

    def _rim(self, box: Box) -> np.ndarray:
        """Mask [*box] of the pixels with a neighbour in another tile."""
        rim = np.zeros([b.stop - b.start for b in box], bool)
        for axis, (b, n) in enumerate(zip(box, self._shape, strict=True)):
            lines = np.moveaxis(rim, axis, 0)
            if b.start > 0:
                lines[0] = True
            if b.stop < n:
                lines[-1] = True
        return rim

    def _neighbours(self, places: np.ndarray, others: np.ndarray, step: np.ndarray) -> Pair:
        """Indices into `places` and `others` of the pixels that are one step apart.

        Args:
          places: Raster indices [N].
          others: Sorted raster indices [M].
          step: Offset [ndim] from a place to its neighbour.
        """
        at = np.stack(np.unravel_index(places, self._shape), axis=-1) + step
        inside = np.flatnonzero(((at >= 0) & (at < self._shape)).all(axis=1))
        wanted = np.ravel_multi_index(tuple(at[inside].T), self._shape)
        found = np.searchsorted(others, wanted)
        hit = found < len(others)
        hit[hit] = others[found[hit]] == wanted[hit]
        return inside[hit], found[hit]


class _Peaks(TiledDetector):
    """Local maxima; one at a tile's border waits for its neighbours in other tiles."""

    def __init__(self, shape: Sequence[int], threshold: float, single_cell_peak: float | None):
        super().__init__(shape)
        self._threshold, self._single_cell_peak = threshold, single_cell_peak
        self._top = 0.0
        self._decided: list[Pair] = []
        self._inner: list[Pair] = []
        self._waiting: list[Pair] = []
        self._border: list[Pair] = []

    def _level(self) -> float:
        peak = self._top if self._single_cell_peak is None else self._single_cell_peak
        return self._threshold * peak

    def _take(self, box: Box, values: np.ndarray) -> None:
        values = np.asarray(values, np.float32)
        # The level only rises, so what is below it now never becomes a point.
        self._top = max(self._top, float(values.max(initial=0.0)))
        level = max(self._level(), float(np.finfo(np.float32).tiny))
        found, scores = find_peaks(values, level)
        rim, at = self._rim(box), found.astype(np.int64)
        on_rim, places = rim[tuple(at.T)], self._places(at, box)
        self._inner.append((places[~on_rim], scores[~on_rim]))
        self._waiting.append((places[on_rim], scores[on_rim]))
        near = np.stack(np.nonzero(rim & (values >= level)), axis=-1)
        self._border.append((self._places(near, box), values[tuple(near.T)]))

    def _places(self, at: np.ndarray, box: Box) -> np.ndarray:
        """Raster indices in the whole map of the pixels [N, ndim] of a box."""
        return np.ravel_multi_index(tuple((at + [b.start for b in box]).T), self._shape)

    def _decide(self, stop: int) -> None:
        waiting, scores = _joined(self._waiting)
        border, values = _joined(self._border)
        now, later = waiting // self._plane < stop, border // self._plane >= stop - 1
        self._waiting = [(waiting[~now], scores[~now])]
        self._border = [(border[later], values[later])]
        waiting, scores = waiting[now], scores[now]
        order = np.argsort(border)
        border, values = border[order], values[order]
        highest = np.ones(len(waiting), bool)
        for step in self._steps:
            mine, theirs = self._neighbours(waiting, border, step)
            highest[mine[values[theirs] > scores[mine]]] = False
        places, scores = _joined([*self._inner, (waiting[highest], scores[highest])])
        keep = scores >= self._level()
        self._decided.append((places[keep], scores[keep]))
        self._inner = []

    def _points(self) -> tuple[np.ndarray, np.ndarray]:
        places, scores = _joined(self._decided)
        keep = np.flatnonzero(scores >= self._level())
        order = keep[np.argsort(places[keep])]
        points = np.stack(np.unravel_index(places[order], self._shape), axis=-1)
        return points.astype(np.float32), scores[order]


class _Components(TiledDetector):
    """Centroids of connected components; pieces that touch across borders become one."""

    def __init__(self, shape: Sequence[int], threshold: float):
        super().__init__(shape)
        self._threshold = threshold
        self._closed: list[Pieces] = []
        self._open: list[Pieces] = []
        self._n_open = 0
        self._border: list[Pair] = []

    def _take(self, box: Box, values: np.ndarray) -> None:
        pieces, places, piece = label_components(
            values, self._threshold, corner=[b.start for b in box], shape=self._shape
        )
        self._open.append(pieces)
        on_rim = self._rim(box)[values > self._threshold]
        self._border.append((places[on_rim], piece[on_rim] + self._n_open))
        self._n_open += len(pieces.size)

    def _decide(self, stop: int) -> None:
        """Joins pieces that touch; those that end before `stop` are complete."""
        border, piece = _joined(self._border)
        order = np.argsort(border)
        border, piece = border[order], piece[order]
        n, into = connected_components(self._touching(border, piece), directed=False)
        pieces = Pieces.concatenate(self._open).merge(into, n)
        edge = border // self._plane >= stop
        border, piece = border[edge], into[piece[edge]]
        is_open = np.zeros(n, bool)
        is_open[piece] = True
        self._closed.append(pieces.select(~is_open))
        self._open, self._n_open = [pieces.select(is_open)], int(is_open.sum())
        self._border = [(border, (np.cumsum(is_open) - 1)[piece])]

    def _touching(self, border: np.ndarray, piece: np.ndarray) -> sparse.coo_array:
        """Adjacency matrix [n, n] of the pieces that hold neighbouring pixels."""
        # Half of the steps suffice: the others give the same pairs.
        pairs = [
            self._neighbours(border, border, step) for step in self._steps[len(self._steps) // 2 :]
        ]
        one, other = (piece[np.concatenate(side)] for side in zip(*pairs, strict=True))
        shape = (self._n_open, self._n_open)
        return sparse.coo_array((np.ones(len(one), bool), (one, other)), shape=shape)

    def _points(self) -> tuple[np.ndarray, np.ndarray]:
        pieces = Pieces.concatenate(self._closed)
        order = np.argsort(pieces.first)
        return pieces.centroids()[order], pieces.top[order].astype(np.float32)


def _joined(pairs: Sequence[Pair]) -> Pair:
    places, values = zip(*pairs, strict=True)
    return np.concatenate(places), np.concatenate(values)
