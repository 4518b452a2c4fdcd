"""What a person does on one image: it acts on the session, and the layers follow."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from napari.components import ViewerModel

from cellcount_jax.annotation import picking
from cellcount_jax.annotation.journal import JournalError
from cellcount_jax.annotation.records import Act, State
from cellcount_jax.annotation.session import Session
from cellcount_jax.napari import keys
from cellcount_jax.napari.drawing import view
from cellcount_jax.napari.drawing.dots_layers import DotsLayers

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
        scale: Sequence[float],
        translate: Sequence[float] | None = None,
        diameter: float = 10.0,
        near: int = 2,
    ) -> None:
        """Adds the layers of dots, and binds the keys.

        Args:
          viewer: The napari viewer, with the image in it.
          session: Session of the image.
          scale: World units per pixel and axis, as the image layer has them.
          translate: World position of the first pixel, if it is not the origin.
          diameter: Diameter of a dot in pixels; a click within half of it selects the dot.
          near: Slices to both sides of a volume whose dots are drawn and can be selected.
        """
        self.viewer, self.session, self.scale = viewer, session, tuple(scale)
        self.class_index = 0
        self.current: int | None = None
        self.on_change: list[Callable[[], None]] = []
        self.layers = DotsLayers(
            viewer,
            session,
            scale=scale,
            translate=(0.0,) * len(self.scale) if translate is None else translate,
            diameter=diameter,
            near=near,
        )
        dims = viewer.dims.events
        self._connected = [(dims.ndisplay, self._on_slice), (dims.order, self._on_slice)]
        if len(session.shape) == 3:
            set_margins(viewer, near, self.scale[0])
            self._connected.append((dims.point, self._on_slice))
        for event, function in self._connected:
            event.connect(function)
        keys.bind(viewer, self._keys())
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
        for event, function in self._connected:
            event.disconnect(function)
        keys.unbind(self.viewer, self._keys())
        self.layers.remove()

    # Edits

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
            view.shout(self.viewer, str(error))
        except ValueError as error:
            self.viewer.status = str(error)
        else:
            view.hush(self.viewer)
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
        shown = not self.layers.is_visible
        self.layers.set_visible(shown)
        self.viewer.status = HELP if shown else "dots are hidden; Space shows them"

    def set_threshold(self, value: float) -> None:
        """Counts proposals from this score on."""
        self.attempt(self.session.set_threshold, value)
        self.refresh()

    def centre_on(self, point: np.ndarray) -> None:
        """Brings a place, in pixels, to the middle of the view on all axes."""
        world = self.layers.cells.data_to_world(point)
        self._to_slice(point)
        view.camera(self.viewer).center = (0.0, *world)[-3:] if len(point) == 2 else tuple(world)

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
        actions: dict[str, Callable[[Any], None]] = {
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
        return actions | {k: self._class_setter(i) for i, k in enumerate(keys.CLASS_KEYS)}

    def _class_setter(self, index: int) -> Callable[[Any], None]:
        # Not a partial function: napari asks a bound function for its name.
        return lambda _: self.set_class(index)

    def qt_keys(self) -> dict[str, Callable[[Any], Any]]:
        """What each key does, by Qt's names."""
        return keys.by_qt_names(self._keys())


def set_margins(viewer: ViewerModel, near: int, step: float) -> None:
    """Makes the slice of a volume thick enough for `near` slices to both sides.

    Args:
      viewer: The napari viewer.
      near: Number of slices.
      step: World units between slices.
    """
    if hasattr(viewer.dims, "margin_left"):
        margins = [0.0] * viewer.dims.ndim
        margins[-3] = (near + 0.55) * step
        viewer.dims.margin_left = viewer.dims.margin_right = tuple(margins)
