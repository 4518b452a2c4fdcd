"""Mouse and keys on one image: they act on the session, and the layers follow."""

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.utils.notifications import show_error

from cellcount_jax.annotation import picking
from cellcount_jax.annotation.journal import JournalError
from cellcount_jax.annotation.records import Act, State
from cellcount_jax.annotation.session import Session
from cellcount_jax.napari.dots_layers import DotsLayers, set_margins

CLICK_PIXELS = 3
"""Largest movement of the mouse, in screen pixels, that is still a click."""

GRAB_PIXELS = 6
"""A dot can be grabbed within this many screen pixels, however small it is drawn."""

CLASS_KEYS = "qwerty"

LEFT, RIGHT = 1, 2

HELP = (
    "click: add / remove   drag: move   right click: not a cell   q w e r t y: class   "
    "n, p: doubtful dot   Enter: accept   x: reject   Space: hide   Ctrl+Z, Ctrl+Y: undo, redo"
)


class Annotator:
    """Connects a viewer with the session of one image."""

    def __init__(
        self,
        viewer: ViewerModel,
        session: Session,
        *,
        scale: tuple[float, ...],
        diameter: float = 10.0,
        near: int = 2,
    ) -> None:
        """Adds the layers of dots, and binds mouse and keys.

        Args:
          viewer: The napari viewer, with the image in it.
          session: Session of the image.
          scale: World units per pixel and axis, as the image layer has them.
          diameter: Diameter of a dot in pixels; a click within half of it selects the dot.
          near: Slices to both sides of a volume whose dots are drawn and can be selected.
        """
        self.viewer, self.session, self.scale = viewer, session, scale
        self.class_index = 0
        self.current: int | None = None
        self.on_change: list[Callable[[], None]] = []
        self.layers = DotsLayers(viewer, session, scale=scale, diameter=diameter, near=near)
        if len(session.shape) == 3:
            set_margins(viewer, near, scale[0])
            viewer.dims.events.point.connect(self._on_slice)
            viewer.dims.events.ndisplay.connect(self._on_slice)
        viewer.mouse_drag_callbacks.append(self._on_mouse)
        self._bind_keys()
        viewer.status = HELP

    @property
    def diameter(self) -> float:
        """Diameter of a dot in pixels."""
        return self.layers.diameter

    def set_diameter(self, diameter: float) -> None:
        """Draws dots of another size; a click within half of it selects the dot."""
        self.layers.diameter = diameter
        self.layers.show_all()

    def set_near(self, near: int) -> None:
        """Draws the dots of this many slices to both sides."""
        self.layers.near = near
        if len(self.session.shape) == 3:
            set_margins(self.viewer, near, self.scale[0])
        self.layers.show_all()

    def close(self) -> None:
        """Unbinds everything and removes the layers."""
        self.viewer.mouse_drag_callbacks.remove(self._on_mouse)
        if len(self.session.shape) == 3:
            self.viewer.dims.events.point.disconnect(self._on_slice)
            self.viewer.dims.events.ndisplay.disconnect(self._on_slice)
        for key in self._keys():
            self.viewer.bind_key(key, None, overwrite=True)
        self.layers.remove()

    # Acts

    def do(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Performs an act of the session and draws it; see `attempt` for failures."""
        result = self.attempt(function, *arguments)
        done = self.session.done or self.session.undone
        self.refresh(result if isinstance(result, Act) else done[-1] if done else None)
        return result

    def attempt(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Result of a function that writes; a failure is shouted, and the result is None."""
        try:
            result = function(*arguments)
        except (JournalError, OSError) as error:
            self._shout(str(error))
        except ValueError as error:
            self.viewer.status = str(error)
        else:
            self.viewer.text_overlay.visible = False
            return result
        return None

    def refresh(self, act: Act | None = None) -> None:
        """Draws the dots of an act, or all of them, and tells the widgets."""
        if act is None:
            self.layers.show_all()
        else:
            self.layers.show(act.ids)
        if self.current is not None:
            gone = self.session.table.get([self.current]).states[0] == State.REMOVED
            self.current = None if gone else self.current
            self.layers.mark(self.current)
        self.changed()

    def changed(self) -> None:
        """Tells the widgets that counts may be others."""
        for function in list(self.on_change):
            function()

    def _shout(self, text: str) -> None:
        self.viewer.text_overlay.text = text
        self.viewer.text_overlay.color = "red"
        self.viewer.text_overlay.font_size = 16
        self.viewer.text_overlay.visible = True
        show_error(text)

    def undo(self, *_: Any) -> None:
        """Takes the last act back, and goes where it was."""
        self._go(self.do(self.session.undo), "nothing to undo")

    def redo(self, *_: Any) -> None:
        """Does again what was undone, and goes where it is."""
        self._go(self.do(self.session.redo), "nothing to redo")

    def _go(self, act: Act | None, otherwise: str) -> None:
        if act is None:
            self.viewer.status = otherwise
        elif len(act.ids) == 1 and len(self.session.shape) == 3:
            before = act.before.states[0] == State.REMOVED
            self._to_slice((act.after if before else act.before).points[0])
            self.viewer.status = act.kind

    def set_class(self, index: int) -> None:
        """Class of the current dot or, without one, of dots that are added from now on."""
        target = self._target()
        if target is None:
            self.class_index = index
            self.viewer.status = f"new dots: {self.session.classes[index]}"
            self.changed()
        else:
            self.do(self.session.set_class, [target], index)

    def jump(self, step: int) -> None:
        """Goes to the next or previous doubtful dot."""
        found = picking.next_doubtful(
            self.session.table.rows, self.session.threshold, self.current, step=step
        )
        if found is None:
            self.viewer.status = "no doubtful dot is left" if step > 0 else "this is the first one"
            return
        self.select(found)
        self.centre_on(self.session.table.get([found]).points[0])

    def select(self, dot: int | None) -> None:
        """Makes a dot the current one."""
        self.current = dot
        self.layers.mark(dot)
        if dot is not None:
            row = self.session.table.get([dot])
            score = "" if np.isnan(row.scores[0]) else f", score {row.scores[0]:.3g}"
            state, name = State(row.states[0]).name.lower(), self.session.classes[row.classes[0]]
            self.viewer.status = f"{name}, {state}{score}"

    def judge(self, *, accept: bool) -> None:
        """Accepts or rejects the current dot, which stays in the list, and goes to the next."""
        target = self._target()
        if target is None:
            self.jump(1)
            return
        self.do(self.session.accept if accept else self.session.reject, [target])
        self.current = target
        self.jump(1)

    def remove_current(self) -> None:
        """Removes the current dot."""
        target = self._target()
        if target is not None:
            self.do(self.session.remove, [target])

    def toggle_dots(self) -> None:
        """Hides all dots, or shows them again."""
        shown = not self.layers.cells.visible
        for layer in (self.layers.cells, self.layers.not_cells, self.layers.current):
            layer.visible = shown
        self.viewer.status = HELP if shown else "dots are hidden; Space shows them"

    def set_threshold(self, value: float) -> None:
        """Counts proposals from this score on."""
        self.attempt(self.session.set_threshold, value)
        self.refresh()

    def centre_on(self, point: np.ndarray) -> None:
        """Brings a place, in pixels, to the middle of the view on all axes."""
        world = self.layers.cells.data_to_world(point)
        self._to_slice(point)
        self.viewer.camera.center = (0.0, *world)[-3:] if len(point) == 2 else tuple(world)

    # Mouse

    def pick(self, point: np.ndarray) -> picking.Picked | None:
        """The dot at a place in pixels."""
        rows = self.session.table.rows
        shown = self.session.is_counted() | (rows.states == State.REJECTED)
        pixel = float(self.scale[-1])
        least = GRAB_PIXELS / max(self.viewer.camera.zoom * pixel, 1e-6)
        if len(self.session.shape) == 3:
            shown &= np.abs(np.rint(rows.points[:, 0]) - point[0]) <= self.layers.near
        radius = max(self.diameter / 2, min(least, 2 * self.diameter))
        return picking.pick(
            rows, shown, point, radius=radius, near_radius=self.diameter / 2, spacing=self.scale
        )

    def place(self, world: Any) -> np.ndarray:
        """A place of the canvas in pixels of the image; on a volume, of the slice."""
        point = np.asarray(self.layers.cells.world_to_data(world), float)[
            -len(self.session.shape) :
        ]
        if len(point) == 3:
            point[0] = np.rint(point[0])
        return point

    def _on_mouse(self, viewer: ViewerModel, event: Any) -> Generator[None, None, None]:
        if event.modifiers:
            return
        if viewer.dims.ndisplay == 3 or not self.layers.cells.visible:
            hidden = viewer.dims.ndisplay != 3
            viewer.status = "dots are hidden; Space shows them" if hidden else "edit in the slices"
            return
        point, start, button = self.place(event.position), np.array(event.pos), event.button
        found = self.pick(point)
        is_grabbed = button == LEFT and found is not None and not found.is_near_slice
        moved, panned = False, viewer.camera.mouse_pan
        if is_grabbed:
            viewer.camera.mouse_pan = False
        try:
            yield
            while event.type == "mouse_move":
                moved = moved or np.abs(np.array(event.pos) - start).max() > CLICK_PIXELS
                if moved and is_grabbed and found is not None:
                    self.layers.show_moving(found.id, self.place(event.position))
                yield
        finally:
            viewer.camera.mouse_pan = panned
        if moved and is_grabbed and found is not None:
            self.do(self.session.move, found.id, self.place(event.position))
            self.layers.show(np.array([found.id]))  # also where it was, if that failed
        elif not moved:
            self.click(point, found, button)

    def click(self, point: np.ndarray, found: picking.Picked | None, button: int) -> None:
        """What a click means: see `HELP`; one near a dot of a near slice selects that dot."""
        if found is not None and found.is_near_slice:
            z = round(float(self.session.table.get([found.id]).points[0, 0]))
            self.select(found.id)
            self.viewer.status = f"this cell has its dot on slice {z}; it is selected, not added"
        elif button == RIGHT and found is not None:
            self.do(self.session.reject, [found.id])
        elif button == RIGHT:
            self.do(self.session.reject_at, point)
        elif button == LEFT and found is not None:
            self.do(self.session.remove, [found.id])
        elif button == LEFT:
            self.current = None
            self.layers.mark(None)
            self.do(lambda: self.session.add(point, class_index=self.class_index))

    def _target(self) -> int | None:
        """The current dot, if it is still there."""
        if self.current is None:
            return None
        state = self.session.table.get([self.current]).states[0]
        return None if state == State.REMOVED else self.current

    def _to_slice(self, point: np.ndarray) -> None:
        if len(point) == 3 and self.viewer.dims.ndisplay == 2:
            axis = self.viewer.dims.ndim - 3
            z = float(self.layers.cells.data_to_world(np.rint(point))[0])
            self.viewer.dims.set_point(axis, z)

    def _on_slice(self, *_: Any) -> None:
        self.layers.show_all()
        self.changed()

    # Keys

    def _keys(self) -> dict[str, Callable[[Any], None]]:
        keys: dict[str, Callable[[Any], None]] = {
            "n": lambda _: self.jump(1),
            "p": lambda _: self.jump(-1),
            "Enter": lambda _: self.judge(accept=True),
            "x": lambda _: self.judge(accept=False),
            "Space": lambda _: self.toggle_dots(),
            "Escape": lambda _: self.select(None),
            "Delete": lambda _: self.remove_current(),
            "Control-Z": self.undo,
            "Control-Y": self.redo,
            "Control-Shift-Z": self.redo,
        }
        keys |= {key: self._class_setter(index) for index, key in enumerate(CLASS_KEYS)}
        return keys

    def _class_setter(self, index: int) -> Callable[[Any], None]:
        # Not a partial function: napari asks a bound function for its name.
        return lambda _: self.set_class(index)

    def qt_keys(self) -> dict[str, Callable[[Any], Any]]:
        """What each key does, by Qt's names."""
        names = {"Enter": "Return", "Escape": "Esc", "Delete": "Del"}
        keys = self._keys()
        found = {
            "+".join(names.get(k, k.upper() if len(k) == 1 else k) for k in key.split("-")): act
            for key, act in keys.items()
        }
        return {k.replace("Control", "Ctrl"): act for k, act in found.items()}

    def _bind_keys(self) -> None:
        for key, function in self._keys().items():
            self.viewer.bind_key(key, function, overwrite=True)
