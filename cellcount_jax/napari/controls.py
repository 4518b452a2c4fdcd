"""Small Qt pieces that the widgets share, and work in the background."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from napari.qt.threading import create_worker
from napari.utils.notifications import show_error
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSlider,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from cellcount_jax.runtime.error_text import one_line

SLIDER_STEPS = 1000

_TYPING = (QLineEdit, QAbstractSpinBox, QComboBox)
"""Widgets that keep their keys."""


class OwnKeys(QObject):
    """Keys that act wherever the focus of a window is, before its menus and other layers see them.

    Without it a key would do nothing, or something else, after a click on a panel or a layer.
    """

    def __init__(self, parent: QObject, window: QWidget, actions: "Actions") -> None:
        """Watches a window.

        Args:
          parent: Qt parent, which owns this object.
          window: Window whose keys are handled.
          actions: Gives the functions by the names of the keys, such as "Ctrl+Z".
        """
        super().__init__(parent)
        self._window, self._actions = window, actions
        application = QApplication.instance()
        assert application is not None
        application.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Whether the event was one of these keys."""
        if event.type() not in (QEvent.Type.KeyPress, QEvent.Type.ShortcutOverride):
            return False
        if not isinstance(watched, QWidget) or isinstance(watched, _TYPING):
            return False
        if watched.window() is not self._window:
            return False
        name = QKeySequence(event.keyCombination()).toString()
        function = self._actions().get(name)
        if function is None:
            return False
        event.accept()
        if event.type() == QEvent.Type.KeyPress:
            function(None)
        return True


Actions = Callable[[], Mapping[str, Callable[[Any], Any]]]


def button(text: str, on_click: Callable[[], Any], *, tip: str = "") -> QPushButton:
    """A button."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.clicked.connect(lambda *_: on_click())
    return made


def choice(items: Sequence[str], on_change: Callable[[str], Any] | None = None) -> QComboBox:
    """A list to choose from."""
    made = QComboBox()
    made.addItems(list(items))
    if on_change is not None:
        made.currentTextChanged.connect(on_change)
    return made


def number(
    value: int, low: int, high: int, on_change: Callable[[int], Any], *, tip: str = ""
) -> QSpinBox:
    """A whole number."""
    made = QSpinBox()
    made.setRange(low, high)
    made.setValue(value)
    made.setToolTip(tip)
    made.valueChanged.connect(on_change)
    return made


def decimal(
    value: float,
    low: float,
    high: float,
    on_change: Callable[[float], Any] | None = None,
    *,
    special: str = "",
) -> QDoubleSpinBox:
    """A number; `special` is shown for the lowest one."""
    made = QDoubleSpinBox()
    made.setRange(low, high)
    made.setDecimals(1)
    made.setValue(value)
    made.setSpecialValueText(special)
    if on_change is not None:
        made.valueChanged.connect(on_change)
    return made


def slider(top: int, on_change: Callable[[int], Any]) -> QSlider:
    """A slider from 0 to `top`."""
    made = QSlider(Qt.Orientation.Horizontal)
    made.setRange(0, top)
    made.valueChanged.connect(on_change)
    return made


def row(*widgets: QWidget | str) -> QWidget:
    """Widgets and texts beside each other."""
    made = QWidget()
    layout = QHBoxLayout(made)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(QLabel(widget) if isinstance(widget, str) else widget)
    return made


def column(parent: QWidget, *widgets: QWidget | str) -> None:
    """Fills a widget with others, one below the other."""
    layout = QVBoxLayout(parent)
    for widget in widgets:
        layout.addWidget(heading(widget) if isinstance(widget, str) else widget)
    layout.addStretch()


def heading(text: str) -> QLabel:
    """A line above a group of controls."""
    made = QLabel(f"<b>{text}</b>")
    made.setTextFormat(Qt.TextFormat.RichText)
    return made


def wrapped(text: str = "") -> QLabel:
    """A text of several lines."""
    made = QLabel(text)
    made.setWordWrap(True)
    made.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return made


def run_in_background(
    function: Callable[..., Any], *arguments: Any, on_done: Callable[[Any], Any]
) -> Any:
    """Calls a function in a thread, then `on_done` with its result; an error is shown in one line.

    Returns:
      The worker, which must be kept until it is done.
    """
    worker = create_worker(function, *arguments, _start_thread=False)
    worker.returned.connect(on_done)
    worker.errored.connect(lambda error: show_error(one_line(error)))
    worker.start()
    return worker
