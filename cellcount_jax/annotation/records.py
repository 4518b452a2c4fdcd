"""Records of dots under edit, and the table that holds those of one image.

A dot keeps its number for ever; removing it is a state, so that undo only writes rows back.
"""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

POINT_DECIMALS, SCORE_DECIMALS = 3, 7
"""Digits that are kept, so that the journal's text gives the same numbers back."""


class State(enum.IntEnum):
    """What is known about a dot."""

    REMOVED = 0
    PROPOSED = 1
    ACCEPTED = 2
    ADDED = 3
    REJECTED = 4  # marked as no cell: a hard negative


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Rows of dots.

    Attributes:
      points: [K, ndim] float32, (y, x) or (z, y, x) in pixels.
      scores: [K] float32, NaN where a dot has none.
      classes: [K] int16, index of the class.
      states: [K] uint8, see `State`.
    """

    points: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    states: np.ndarray

    def __len__(self) -> int:
        return len(self.points)

    def replace(self, **columns: Any) -> "Rows":
        """The same rows with columns of another value, one for all or one per row."""
        filled = {
            name: np.broadcast_to(
                np.asarray(value, getattr(self, name).dtype), getattr(self, name).shape
            )
            for name, value in columns.items()
        }
        return dataclasses.replace(self, **filled)

    def to_json(self) -> dict[str, Any]:
        """Lists of numbers; a missing score is None."""
        scores = self.scores.astype(np.float64).round(SCORE_DECIMALS).astype(object)
        scores[np.isnan(self.scores)] = None
        return {
            "points": self.points.astype(np.float64).round(POINT_DECIMALS).tolist(),
            "scores": scores.tolist(),
            "classes": self.classes.tolist(),
            "states": self.states.tolist(),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any], ndim: int) -> "Rows":
        """The inverse of `to_json`."""
        return make_rows(
            np.asarray(value["points"], np.float64).reshape(-1, ndim),
            scores=np.asarray(value["scores"], np.float64),
            classes=value["classes"],
            states=value["states"],
        )


def make_rows(
    points: ArrayLike,
    *,
    scores: ArrayLike | None = None,
    classes: ArrayLike = 0,
    states: ArrayLike = State.ADDED,
) -> Rows:
    """Rows of points [K, ndim]; other columns are one value for all or one per row."""
    at = np.asarray(points, np.float64).round(POINT_DECIMALS).astype(np.float32)
    known = np.nan if scores is None else np.asarray(scores, np.float64).round(SCORE_DECIMALS)
    n = (len(at),)
    return Rows(
        at,
        np.broadcast_to(np.asarray(known, np.float32), n),
        np.broadcast_to(np.asarray(classes, np.int16), n),
        np.broadcast_to(np.asarray(states, np.uint8), n),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Act:
    """One thing that a person did; undoing it writes `before` back.

    Attributes:
      kind: Add, remove, move, class, propose, accept, reject or import.
      ids: [K] numbers of the dots.
      before: Their rows before it; those of new dots have the state REMOVED.
      after: Their rows after it.
    """

    kind: str
    ids: np.ndarray
    before: Rows
    after: Rows


class DotTable:
    """The dots of one image, as columns that grow by doubling."""

    def __init__(self, ndim: int) -> None:
        self.ndim = ndim
        self.n = 0
        self._columns = make_rows(np.zeros((0, ndim)))

    @property
    def rows(self) -> Rows:
        """All dots, as views that later changes show through."""
        return Rows(*(getattr(self._columns, f.name)[: self.n] for f in dataclasses.fields(Rows)))

    def get(self, ids: Sequence[int] | np.ndarray) -> Rows:
        """Copies of the rows of some dots."""
        at = np.asarray(ids, np.int64)
        return Rows(*(getattr(self._columns, f.name)[at] for f in dataclasses.fields(Rows)))

    def put(self, ids: Sequence[int] | np.ndarray, rows: Rows) -> None:
        """Writes rows; numbers from `n` on are new dots."""
        at = np.asarray(ids, np.int64)
        needed = int(at.max()) + 1 if len(at) else 0
        if needed > len(self._columns):
            self._grow(max(needed, 2 * len(self._columns), 64))
        self.n = max(self.n, needed)
        for field in dataclasses.fields(Rows):
            getattr(self._columns, field.name)[at] = getattr(rows, field.name)

    def _grow(self, capacity: int) -> None:
        larger = {}
        for field in dataclasses.fields(Rows):
            old = getattr(self._columns, field.name)
            larger[field.name] = np.zeros((capacity, *old.shape[1:]), old.dtype)
            larger[field.name][: len(old)] = old
        self._columns = Rows(**larger)
