"""How long a click takes while annotating: 100,000 dots on 8192x8192, 20,000 dots in a volume.

    xvfb-run -a -s "-screen 0 1400x1000x24" python -m benchmarks.speed.annotation_clicks [--record]

Clicks in the real viewer with all its panels, the whole image in view and zoomed in to one pixel
of the screen per pixel. Every other click adds a dot, the others remove one. "Handled" is from the
event until the dot is found, the edit is in the journal on disk, and layers and counts are
up to date; "frame" is the time the viewer then takes to draw, and beside it that with hidden dots:
without a graphics card that is mostly the image. "Proposals" is from the proposed dots to the
drawn frame.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.output import add_arguments, finish, markdown, median_and_range, shown

CASES = {"image 8192x8192": ((8192, 8192), 100_000), "volume": ((64, 512, 512), 20_000)}
CLICKS = 40
COLUMNS = ("handled", "frame", "frame without dots")


def milliseconds(function: Callable[[], Any]) -> float:
    """Milliseconds of one call."""
    started = time.perf_counter()
    function()
    return 1000 * (time.perf_counter() - started)


class Opened:
    """A viewer with a folder of one image and the given number of proposals."""

    def __init__(self, folder: Path, shape: tuple[int, ...], n: int) -> None:
        import tifffile

        from cellcount_jax.annotation.propose import Proposals
        from cellcount_jax.napari.launch import open_viewer
        from cellcount_jax.napari.workspace import workspace_of

        self.rng, self.shape = np.random.default_rng(0), shape
        pixels = self.rng.integers(0, 200, (256, 256), np.uint8)
        tiled = np.tile(pixels, (shape[-2] // 256, shape[-1] // 256))
        axes = "ZYX"[-len(shape) :]
        tifffile.imwrite(
            folder / "a.ome.tif", np.broadcast_to(tiled, shape), metadata={"axes": axes}
        )
        self.viewer = open_viewer(folder)
        self.workspace = workspace_of(self.viewer)
        scores = self.rng.uniform(0, 1, n).astype(np.float32)
        points = np.stack([self.place() for _ in range(n)]).astype(np.float32)
        proposals = Proposals(points, scores, 0.0)
        self.seconds_proposals = milliseconds(lambda: self._propose(proposals)) / 1000

    def _propose(self, proposals: Any) -> None:
        self.workspace.propose(proposals)
        self.draw()

    def draw(self) -> None:
        """Draws a frame."""
        from qtpy.QtWidgets import QApplication

        self.viewer.window._qt_viewer.canvas.native.repaint()
        QApplication.processEvents()

    def place(self) -> np.ndarray:
        """A random place of the image, on a slice."""
        at = self.rng.uniform(0, 1, len(self.shape)) * (np.array(self.shape) - 1)
        return np.rint(at) if len(at) == 3 else at

    def clicks(self, *, zoom: float | None) -> dict[str, list[float]]:
        """Milliseconds of the parts of each click."""
        from cellcount_jax.napari.drawing import view
        from cellcount_jax.napari.mouse import LEFT

        pointer, annotator = self.workspace.pointer, self.workspace.annotator
        assert pointer is not None and annotator is not None  # noqa: PT018
        session = annotator.session
        self.viewer.reset_view()
        if zoom is not None:
            view.camera(self.viewer).zoom = zoom / annotator.scale[-1]
        times: dict[str, list[float]] = {name: [] for name in COLUMNS}
        for i in range(CLICKS):
            alive = np.flatnonzero(session.is_counted())
            point = self.place() if i % 2 else session.table.get([self.rng.choice(alive)]).points[0]
            if zoom is not None or len(point) == 3:
                annotator.centre_on(point)
            self.draw()

            def click(point: np.ndarray = point) -> None:
                pointer.click(point, pointer.pick(point), LEFT)

            times["handled"].append(milliseconds(click))
            times["frame"].append(milliseconds(self.draw))
        annotator.layers.set_visible(False)
        for _ in range(CLICKS // 4):
            self.viewer.window._qt_viewer.canvas._scene_canvas.update()
            times["frame without dots"].append(milliseconds(self.draw))
        annotator.layers.set_visible(True)
        return times

    def close(self) -> None:
        """Closes image and viewer."""
        self.workspace.close_image()
        self.viewer.close()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    options = parser.parse_args()
    found: dict[str, Any] = {}
    rows = []
    for name, (shape, n) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            opened = Opened(Path(folder), shape, n)
            proposals = opened.seconds_proposals
            found[name] = {"dots": n, "seconds_proposals": proposals}
            for view, zoom in (("all in view", None), ("zoomed in", 1.0)):
                times = opened.clicks(zoom=zoom)
                parts = {part: median_and_range(times[part]) for part in COLUMNS}
                found[name][view] = parts
                rows.append([f"{name}, {view}", f"{n:,}", *(shown(parts[p], 0) for p in COLUMNS),
                             f"{proposals:.1f}"])  # fmt: skip
            opened.close()
    found["load"] = os.getloadavg()[0]
    head = ["", "dots", *(f"{part} (ms)" for part in COLUMNS), "proposals (s)"]
    finish(options, "annotation_clicks", found, markdown(head, rows))


if __name__ == "__main__":
    main()
