"""The dots of one image while a person edits them: acts, undo and redo, each in the journal first.

After a restart the journal is played again, so that dots, undo history and threshold come back.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cellcount_jax.annotation import picking
from cellcount_jax.annotation.journal import Journal, JournalError
from cellcount_jax.annotation.records import Act, DotTable, Rows, State, make_rows
from cellcount_jax.io.annotations.dots import Dots

FORMAT = 1

MAX_PAUSE = 60.0
"""Seconds between two acts that still count as work."""

DEFAULT_CLASSES = ("cell", "class 2", "class 3", "class 4", "class 5", "class 6")


class Session:
    """One image's dots and their history."""

    def __init__(
        self,
        path: Path,
        shape: Sequence[int],
        *,
        who: str = "",
        spacing: Sequence[float] | None = None,
        classes: Sequence[str] = DEFAULT_CLASSES,
    ) -> None:
        """Opens the journal and plays what it holds.

        Args:
          path: Path of the journal; created if missing.
          shape: (H, W) or (D, H, W) of the image.
          who: Name of the person.
          spacing: Size of a pixel per axis in any unit, for distances in a volume.
          classes: Names of the classes, if the journal is new.

        Raises:
          JournalError: It is damaged, cannot be opened or belongs to an image of another shape.
        """
        self.shape, self.spacing, self.who = tuple(map(int, shape)), spacing, who
        self.journal = Journal(path)
        self.table = DotTable(len(self.shape))
        self.classes = list(classes)
        self.threshold = -math.inf
        self.checked = 0
        self.done: list[Act] = []
        self.undone: list[Act] = []
        held = list(self.journal.entries)
        if held and tuple(held[0].get("shape", ())) != self.shape:
            self.journal.close()
            raise JournalError(
                f"{path}: belongs to an image of shape {held[0].get('shape')}, and this one is "
                f"{list(self.shape)}; move the journal away"
            )
        for entry in held:
            self._play(entry)
        facts = {"who": who, "shape": self.shape, "format": FORMAT, "classes": self.classes}
        self.journal.append("open", facts)

    def _play(self, entry: dict[str, Any]) -> None:
        op = entry["op"]
        if op == "open":
            self.classes = list(entry["classes"])
        elif op == "classes":
            self.classes = list(entry["names"])
        elif op == "threshold":
            self.threshold = -math.inf if entry["value"] is None else entry["value"]
        elif op == "checked":
            self.checked = entry["slices"]
        elif op == "undo":
            self._undo()
        elif op == "redo":
            self._redo()
        elif op == "act":
            ndim, ids = len(self.shape), np.asarray(entry["ids"], np.int64)
            after = Rows.from_json(entry["after"], ndim)
            self._apply(Act(entry["kind"], ids, self._before(ids), after))

    def _before(self, ids: np.ndarray) -> Rows:
        """Rows as they are; those of new dots are removed ones."""
        new = ids >= self.table.n
        if not new.any():
            return self.table.get(ids)
        known = self.table.get(ids[~new])
        blank = make_rows(np.zeros((int(new.sum()), len(self.shape))), states=State.REMOVED)
        order = np.argsort(np.concatenate([np.flatnonzero(~new), np.flatnonzero(new)]))
        both = (np.concatenate([getattr(known, f), getattr(blank, f)])[order] for f in _COLUMNS)
        return Rows(*both)

    def _apply(self, act: Act) -> None:
        self.table.put(act.ids, act.after)
        if act.kind != "import":  # what was there before the session is not its act
            self.done.append(act)
            self.undone.clear()

    def _act(self, kind: str, ids: ArrayLike, after: Rows) -> Act:
        """Into the journal, then into the table."""
        numbers = np.asarray(ids, np.int64)
        content = {"kind": kind, "ids": numbers.tolist(), "after": after.to_json()}
        self.journal.append("act", content)
        act = Act(kind, numbers, self._before(numbers), after)
        self._apply(act)
        return act

    def _new_ids(self, n: int) -> np.ndarray:
        return np.arange(self.table.n, self.table.n + n)

    def add(self, point: ArrayLike, *, class_index: int = 0) -> int:
        """Adds a dot and returns its number.

        Raises:
          ValueError: It lies outside the image.
        """
        at = self._inside(point)
        rows = make_rows(at, classes=class_index)
        return int(self._act("add", self._new_ids(1), rows).ids[0])

    def remove(self, ids: ArrayLike) -> None:
        """Removes dots."""
        self._change("remove", ids, states=State.REMOVED)

    def move(self, dot: int, point: ArrayLike) -> None:
        """Moves a dot; a proposal is accepted by that.

        Raises:
          ValueError: Outside the image.
        """
        old = self.table.get([dot])
        state = State.ACCEPTED if old.states[0] == State.PROPOSED else old.states[0]
        at = make_rows(self._inside(point)).points
        self._act("move", [dot], old.replace(points=at, states=state))

    def set_class(self, ids: ArrayLike, class_index: int) -> None:
        """Sets the class of dots."""
        self._change("class", ids, classes=class_index)

    def accept(self, ids: ArrayLike) -> None:
        """Proposals that are cells."""
        self._change("accept", ids, states=State.ACCEPTED)

    def reject(self, ids: ArrayLike) -> None:
        """Dots that are no cells; they are kept as hard negatives."""
        self._change("reject", ids, states=State.REJECTED)

    def reject_at(self, point: ArrayLike) -> int:
        """Marks a place without a dot as no cell and returns its number."""
        rows = make_rows(self._inside(point), states=State.REJECTED)
        return int(self._act("reject", self._new_ids(1), rows).ids[0])

    def propose(self, points: ArrayLike, scores: ArrayLike | None = None) -> int:
        """Replaces the proposals that nobody has judged; judged dots stay.

        Proposals within a pixel and a half of a dot that a person added, accepted or rejected are
        left out.

        Returns:
          Number of new proposals.
        """
        at = np.asarray(points, np.float64).reshape(-1, len(self.shape))
        given = np.full(len(at), np.nan) if scores is None else np.asarray(scores, np.float64)
        rows = self.table.rows
        judged = rows.points[(rows.states != State.PROPOSED) & (rows.states != State.REMOVED)]
        free = picking.far_from(at, judged, radius=1.5)
        old = np.flatnonzero(rows.states == State.PROPOSED)
        new = make_rows(at[free], scores=given[free], states=State.PROPOSED)
        gone = self.table.get(old).replace(states=State.REMOVED)
        after = Rows(*(np.concatenate([getattr(gone, f), getattr(new, f)]) for f in _COLUMNS))
        self._act("propose", np.concatenate([old, self._new_ids(len(new))]), after)
        return len(new)

    def import_dots(self, dots: Dots) -> None:
        """Takes over saved dots; those with scores are proposals. This is not undone."""
        names = list(dict.fromkeys(name for name in dots.label_list if name))
        missing = [name for name in names if name not in self.classes]
        if missing:
            kept = [c for c in self.classes if c not in DEFAULT_CLASSES[1:]] or self.classes[:1]
            used = names if all(dots.label_list) else [*kept, *missing]
            self.name_classes([*used, *DEFAULT_CLASSES[len(used) :]])
        classes = [self.classes.index(name) if name else 0 for name in dots.label_list]
        state = State.ACCEPTED if dots.scores is None else State.PROPOSED
        rows = make_rows(dots.points, scores=dots.scores, classes=classes, states=state)
        self._act("import", self._new_ids(len(rows)), rows)

    def name_classes(self, names: Sequence[str]) -> None:
        """Names of the classes, in the order of their keys."""
        self.journal.append("classes", {"names": list(names)})
        self.classes = list(names)

    def set_threshold(self, value: float) -> None:
        """Proposals with a lower score are not counted; -inf counts all."""
        finite = None if math.isinf(value) else float(value)
        self.journal.append("threshold", {"value": finite})
        self.threshold = float(value)

    def set_checked(self, slices: int) -> None:
        """Number of slices, from the first, that have been checked."""
        self.journal.append("checked", {"slices": int(slices)})
        self.checked = int(slices)

    def undo(self) -> Act | None:
        """Takes the last act back and returns it; None if there is none."""
        if not self.done:
            return None
        self.journal.append("undo")
        return self._undo()

    def _undo(self) -> Act:
        act = self.done.pop()
        self.table.put(act.ids, act.before)
        self.undone.append(act)
        return act

    def redo(self) -> Act | None:
        """Does again what was undone last; None if there is nothing."""
        if not self.undone:
            return None
        self.journal.append("redo")
        return self._redo()

    def _redo(self) -> Act:
        act = self.undone.pop()
        self.table.put(act.ids, act.after)
        self.done.append(act)
        return act

    def is_counted(self, ids: ArrayLike | None = None) -> np.ndarray:
        """[n] whether each dot is a cell: added, accepted, or proposed with a score high enough.

        Args:
          ids: Numbers of the dots; all of them if not given.
        """
        rows = self.table.rows if ids is None else self.table.get(np.asarray(ids, np.int64))
        sure = (rows.states == State.ADDED) | (rows.states == State.ACCEPTED)
        above = ~(rows.scores < self.threshold)  # a proposal without a score is counted
        return sure | ((rows.states == State.PROPOSED) & above)

    def dots(self) -> Dots:
        """The counted dots with scores and classes, as far as any dot has them."""
        rows = self.table.get(np.flatnonzero(self.is_counted()))
        scores = None
        if not np.isnan(rows.scores).all():
            sure = np.float32(np.nanmax(rows.scores))  # a person's dot is as certain as the surest
            scores = np.where(np.isnan(rows.scores), sure, rows.scores)
        named = rows.classes.any() or self.classes[0] != DEFAULT_CLASSES[0]
        labels = [self.classes[c] for c in rows.classes.tolist()] if named else None
        return Dots(rows.points, scores, labels)

    def hard_negatives(self) -> np.ndarray:
        """[K, ndim] places that were marked as no cell."""
        rows = self.table.rows
        return rows.points[rows.states == State.REJECTED].copy()

    def seconds(self) -> float:
        """Time spent on the image, without pauses of more than a minute."""
        times = np.array([entry["time"] for entry in self.journal.entries])
        gaps = np.diff(times)
        return float(gaps[(gaps > 0) & (gaps <= MAX_PAUSE)].sum())

    def close(self) -> None:
        """Notes the time and closes the journal."""
        self.journal.append("close")
        self.journal.close()

    def _change(self, kind: str, ids: ArrayLike, **columns: Any) -> None:
        numbers = np.atleast_1d(np.asarray(ids, np.int64))
        if len(numbers):
            self._act(kind, numbers, self.table.get(numbers).replace(**columns))

    def _inside(self, point: ArrayLike) -> np.ndarray:
        at = np.asarray(point, np.float64).reshape(1, len(self.shape))
        if not ((at >= -0.5) & (at <= np.array(self.shape) - 0.5)).all():
            raise ValueError(f"{at[0].round(1).tolist()} lies outside the image")
        return at


_COLUMNS = ("points", "scores", "classes", "states")
