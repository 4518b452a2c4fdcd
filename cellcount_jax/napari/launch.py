"""Opens napari with the panels on a folder."""

from pathlib import Path

import napari
from qtpy.QtCore import QTimer

from cellcount_jax.napari.annotate_widget import AnnotateWidget
from cellcount_jax.napari.count_widget import CountWidget
from cellcount_jax.napari.queue_widget import QueueWidget
from cellcount_jax.napari.workspace import Workspace, workspace_of


def open_viewer(folder: Path, *, observer: str | None = None, show: bool = True) -> napari.Viewer:
    """A viewer with the panels and the first image of the folder's queue.

    Args:
      folder: Folder of images.
      observer: Name of a second observer, who does not see the first one's dots.
      show: Whether the window is shown.

    Raises:
      FolderError: No images.
    """
    viewer = napari.Viewer(title=f"cellcount annotate {folder}", show=show)
    annotate, queue = AnnotateWidget(viewer), QueueWidget(viewer)
    count = CountWidget(viewer)
    first = viewer.window.add_dock_widget(annotate, name="Annotate cells", area="right")
    for widget, name in ((count, "Count, correct, retrain"), (queue, "Queue of images")):
        viewer.window.add_dock_widget(widget, name=name, area="right", tabify=True)
    workspace_of(viewer).open_folder(folder, observer=observer)
    QTimer.singleShot(0, first.raise_)  # after napari has raised the panel that was added last
    return viewer


def annotate(folder: Path, *, observer: str | None = None) -> None:
    """Opens the folder and returns when the window is closed."""
    viewer = open_viewer(folder, observer=observer)
    workspace: Workspace = workspace_of(viewer)
    try:
        napari.run()
    finally:
        workspace.close_image()
