"""The keys of the annotator, for napari and for Qt."""

from collections.abc import Callable, Mapping
from typing import Any

from napari.components import ViewerModel

CLASS_KEYS = "qwerty"

Actions = Mapping[str, Callable[[Any], Any]]


def bind(viewer: ViewerModel, actions: Actions) -> None:
    """Binds keys of a viewer."""
    for key, function in actions.items():
        viewer.bind_key(key, function, overwrite=True)


def unbind(viewer: ViewerModel, actions: Actions) -> None:
    """Unbinds these keys."""
    for key in actions:
        viewer.bind_key(key, None, overwrite=True)


def by_qt_names(actions: Actions) -> dict[str, Callable[[Any], Any]]:
    """The same actions by Qt's names of the keys."""
    names = {"Enter": "Return", "Escape": "Esc", "Delete": "Del", "Control": "Ctrl"}

    def qt_name(key: str) -> str:
        parts = key.split("-")
        return "+".join(names.get(k, k.upper() if len(k) == 1 else k) for k in parts)

    return {qt_name(key): function for key, function in actions.items()}
