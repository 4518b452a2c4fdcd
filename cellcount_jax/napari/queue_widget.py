"""The images of a folder, the most doubtful first."""

from pathlib import Path
from typing import Any

from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QListWidget, QListWidgetItem, QWidget

from cellcount_jax.annotation import agreement, folder, queue
from cellcount_jax.inference.counter import Counter
from cellcount_jax.napari import controls
from cellcount_jax.napari.workspace import workspace_of


class QueueWidget(QWidget):
    """Lists the images; a double click opens one."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self.workspace = workspace_of(napari_viewer)
        self.worker: Any = None
        self.progress, self.message = controls.wrapped(), controls.wrapped()
        self.images = QListWidget()
        self.images.itemActivated.connect(self._activated)
        self.sort_button = controls.button(
            "Sort by doubt (counts the images)",
            self.sort,
            tip="counts every image by the model; those whose count is doubtful come first",
        )
        controls.column(
            self,
            self.progress,
            self.images,
            self.sort_button,
            controls.button("Next image", self.open_next),
            controls.button("Agreement of two observers", self.write_agreement),
            self.message,
        )
        self.workspace.on_change.append(self.update_list)
        self.update_list()

    def update_list(self) -> None:
        """Draws the list again."""
        project = self.workspace.project
        if project is None:
            self.progress.setText("no folder is open")
            return
        done_images = self.workspace.done()
        done, n, dots = folder.progress(project)
        self.progress.setText(f"{done} of {n} images, {dots:,} dots")
        self.images.clear()
        here = self.workspace.image.path if self.workspace.image is not None else None
        for path in self.workspace.order:
            mark = "✓" if path in done_images else "▶" if path == here else "  "
            item = QListWidgetItem(f"{mark} {project.key(path)}")
            item.setData(Qt.ItemDataRole.UserRole, str(path))
            self.images.addItem(item)
            if path == here:
                self.images.setCurrentItem(item)

    def _activated(self, item: QListWidgetItem) -> None:
        self.workspace.open_image(Path(item.data(Qt.ItemDataRole.UserRole)))

    def open_next(self) -> None:
        """Opens the next image without saved dots."""
        following = self.workspace.next_of_queue()
        if following is None:
            self.message.setText("every image has saved dots")
        else:
            self.workspace.open_image(following)

    def sort(self) -> None:
        """Counts the images in the background, then sorts them."""
        project, workspace = self.workspace.project, self.workspace
        if project is None:
            return
        done = workspace.done()
        rest = [p for p in project.images if p not in done]

        def work() -> list[queue.Doubt]:
            counter, names = Counter.load(workspace.model), [project.key(p) for p in rest]
            return queue.rank_folder(counter, rest, names, labelled=sorted(done))

        self.sort_button.setEnabled(False)
        self.message.setText(f"counting {len(rest)} images ...")
        self.worker = controls.run_in_background(work, on_done=self._sorted)
        self.worker.finished.connect(lambda: self.sort_button.setEnabled(True))

    def _sorted(self, doubts: list[queue.Doubt]) -> None:
        project = self.workspace.project
        if project is None:
            return
        queue.write_queue(project.root / "annotation" / "queue.csv", doubts)
        self.workspace.sort_queue()
        self.message.setText(f"sorted: {doubts[0].image} first" if doubts else "nothing to sort")
        self.update_list()

    def write_agreement(self) -> None:
        """Writes the page of this folder's observers."""
        project = self.workspace.project
        if project is None:
            return
        try:
            path, found = agreement.write_page(project.folder)
        except ValueError as error:
            self.message.setText(str(error))
        else:
            self.message.setText(f"F1 {found['f1']:.3f} on {found['n_images']} images: {path}")
