"""The layers that show the dots of a session.

The arrays of the main layer are written in place and have room for more dots, so that a click costs
as much as drawing, however many dots there are.
"""

import inspect
from collections.abc import Sequence

import numpy as np
from napari.components import ViewerModel
from napari.layers import Points

from cellcount_jax.annotation.records import State
from cellcount_jax.annotation.session import Session
from cellcount_jax.napari.appearance import appearance

CELLS, NOT_CELLS, CURRENT = "cells", "not cells", "current"

_QUICK = {
    name: False
    for name in ("thumbnail", "extent")
    if name in inspect.signature(Points.refresh).parameters
}


class DotsLayers:
    """Points layers of cells and proposals, of places marked as no cell, and of the current dot."""

    def __init__(
        self,
        viewer: ViewerModel,
        session: Session,
        *,
        scale: Sequence[float],
        diameter: float,
        near: int,
    ) -> None:
        """Adds the layers.

        Args:
          viewer: The napari viewer.
          session: Session whose dots are shown.
          scale: World units per pixel and axis.
          diameter: Diameter of a dot in pixels.
          near: Slices to both sides of a volume whose dots are drawn, too.
        """
        self.viewer, self.session = viewer, session
        self.diameter, self.near = diameter, near
        self.ndim = len(session.shape)
        self.cells = self._add(CELLS, scale, border_width=0.18)
        self.not_cells = self._add(
            NOT_CELLS, scale, border_width=0.0, symbol="x", face_color="#ff3b30"
        )
        self.current = self._add(
            CURRENT, scale, border_width=0.12, face_color="transparent", border_color="yellow"
        )
        self.show_all()

    def _add(self, name: str, scale: Sequence[float], **look: object) -> Points:
        data = np.zeros((0, self.ndim))
        layer = Points(data, ndim=self.ndim, name=name, scale=scale, size=self.diameter, **look)
        if self.ndim == 3:
            draw_near_slices(layer)
        self.viewer.add_layer(layer)
        return layer

    @property
    def slice_index(self) -> float | None:
        """The slice of a volume that is looked at; None for an image, or in the 3-D display."""
        if self.ndim == 2 or self.viewer.dims.ndisplay == 3:
            return None
        return float(self.cells.world_to_data(self.viewer.dims.point)[-self.ndim])

    def show_all(self) -> None:
        """Draws everything again."""
        self._make_room()
        self.show(np.arange(self.session.table.n))

    def show(self, ids: np.ndarray) -> None:
        """Draws these dots as they are now."""
        if self.session.table.n > len(self.cells.data):
            self._make_room()
            ids = np.arange(self.session.table.n)
        rows = self.session.table.get(ids)
        looks = appearance(
            rows,
            self.session.is_counted()[ids],
            diameter=self.diameter,
            slice_index=self.slice_index,
            near=self.near,
        )
        layer = self.cells
        layer.data[ids] = rows.points
        layer.shown[ids] = looks.shown
        layer.face_color[ids] = looks.face
        layer.border_color[ids] = looks.border
        layer.size[ids] = looks.size
        layer.refresh(**_QUICK)
        self._show_not_cells()

    def show_moving(self, dot: int, point: np.ndarray) -> None:
        """Draws a dot elsewhere while it is dragged."""
        self.cells.data[dot] = point
        self.cells.refresh(**_QUICK)

    def mark(self, dot: int | None) -> None:
        """Puts the yellow ring around a dot, or takes it away."""
        at = np.zeros((0, self.ndim)) if dot is None else self.session.table.get([dot]).points
        self.current.data = at
        self.current.size = 1.8 * self.diameter
        self.current.selected_data = set()

    def _show_not_cells(self) -> None:
        rows = self.session.table.rows
        at = rows.points[rows.states == State.REJECTED]
        if not np.array_equal(at, self.not_cells.data):
            self.not_cells.data = at
            self.not_cells.size = 0.8 * self.diameter
            self.not_cells.selected_data = set()

    def _make_room(self) -> None:
        """Rows for twice as many dots; those that are not used lie hidden in the first pixel."""
        room = max(256, 2 * self.session.table.n)
        if len(self.cells.data) >= self.session.table.n + 1:
            return
        self.cells.data = np.zeros((room, self.ndim), np.float32)
        self.cells.shown = np.zeros(room, bool)
        self.cells.size = np.full(room, self.diameter, np.float32)
        self.cells.face_color = np.zeros((room, 4), np.float32)
        self.cells.border_color = np.zeros((room, 4), np.float32)
        self.cells.selected_data = set()

    def remove(self) -> None:
        """Takes the layers out of the viewer."""
        for layer in (self.cells, self.not_cells, self.current):
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)


def draw_near_slices(layer: Points) -> None:
    """Lets a layer draw the points within the margins of the viewer's slice.

    napari 0.5 and later have `projection_mode`; before, `out_of_slice_display` does the same for
    points as thick as their size.
    """
    if hasattr(layer, "projection_mode"):
        layer.projection_mode = "all"
    else:
        layer.out_of_slice_display = True


def set_margins(viewer: ViewerModel, near: int, step: float) -> None:
    """Makes the slice of a volume thick enough for `near` slices to both sides.

    Args:
      viewer: The napari viewer.
      near: slices.
      step: World units between slices.
    """
    if hasattr(viewer.dims, "margin_left"):
        margins = [0.0] * viewer.dims.ndim
        margins[-3] = (near + 0.55) * step
        viewer.dims.margin_left = viewer.dims.margin_right = tuple(margins)
