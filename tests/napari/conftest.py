"""A real viewer on a real (virtual) screen; skipped without napari or a display.

`tests/napari/run` installs both and runs these tests.
"""

import importlib.util
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

HAS_SCREEN = importlib.util.find_spec("napari") is not None and bool(os.environ.get("DISPLAY"))

if not HAS_SCREEN:
    collect_ignore_glob = ["test_*.py"]

SCREENSHOTS = os.environ.get("CELLCOUNT_SCREENSHOTS")
"""Folder that keeps the screenshots, to be looked at."""


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in Path(item.path).parents:  # warnings of napari and Qt are theirs
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(autouse=True)
def no_deprecated_calls_of_ours() -> Iterator[None]:
    """Fails a test in which our code uses what napari, Qt or NumPy is going to drop.

    Errors inside callbacks of Qt would be swallowed, so the warnings are collected instead.
    """
    import cellcount_jax

    ours = (str(Path(cellcount_jax.__file__).parent), str(Path(__file__).parent))
    kinds = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield
    found = {
        f"{w.filename}:{w.lineno}: {w.message}"
        for w in seen
        if issubclass(w.category, kinds) and w.filename.startswith(ours)
    }
    assert not found, "\n".join(sorted(found))


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Handles events until a condition holds."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        QApplication.processEvents()
        time.sleep(0.01)
    QApplication.processEvents()


class Hand:
    """Mouse and keyboard on a viewer; places are pixels of the image."""

    def __init__(self, viewer):
        self.viewer = viewer
        self.canvas = viewer.window._qt_viewer.canvas.native
        self.canvas.setFocus()
        self.settle()

    def settle(self):
        from qtpy.QtWidgets import QApplication

        for _ in range(5):
            QApplication.processEvents()

    def screen(self, point):
        """Position on the canvas."""
        from qtpy.QtCore import QPointF

        layer = self.viewer.layers["cells"]
        world = np.asarray(layer.data_to_world(point))[-2:]
        from cellcount_jax.napari.drawing import view

        camera, size = view.camera(self.viewer), (self.canvas.height(), self.canvas.width())
        y, x = (world - np.array(camera.center[-2:])) * camera.zoom + np.array(size) / 2
        return QPointF(float(x), float(y))

    def _send(self, kind, at, button, held):
        from qtpy.QtCore import QPointF, Qt
        from qtpy.QtGui import QMouseEvent
        from qtpy.QtWidgets import QApplication

        globally = QPointF(self.canvas.mapToGlobal(at.toPoint()))
        event = QMouseEvent(kind, at, globally, button, held, Qt.KeyboardModifier.NoModifier)
        QApplication.sendEvent(self.canvas, event)
        self.settle()

    def click(self, point, right=False):
        self.drag(point, point, right=right)

    def drag(self, start, end, right=False):
        from qtpy.QtCore import QEvent, Qt

        buttons = Qt.MouseButton
        button = buttons.RightButton if right else buttons.LeftButton
        a, b = self.screen(start), self.screen(end)
        self._send(QEvent.Type.MouseMove, a, buttons.NoButton, buttons.NoButton)
        self._send(QEvent.Type.MouseButtonPress, a, button, button)
        if a != b:
            for share in (0.3, 0.6, 1.0):
                self._send(QEvent.Type.MouseMove, a + (b - a) * share, buttons.NoButton, button)
        self._send(QEvent.Type.MouseButtonRelease, b, button, buttons.NoButton)

    def key(self, name, control=False):
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        modifier = Qt.KeyboardModifier
        code = getattr(Qt.Key, f"Key_{name}")
        held = modifier.ControlModifier if control else modifier.NoModifier
        QTest.keyClick(self.canvas, code, held)
        self.settle()

    def screenshot(self, name):
        """What the window shows; it must not be blank."""
        self.settle()
        picture = self.viewer.screenshot(canvas_only=False, flash=False)
        canvas = self.viewer.screenshot(canvas_only=True, flash=False)
        assert canvas[..., :3].std() > 5, f"{name}: the canvas is blank"
        if SCREENSHOTS:
            from PIL import Image

            Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(Path(SCREENSHOTS) / f"{name}.png")
        return canvas


@pytest.fixture
def images(tmp_path) -> Path:
    """A folder of three simulated images without dots."""
    from cellcount_jax.simulation.simulate import write_simulated

    write_simulated(tmp_path / "folder", 3, seed=1, shape=(128, 128), count=25)
    for path in (tmp_path / "folder" / "dots").iterdir():
        path.unlink()
    return tmp_path / "folder"


@pytest.fixture
def volumes(tmp_path) -> Path:
    """A folder of one simulated volume with anisotropic voxels, without dots."""
    from cellcount_jax.simulation.simulate import write_simulated

    folder = tmp_path / "volumes"
    write_simulated(folder, 1, seed=1, shape=(16, 96, 96), count=12, preset="light_sheet")
    for path in (folder / "dots").iterdir():
        path.unlink()
    return folder


@pytest.fixture
def opened() -> Iterator[Callable[..., Hand]]:
    """Opens folders in real viewers, which are closed in the end."""
    from cellcount_jax.napari.launch import open_viewer
    from cellcount_jax.napari.workspace import workspace_of

    viewers = []

    def open_folder(folder: Path, **options) -> Hand:
        viewer = open_viewer(folder, **options)
        viewer.window._qt_window.resize(1300, 900)
        viewers.append(viewer)
        hand = Hand(viewer)
        viewer.reset_view()
        hand.settle()
        return hand

    yield open_folder
    for viewer in viewers:
        workspace_of(viewer).close_image()
        viewer.close()
