"""How long a click takes while annotating: 100,000 dots on 8192x8192, 20,000 dots in a volume.

    xvfb-run -a python -m benchmarks.speed.annotation_clicks

Clicks in a real viewer, each from the event to the drawn frame: half of them add a dot, the others
remove one. Beside it the part without the viewer: finding the dot, the journal on the disk, undo.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.output import add_arguments, finish, markdown, median_and_range, shown
from cellcount_jax.annotation.picking import pick
from cellcount_jax.annotation.session import Session

CASES = {"image 8192x8192": ((8192, 8192), 100_000), "volume": ((64, 512, 512), 20_000)}
CLICKS = 40


def milliseconds(function: Callable[[], Any]) -> float:
    """Of one call."""
    started = time.perf_counter()
    function()
    return 1000 * (time.perf_counter() - started)


def made(folder: Path, shape: tuple[int, ...], n: int) -> Session:
    """A session with this many proposals."""
    rng = np.random.default_rng(0)
    session = Session(folder / "a.journal", shape)
    points = rng.uniform(0, 1, (n, len(shape))) * (np.array(shape) - 1)
    session.propose(points, rng.uniform(0, 1, n))
    return session


def without_viewer(session: Session) -> list[float]:
    """Milliseconds of a click without drawing."""
    rng, times = np.random.default_rng(1), []
    for i in range(CLICKS):
        point = rng.uniform(0, 1, len(session.shape)) * (np.array(session.shape) - 1)

        def click(point: np.ndarray = point, i: int = i) -> None:
            pick(session.table.rows, session.is_counted(), point, radius=5.0)
            session.add(point) if i % 2 else session.remove(i)

        times.append(milliseconds(click))
    return times


def in_viewer(session: Session) -> list[float]:
    """Milliseconds of a click, its frame included."""
    import napari
    from qtpy.QtWidgets import QApplication

    from cellcount_jax.napari.annotator import LEFT, Annotator

    viewer = napari.Viewer()
    viewer.add_image(np.zeros(session.shape, np.uint8))
    annotator = Annotator(viewer, session, scale=(1.0,) * len(session.shape))
    viewer.reset_view()
    QApplication.processEvents()
    rng, times = np.random.default_rng(2), []
    for i in range(CLICKS):
        alive = np.flatnonzero(session.is_counted())
        if i % 2:
            point = session.table.get([rng.choice(alive)]).points[0].astype(float)
        else:
            point = rng.uniform(0, 1, len(session.shape)) * (np.array(session.shape) - 1)
        if len(session.shape) == 3:
            point[0] = np.rint(point[0])
            viewer.dims.set_point(0, point[0])
        QApplication.processEvents()

        def click(point: np.ndarray = point) -> None:
            annotator.click(point, annotator.pick(point), LEFT)
            viewer.window._qt_viewer.canvas.native.repaint()
            QApplication.processEvents()

        times.append(milliseconds(click))
    annotator.close()
    viewer.close()
    return times


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    options = parser.parse_args()
    found, rows = {}, []
    for name, (shape, n) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            session = made(Path(folder), shape, n)
            parts = {"without viewer": without_viewer(session), "in the viewer": in_viewer(session)}
            session.close()
        found[name] = {part: median_and_range(times) for part, times in parts.items()}
        rows.append([name, f"{n:,}", *(shown(found[name][part], 1) for part in parts)])
    head = ["", "dots", "without the viewer (ms)", "in the viewer (ms)"]
    finish(options, "annotation_clicks", found, markdown(head, rows))


if __name__ == "__main__":
    main()
