"""Makes the pictures and the animation of docs/annotate.md in docs/images.

    xvfb-run -a -s "-screen 0 1400x1000x24" python docs/make_annotation_figures.py

Run it in the top folder of the repository with the extra [napari]. Images are simulated.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from qtpy.QtWidgets import QApplication, QWidget

from cellcount_jax.io.annotations.dots import read_dots
from cellcount_jax.napari.annotate_widget import AnnotateWidget
from cellcount_jax.napari.count_widget import CountWidget
from cellcount_jax.napari.drawing import view
from cellcount_jax.napari.launch import open_viewer
from cellcount_jax.napari.mouse import LEFT
from cellcount_jax.napari.queue_widget import QueueWidget
from cellcount_jax.napari.workspace import workspace_of
from cellcount_jax.simulation.simulate import write_simulated

IMAGES, WORK = Path(__file__).parent / "images", Path("build/annotation")
WINDOW, SHOWN = (1240, 860), 900
COLOURS = 256
FRAME_SECONDS = 1.5


def settle(condition: Callable[[], bool] = lambda: True, seconds: float = 180.0) -> None:
    """Handles events until a condition holds."""
    end = time.monotonic() + seconds
    for _ in range(10):
        QApplication.processEvents()
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError("waited too long")
        QApplication.processEvents()
        time.sleep(0.02)


def folder_without_dots(name: str, n: int, **options: Any) -> tuple[Path, list[np.ndarray]]:
    """A folder of simulated images, and their true dots."""
    folder = WORK / name
    shutil.rmtree(folder, ignore_errors=True)
    write_simulated(folder, n, seed=3, **options)
    files = sorted((folder / "dots").iterdir())
    truth = [read_dots(path).points for path in files]
    for path in files:
        path.unlink()
    return folder, truth


class Camera:
    """Takes pictures of a viewer's window."""

    def __init__(self, folder: Path) -> None:
        self.viewer = open_viewer(folder)
        self.viewer.window._qt_window.resize(*WINDOW)
        self.frames: list[Image.Image] = []
        settle()
        self.viewer.reset_view()
        self.workspace = workspace_of(self.viewer)

    def panel(self, kind: type[QWidget]) -> Any:
        """A panel, brought to the front."""
        widget = self.viewer.window._qt_window.findChild(kind)
        dock = widget.parent()
        while dock is not None and not hasattr(dock, "raise_after"):
            if type(dock).__name__ == "QtViewerDockWidget":
                dock.raise_()
                break
            dock = dock.parent()
        settle()
        return widget

    def picture(self) -> Image.Image:
        """The window as it is."""
        settle()
        shot = Image.fromarray(self.viewer.screenshot(canvas_only=False, flash=False)[..., :3])
        return shot.resize((SHOWN, round(shot.height * SHOWN / shot.width)), Image.LANCZOS)

    def save(self, name: str) -> None:
        """Saves the window as a picture of the page."""
        rare_colours = Image.Quantize.MAXCOVERAGE  # of the current dot, of a place that is no cell
        paletted = self.picture().convert("RGB").quantize(COLOURS, rare_colours)
        paletted.save(IMAGES / f"{name}.png", optimize=True)

    def frame(self, caption: str, n: int = 1) -> None:
        """Adds frames with a caption to the animation."""
        picture = self.picture()
        draw, font = ImageDraw.Draw(picture), ImageFont.load_default(24)
        box = (8, picture.height - 46, 24 + draw.textlength(caption, font=font), picture.height - 8)
        draw.rectangle(box, fill="#0b3c49")
        draw.text((16, picture.height - 42), caption, font=font, fill="white")
        self.frames += [picture] * n

    def close(self) -> None:
        """Closes the viewer."""
        self.workspace.close_image()
        self.viewer.close()


def flat(camera: Camera, truth: list[np.ndarray]) -> None:
    """Annotates two images; pictures of proposals, training and queue, and the animation."""
    panel = camera.panel(AnnotateWidget)
    camera.frame("cellcount annotate my_cells", 2)
    add_dots(camera, truth[0][:3])
    judge_proposals(camera, panel)
    choose_classes(camera, truth[0][10:13])
    hide_and_save(camera, panel)
    open_next_of_queue(camera)
    count_and_train(camera)


def add_dots(camera: Camera, dots: np.ndarray) -> None:
    """Frames of dots [N, 2] added by clicks, undone and redone."""
    workspace, annotator = camera.workspace, camera.workspace.annotator
    for dot in dots:
        workspace.pointer.click(dot, workspace.pointer.pick(dot), LEFT)
        camera.frame("click: add a dot")
    annotator.undo()
    camera.frame("Ctrl+Z: undo")
    annotator.redo()
    camera.frame("Ctrl+Y: redo")


def judge_proposals(camera: Camera, panel: AnnotateWidget) -> None:
    """Frames and a picture of proposals, accepted and rejected by keys."""
    workspace, annotator = camera.workspace, camera.workspace.annotator
    panel.method.setCurrentText("model")
    panel.propose_button.click()
    settle(lambda: workspace.proposals is not None)
    camera.frame("Propose dots: rings, not judged yet", 2)
    for i in range(8):
        annotator.jump(1) if i == 0 else annotator.judge(accept=i % 3 != 0)
        camera.frame("n: the next doubtful dot" if i == 0 else
                     "Enter: accept" if i % 3 else "x: not a cell")  # fmt: skip
        if i == 3:
            camera.save("annotate-proposals")
    annotator.select(None)
    camera.viewer.reset_view()


def choose_classes(camera: Camera, dots: np.ndarray) -> None:
    """Frames of dots near `dots` [N, 2] put into classes."""
    workspace, annotator = camera.workspace, camera.workspace.annotator
    for index, dot in enumerate(dots):
        found = workspace.pointer.pick(dot)
        if found is not None:
            annotator.select(found.id)
            annotator.set_class(index + 1)
            camera.frame(f"{'wer'[index]}: class of the current dot")
    annotator.select(None)


def hide_and_save(camera: Camera, panel: AnnotateWidget) -> None:
    """Frames of hidden dots, live counts and saving."""
    annotator = camera.workspace.annotator
    annotator.toggle_dots()
    camera.frame("Space: hide all dots")
    annotator.toggle_dots()
    camera.frame("live counts per class and image", 2)
    panel.save()
    camera.frame("Ctrl+S: save; the journal has every act anyway", 2)


def open_next_of_queue(camera: Camera) -> None:
    """Frames and a picture of the sorted queue; opens its next image."""
    workspace = camera.workspace
    queue_panel = camera.panel(QueueWidget)
    queue_panel.sort_button.click()
    settle(lambda: queue_panel.message.text().startswith("sorted"))
    camera.frame("Queue: the most doubtful image next", 2)
    camera.save("annotate-queue")
    workspace.open_image(workspace.next_of_queue())


def count_and_train(camera: Camera) -> None:
    """Frames of counting and retraining, and a picture of the errors before and after."""
    workspace = camera.workspace
    count_panel = camera.panel(CountWidget)
    count_panel.count_button.click()
    settle(lambda: workspace.proposals is not None)
    camera.frame("Count this image", 2)
    for share in (300, 500, 700, 400):
        count_panel.threshold.setValue(share)
        camera.frame("threshold: acts at once, without the network")
    workspace.save()
    count_panel.steps.setValue(60)
    count_panel.train_button.click()
    while count_panel.process is not None and len(camera.frames) < 38:
        settle()
        time.sleep(3)
        camera.frame("Train on the corrected folder, in the background")
    settle(lambda: "new MAE" in count_panel.errors.text(), 900)
    camera.frame("the new model is chosen, its error beside the old one's", 2)
    camera.save("annotate-train")


def volume(camera: Camera, truth: list[np.ndarray]) -> None:
    """Pictures of slices and of the volume."""
    annotator = camera.workspace.annotator
    camera.panel(AnnotateWidget)
    for dot in truth[0]:
        annotator.session.add(np.clip(np.rint(dot), 0, np.array(annotator.session.shape) - 1))
    annotator.set_diameter(7.0)
    annotator.session.set_checked(6)
    middle = truth[0][len(truth[0]) // 2]
    annotator._to_slice(middle)
    annotator.refresh()
    camera.save("annotate-slices")
    camera.panel(AnnotateWidget).toggle_3d()
    view.camera(camera.viewer).angles = (10, 25, 60)
    view.camera(camera.viewer).zoom *= 1.3
    camera.save("annotate-volume")


def main() -> None:
    """Makes all of them."""
    IMAGES.mkdir(exist_ok=True)
    folder, truth = folder_without_dots("flat", 6, shape=(256, 256), count=70)
    camera = Camera(folder)
    flat(camera, truth)
    first, *rest = camera.frames
    options = {"duration": round(1000 * FRAME_SECONDS), "loop": 0, "quality": 45, "method": 6}
    first.save(IMAGES / "annotate.webp", save_all=True, append_images=rest, **options)
    print(f"{len(camera.frames)} frames, {len(camera.frames) * FRAME_SECONDS:.0f} s")
    camera.close()
    folder, truth = folder_without_dots(
        "volume", 1, shape=(24, 128, 128), count=60, preset="light_sheet"
    )
    camera = Camera(folder)
    volume(camera, truth)
    camera.close()


if __name__ == "__main__":
    main()
