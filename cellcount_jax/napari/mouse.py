"""The mouse on the canvas: a click adds, removes or rejects a dot, a drag moves one."""

from collections.abc import Generator
from typing import Any

import numpy as np
from napari.components import ViewerModel

from cellcount_jax.annotation import picking
from cellcount_jax.annotation.records import State
from cellcount_jax.napari.annotator import Annotator
from cellcount_jax.napari.drawing import view

CLICK_PIXELS = 3
"""Largest movement of the mouse, in screen pixels, that is still a click."""

GRAB_PIXELS = 6
"""A dot can be grabbed within this many screen pixels, however small it is drawn."""

LEFT, RIGHT = 1, 2


class Pointer:
    """Turns mouse events of a viewer into edits by an annotator."""

    def __init__(self, annotator: Annotator) -> None:
        """Connects them."""
        self.annotator = annotator
        annotator.viewer.mouse_drag_callbacks.append(self._on_mouse)

    def close(self) -> None:
        """Disconnects them."""
        self.annotator.viewer.mouse_drag_callbacks.remove(self._on_mouse)

    def pick(self, point: np.ndarray) -> picking.Picked | None:
        """The dot at a place in pixels."""
        annotator, session = self.annotator, self.annotator.session
        rows, scale, diameter = session.table.rows, annotator.scale, annotator.diameter
        shown = session.is_counted() | (rows.states == State.REJECTED)
        least = GRAB_PIXELS / max(view.camera(annotator.viewer).zoom * float(scale[-1]), 1e-6)
        if len(session.shape) == 3:
            shown &= np.abs(np.rint(rows.points[:, 0]) - point[0]) <= annotator.layers.near
        radius = max(diameter / 2, min(least, 2 * diameter))
        return picking.pick(
            rows, shown, point, radius=radius, near_radius=diameter / 2, spacing=scale
        )

    def place(self, world: Any) -> np.ndarray:
        """A place of the canvas in pixels of the image; on a volume, of the slice."""
        at = np.asarray(self.annotator.layers.cells.world_to_data(world), float)
        point = at[-len(self.annotator.session.shape) :]
        if len(point) == 3:
            point[0] = np.rint(point[0])
        return point

    def click(self, point: np.ndarray, found: picking.Picked | None, button: int) -> None:
        """What a click means: see `annotator.HELP`; near a dot of a near slice, that dot."""
        annotator, session = self.annotator, self.annotator.session
        if found is not None and found.is_near_slice:
            z = round(float(session.table.get([found.id]).points[0, 0]))
            annotator.select(found.id)
            annotator.viewer.status = (
                f"this cell has its dot on slice {z}; it is selected, not added"
            )
        elif button == RIGHT and found is not None:
            annotator.do(session.reject, [found.id])
        elif button == RIGHT:
            annotator.do(session.reject_at, point)
        elif button == LEFT and found is not None:
            annotator.do(session.remove, [found.id])
        elif button == LEFT:
            annotator.select(None)
            annotator.do(lambda: session.add(point, class_index=annotator.class_index))

    def _may_edit(self) -> bool:
        """Whether clicks mean dots now; if not, the status line says why."""
        annotator = self.annotator
        if not view.shows_slices(annotator.viewer):
            annotator.viewer.status = "edit in the slices of the first axis, not here"
            return False
        if not annotator.layers.is_visible:
            annotator.viewer.status = "dots are hidden; Space shows them"
            return False
        return True

    def _on_mouse(self, viewer: ViewerModel, event: Any) -> Generator[None, None, None]:
        """A mouse callback of napari: it is resumed at each move, and at the release."""
        if event.modifiers or not self._may_edit():
            return
        annotator, camera = self.annotator, view.camera(viewer)
        point, start, button = self.place(event.position), np.array(event.pos), event.button
        found = self.pick(point)
        is_grabbed = button == LEFT and found is not None and not found.is_near_slice
        moved, panned = False, camera.mouse_pan
        if is_grabbed:
            camera.mouse_pan = False
        try:
            yield
            while event.type == "mouse_move":
                moved = moved or np.abs(np.array(event.pos) - start).max() > CLICK_PIXELS
                if moved and is_grabbed and found is not None:
                    annotator.layers.show_moving(found.id, self.place(event.position))
                yield
        finally:
            camera.mouse_pan = panned
        if moved and is_grabbed and found is not None:
            annotator.do(annotator.session.move, found.id, self.place(event.position))
            annotator.layers.show(np.array([found.id]))  # also where it was, if that failed
        elif not moved:
            self.click(point, found, button)
