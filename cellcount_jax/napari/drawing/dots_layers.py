"""The layers that show the dots of a session: those in view as points, or all as an overview.

What a click costs must not grow with the number of dots. So the points layers hold only dots near
what is in view; where even those are too many, an overview shows them (see `overview`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.components import ViewerModel

from cellcount_jax.annotation.records import State
from cellcount_jax.annotation.session import Session
from cellcount_jax.napari.drawing import view
from cellcount_jax.napari.drawing.appearance import appearance, overview_colours
from cellcount_jax.napari.drawing.overview import Overview, square_side
from cellcount_jax.napari.drawing.point_rows import Drawn, PointRows

CELLS, NOT_CELLS, CURRENT = "cells", "not cells", "current"

MAX_POINTS = 5000
"""More dots in view are drawn as an overview."""

MARGIN = 0.25
"""Share of the view by which dots are drawn beyond it, so that small moves need no redrawing."""

MAX_ZOOM = 1.5
"""An overview is drawn again when the zoom has changed by this factor."""

MANY = 500
"""More changed dots than this are redrawn all at once."""

YELLOW, NOTHING = (1.0, 1.0, 0.0, 1.0), (0.0, 0.0, 0.0, 0.0)


class DotsLayers:
    """Layers of cells and proposals, of places marked as not a cell, and of the current dot."""

    def __init__(
        self,
        viewer: ViewerModel,
        session: Session,
        *,
        scale: Sequence[float],
        translate: Sequence[float],
        diameter: float,
        near: int,
    ) -> None:
        """Adds the layers.

        Args:
          viewer: The napari viewer.
          session: Session whose dots are shown.
          scale: World units per pixel and axis.
          translate: World position of the first pixel.
          diameter: Diameter of a dot in pixels.
          near: Slices to both sides of a volume whose dots are also drawn.
        """
        self.viewer, self.session = viewer, session
        self.diameter, self.near = diameter, near
        self.ndim = len(session.shape)
        self.is_visible, self.is_overview = True, False
        self.overview = Overview(viewer, scale=scale[-2:], translate=translate[-2:])

        def add(name: str, **look: Any) -> PointRows:
            place = {"scale": scale, "translate": translate}
            return PointRows(viewer, name, self.ndim, near_slices=self.ndim == 3, **place, **look)

        self._cells = add(CELLS, border_width=0.18)
        self._not_cells = add(NOT_CELLS, border_width=0.0, symbol="x")
        self._current = add(CURRENT, border_width=0.12)
        self.cells = self._cells.layer
        self._row_of: dict[int, int] = {}
        self._rejected = np.zeros(0, np.int64)
        self._places = np.zeros((0, 2), np.float32)
        self._box: view.Box | None = None
        self._zoom = 1.0
        self._events = view.camera(viewer).events
        for event in (self._events.zoom, self._events.center):
            event.connect(self._on_camera)
        self.show_all()

    @property
    def slice_index(self) -> float | None:
        """The slice of a volume that is looked at; None for an image, or in the 3-D display."""
        if self.ndim == 2 or self.viewer.dims.ndisplay == 3:
            return None
        return float(self.cells.world_to_data(self.viewer.dims.point)[-self.ndim])

    def show_all(self) -> None:
        """Draws everything again, for what is in view now."""
        seen = view.in_view(self.viewer, self.cells)
        drawable = self._drawable()
        in_view = self._inside(drawable, seen)
        many = seen is not None and int(np.count_nonzero(in_view)) > MAX_POINTS
        if many and not self.is_overview:
            self.viewer.status = "many dots: an overview; zoom in to see them one by one"
        self.is_overview = many
        self._box = None if seen is None else seen.widened(MARGIN)
        self._zoom = view.camera(self.viewer).zoom
        ids = np.flatnonzero(self._inside(drawable, self._box))
        if many:
            self._draw_overview(ids)
        else:
            is_rejected = self.session.table.get(ids).states == State.REJECTED
            self._fill(self._cells, ids[~is_rejected], self.diameter)
            self._row_of = {dot: row for row, dot in enumerate(ids[~is_rejected].tolist())}
            self._show_rejected(ids[is_rejected])
        self.overview.layer.visible = self.is_visible and many

    def show(self, ids: np.ndarray) -> None:
        """Draws these dots as they are now."""
        if len(ids) > MANY or (self.is_overview and len(ids) > 1):
            self.show_all()
            return
        if self.is_overview:
            self._patch_overview(ids)
            return
        near = self._inside(self._drawable(ids), self._box, ids)
        rejected = self.session.table.get(ids).states == State.REJECTED
        for dot in ids[near & ~rejected].tolist():
            self._row_of.setdefault(dot, len(self._row_of))
        drawn = np.array([dot in self._row_of for dot in ids.tolist()], bool)
        if drawn.any():
            rows = [self._row_of[dot] for dot in ids[drawn].tolist()]
            shown = (near & ~rejected)[drawn]
            self._cells.write(rows, self._drawn(ids[drawn], self.diameter, shown=shown))
        kept = np.setdiff1d(self._rejected, ids)
        self._show_rejected(np.union1d(kept, ids[near & rejected]))

    def show_moving(self, dot: int, point: np.ndarray) -> None:
        """Draws a dot elsewhere while it is dragged."""
        if dot in self._row_of and not self.is_overview:
            self._cells.move(self._row_of[dot], point)
        else:
            self._mark_at(point)

    def mark(self, dot: int | None) -> None:
        """Puts the yellow ring around a dot, or takes it away."""
        self._mark_at(None if dot is None else self.session.table.get([dot]).points[0])

    def set_visible(self, visible: bool) -> None:
        """Hides all dots, or shows them again."""
        self.is_visible = visible
        for rows in (self._cells, self._not_cells, self._current):
            rows.layer.visible = visible
        self.overview.layer.visible = visible and self.is_overview

    def remove(self) -> None:
        """Takes the layers out of the viewer."""
        for event in (self._events.zoom, self._events.center):
            event.disconnect(self._on_camera)
        every = [rows.layer for rows in (self._cells, self._not_cells, self._current)]
        for layer in (*every, self.overview.layer):
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)

    def _drawable(self, ids: np.ndarray | None = None) -> np.ndarray:
        """Whether dots are cells or marked as none, and lie on the slice or on a near one."""
        table, at = self.session.table, self.slice_index
        rows = table.rows if ids is None else table.get(ids)
        found = self.session.is_counted(ids) | (rows.states == State.REJECTED)
        if at is not None:
            found &= np.abs(np.rint(rows.points[:, 0]) - round(at)) <= self.near
        return found

    def _inside(
        self, found: np.ndarray, box: view.Box | None, ids: np.ndarray | None = None
    ) -> np.ndarray:
        """Those of the found dots that lie in a box; all of them where there is none."""
        if box is None:
            return found
        table = self.session.table
        return found & box.holds((table.rows if ids is None else table.get(ids)).points)

    def _drawn(self, ids: np.ndarray, size: float, *, shown: np.ndarray | None = None) -> Drawn:
        rows = self.session.table.get(ids)
        looks = appearance(rows, diameter=size, slice_index=self.slice_index, near=self.near)
        return Drawn(rows.points, np.ones(len(ids), bool) if shown is None else shown, *looks)

    def _fill(self, layer: PointRows, ids: np.ndarray, size: float) -> None:
        layer.fill(self._drawn(ids, size))

    def _show_rejected(self, ids: np.ndarray) -> None:
        if len(ids) or len(self._rejected):
            self._fill(self._not_cells, ids, 0.8 * self.diameter)
        self._rejected = ids

    def _draw_overview(self, ids: np.ndarray) -> None:
        assert self._box is not None
        self._fill(self._cells, ids[:0], self.diameter)
        self._row_of, self._places = {}, self.session.table.rows.points[:, -2:].copy()
        self._show_rejected(ids[:0])
        rows = self.session.table.get(ids)
        pixel = self._zoom * float(self.cells.scale[-1])  # of the screen, per pixel of the image
        sides = np.ceil((self._box.high - self._box.low) * self._zoom * self.cells.scale[-2:])
        shape = (int(sides[0]), int(sides[1]))
        colours = overview_colours(rows, slice_index=self.slice_index)
        side = square_side(len(ids), shape, largest=self.diameter * pixel)
        self.overview.draw(rows.points[:, -2:], colours, self._box, shape=shape, side=side)

    def _patch_overview(self, ids: np.ndarray) -> None:
        """Draws the places anew where dots were when the overview was drawn, and where they are."""
        drawable, rows = self._drawable(), self.session.table.rows
        before = self._places[ids[ids < len(self._places)]]
        for place in np.unique(np.concatenate([before, rows.points[ids, -2:]]), axis=0):
            near = np.flatnonzero(self._inside(drawable, self.overview.around(place)))
            found = self.session.table.get(near)
            colours = overview_colours(found, slice_index=self.slice_index)
            self.overview.patch(place, found.points[:, -2:], colours)
        self.overview.refresh()
        if (ids >= len(self._places)).any():
            self._places = rows.points[:, -2:].copy()
        else:
            self._places[ids] = rows.points[ids, -2:]

    def _mark_at(self, point: np.ndarray | None) -> None:
        if point is None and not self._current.n:
            return
        at = np.zeros((0, self.ndim)) if point is None else np.reshape(point, (1, -1))
        n = len(at)
        look = (np.tile(NOTHING, (n, 1)), np.tile(YELLOW, (n, 1)), np.full(n, 1.8 * self.diameter))
        self._current.fill(Drawn(at, np.ones(n, bool), *look))

    def _on_camera(self, *_: Any) -> None:
        """Draws again when something comes into view that is not drawn."""
        seen = view.in_view(self.viewer, self.cells)
        if seen is None or self._box is None:
            return
        low, high = -0.5, np.array(self.session.shape[-2:]) - 0.5
        new, old = (np.clip((box.low, box.high), low, high) for box in (seen, self._box))
        inside = (new[0] >= old[0]).all() and (new[1] <= old[1]).all()
        ratio = view.camera(self.viewer).zoom / self._zoom
        if not inside or (self.is_overview and not 1 / MAX_ZOOM < ratio < MAX_ZOOM):
            self.show_all()
