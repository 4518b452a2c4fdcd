"""A points layer that is written row by row, in place, and has room for more points.

Setting `data`, colours and sizes of a layer anew costs some 20 ms each time; writing into its
arrays and drawing it again costs a fifth of that.
"""

import inspect
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from napari.components import ViewerModel
from napari.layers import Points

MIN_ROOM = 256
"""Least number of rows that a layer is given."""

QUICK = {
    name: False
    for name in ("thumbnail", "extent")
    if name in inspect.signature(Points.refresh).parameters
}
"""Arguments of `refresh` that leave out what does not change."""


class Drawn(NamedTuple):
    """Points as they are drawn.

    Attributes:
      points: Positions in pixels, [K, ndim].
      shown: Which are visible, [K] bool.
      face: RGBA, [K, 4].
      border: RGBA, [K, 4].
      size: Diameters in pixels, [K].
    """

    points: np.ndarray
    shown: np.ndarray
    face: np.ndarray
    border: np.ndarray
    size: np.ndarray


class PointRows:
    """A points layer, and how many of its rows are in use; the others lie hidden at the origin."""

    def __init__(
        self, viewer: ViewerModel, name: str, ndim: int, *, near_slices: bool, **look: object
    ) -> None:
        """Adds an empty layer to a viewer.

        Args:
          viewer: The napari viewer.
          name: Name of the layer.
          ndim: Number of axes of the points.
          near_slices: Whether points within the margins of the viewer's slice are also drawn.
          **look: Other arguments of `napari.layers.Points`.
        """
        self.layer = Points(np.zeros((0, ndim)), ndim=ndim, name=name, **look)
        self.n = 0
        if near_slices:
            draw_near_slices(self.layer)
        viewer.add_layer(self.layer)

    def fill(self, drawn: Drawn) -> None:
        """Draws these points and no others."""
        n = len(drawn.points)
        self._make_room(n)
        self._write(np.arange(n), drawn)
        self._hide(slice(n, max(n, self.n)))
        self.n = n
        self.refresh()

    def write(self, rows: Sequence[int], drawn: Drawn) -> None:
        """Draws some rows anew; rows from `n` on are new ones."""
        at = np.asarray(rows, np.int64)
        needed = int(at.max(initial=-1)) + 1
        if needed > len(self.layer.data):
            self._make_room(needed)
        self.n = max(self.n, needed)
        self._write(at, drawn)
        self.refresh()

    def move(self, row: int, point: np.ndarray) -> None:
        """Draws one point elsewhere."""
        self.layer.data[row] = point
        self.refresh()

    def refresh(self) -> None:
        """Draws what was written."""
        self.layer.refresh(**QUICK)

    def _write(self, at: np.ndarray, drawn: Drawn) -> None:
        layer, shown = self.layer, drawn.shown
        layer.data[at] = drawn.points
        layer.shown[at] = shown
        # napari 0.9 draws hidden points of an image all the same: they are transparent as well.
        layer.face_color[at] = drawn.face * shown[:, None]
        layer.border_color[at] = drawn.border * shown[:, None]
        layer.size[at] = drawn.size * shown

    def _hide(self, rows: slice) -> None:
        layer = self.layer
        layer.data[rows], layer.shown[rows], layer.size[rows] = 0, False, 0
        layer.face_color[rows], layer.border_color[rows] = 0, 0

    def _make_room(self, n: int) -> None:
        """Room for n points and more; what is drawn stays."""
        layer, old = self.layer, len(self.layer.data)
        if n < old:
            return
        room = max(MIN_ROOM, 2 * n)
        kept = Drawn(
            *(a[: self.n].copy() for a in (
                layer.data, layer.shown, layer.face_color, layer.border_color, layer.size))
        )  # fmt: skip
        layer.data = np.zeros((room, layer.ndim), np.float32)
        layer.shown = np.zeros(room, bool)
        layer.size = np.zeros(room, np.float32)
        layer.face_color = np.zeros((room, 4), np.float32)
        layer.border_color = np.zeros((room, 4), np.float32)
        layer.selected_data = set()
        layer.editable = False  # napari's own tools would change rows that stand for dots
        self._write(np.arange(self.n), kept)


def draw_near_slices(layer: Points) -> None:
    """Lets a layer draw the points within the margins of the viewer's slice.

    napari 0.5 and later have `projection_mode`; before, `out_of_slice_display` does the same for
    points as thick as their size.
    """
    if hasattr(layer, "projection_mode"):
        layer.projection_mode = "all"
    else:
        layer.out_of_slice_display = True
