"""Points of a map that is only ever seen in parts: what `points.find_points` finds in the whole.

The parts are boxes that cover the map once, band after band along the first axis. Away from the
borders between parts a part decides alone; at them, the values that could matter are kept until
the band is complete. So what is held grows by the points that are found, not with the map.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components

from cellcount_jax.inference.detect import find_points
from cellcount_jax.methods.base import Readout

Box = tuple[slice, ...]


class PointsByParts(Protocol):
    """Takes a map part by part and gives its points."""

    def add(self, box: Box, values: np.ndarray) -> None:
        """Values [*box] of a part that no other part holds.

        Boxes come in the order of their first axis: when one begins further on than those before,
        they hold all of the map up to there.

        Raises:
          ValueError: they hold NaN or infinity, or lie before what is complete.
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


class _Bands:
    """Tells when a band of parts is complete."""

    def __init__(self, shape: Sequence[int]):
        self._shape = tuple(shape)
        self._plane = int(np.prod(self._shape[1:]))
        self._begin = 0

    def _next(self, box: Box) -> int | None:
        """First line of a band that the box begins, if all before it is complete; else None."""
        if box[0].start < self._begin:
            raise ValueError(f"a part at {box[0].start} comes after the band at {self._begin}")
        if box[0].start == self._begin:
            return None
        self._begin = box[0].start
        return self._begin

    def _line(self, places: np.ndarray) -> np.ndarray:
        """Coordinates along the first axis of raster indices."""
        return places // self._plane


class _Peaks(_Bands):
    """Local maxima; one at a part's border waits for the neighbours in other parts."""

    def __init__(self, shape: Sequence[int], threshold: float, reference: float | None):
        super().__init__(shape)
        self._threshold, self._reference = threshold, reference
        self._top = 0.0
        self._decided: list[tuple[np.ndarray, np.ndarray]] = []
        self._inner: list[tuple[np.ndarray, np.ndarray]] = []
        self._border: list[tuple[np.ndarray, np.ndarray]] = []
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []

    def _level(self) -> float:
        return self._threshold * (self._top if self._reference is None else self._reference)

    def add(self, box: Box, values: np.ndarray) -> None:
        if (begin := self._next(box)) is not None:
            self._decide(begin - 1)
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
        for step in _steps(len(self._shape)):
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
        points = np.concatenate([p for p, _ in self._decided])
        scores = np.concatenate([s for _, s in self._decided])
        keep = scores >= self._level()
        return points[keep], scores[keep]


class _Pieces(NamedTuple):
    """Pieces of components: size, sum of coordinates, greatest value, first pixel; [n] each."""

    size: np.ndarray
    sums: np.ndarray
    top: np.ndarray
    first: np.ndarray

    def merged(self, into: np.ndarray, n: int) -> "_Pieces":
        """`n` pieces, of those that go into each."""
        top, first = np.full(n, -np.inf), np.full(n, np.iinfo(np.int64).max)
        np.maximum.at(top, into, self.top)
        np.minimum.at(first, into, self.first)
        sums = [np.bincount(into, weights=axis, minlength=n) for axis in self.sums.T]
        size = np.bincount(into, weights=self.size, minlength=n)
        return _Pieces(size, np.stack(sums, axis=-1), top, first)

    def only(self, rows: np.ndarray) -> "_Pieces":
        """Those of a mask."""
        return _Pieces(*(column[rows] for column in self))


class _Components(_Bands):
    """Centroids of connected components; pieces that touch across borders become one."""

    def __init__(self, shape: Sequence[int], threshold: float):
        super().__init__(shape)
        self._threshold = threshold
        self._pieces = [_no_pieces(len(self._shape))]
        self._n = 0
        self._border: list[tuple[np.ndarray, np.ndarray]] = []
        # Centroid, greatest value and first pixel of those that are whole.
        self._whole: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, box: Box, values: np.ndarray) -> None:
        if (begin := self._next(box)) is not None:
            self._join(begin - 1)
        if not np.isfinite(values).all():
            raise ValueError("the map holds NaN or infinity, so no points can be read from it")
        labels, n = ndimage.label(values > self._threshold, np.ones((3,) * values.ndim, bool))
        where = np.nonzero(labels)
        which = labels[where] - 1
        at = np.stack(where, axis=-1) + np.array([b.start for b in box])
        places = np.ravel_multi_index(tuple(at.T), self._shape)
        pixels = _Pieces(np.ones(len(which)), at, values[where], places)
        self._pieces.append(pixels.merged(which, n))
        on_rim = _rim(box, self._shape)[where]
        self._border.append((places[on_rim], which[on_rim] + self._n))
        self._n += n

    def _join(self, last: int) -> None:
        """Joins pieces that touch; those that do not reach the line `last` are whole."""
        border, piece = _joined(self._border)
        order = np.argsort(border)
        border, piece = border[order], piece[order].astype(np.int64)
        n, into = connected_components(self._touching(border, piece), directed=False)
        columns = zip(*self._pieces, strict=True)
        pieces = _Pieces(*(np.concatenate(column) for column in columns)).merged(into, n)
        edge = self._line(border) >= last
        border, piece = border[edge], into[piece[edge]]
        is_open = np.zeros(n, bool)
        is_open[piece] = True
        whole = pieces.only(~is_open)
        centres = (whole.sums / whole.size[:, None]).astype(np.float32)
        self._whole.append((centres, whole.top.astype(np.float32), whole.first))
        number = np.cumsum(is_open) - 1
        self._pieces, self._n = [pieces.only(is_open)], int(is_open.sum())
        self._border = [(border, number[piece])]

    def _touching(self, border: np.ndarray, piece: np.ndarray) -> sparse.coo_array:
        """Which pieces [n, n] hold neighbouring pixels."""
        pairs = [
            _neighbours(border, border, step, self._shape)
            for step in _steps(len(self._shape))
            if tuple(step) > (0,) * len(step)  # the other half are the same pairs
        ]
        one = piece[np.concatenate([mine for mine, _ in pairs])]
        other = piece[np.concatenate([theirs for _, theirs in pairs])]
        return sparse.coo_array((np.ones(len(one), bool), (one, other)), shape=(self._n, self._n))

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        self._join(self._shape[0])
        centres, top, first = (np.concatenate(column) for column in zip(*self._whole, strict=True))
        order = np.argsort(first)
        return centres[order], top[order]


def _no_pieces(ndim: int) -> _Pieces:
    return _Pieces(np.zeros(0), np.zeros((0, ndim)), np.zeros(0), np.zeros(0, np.int64))


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
