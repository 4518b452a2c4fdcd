"""The panel for annotating: proposals, classes, counts, slices, saving."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image
from qtpy.QtWidgets import QFileDialog, QGridLayout, QLabel, QLineEdit, QWidget

from cellcount_jax.annotation import folder, tally
from cellcount_jax.annotation import propose as proposing
from cellcount_jax.inference.counter import Counter
from cellcount_jax.inference.image_argument import ArrayReader
from cellcount_jax.io.annotations.dots import FORMAT_NAMES
from cellcount_jax.napari import controls
from cellcount_jax.napari.annotator import HELP
from cellcount_jax.napari.images import images_to_annotate, path_of, scale_of
from cellcount_jax.napari.keys import CLASS_KEYS
from cellcount_jax.napari.workspace import Workspace, workspace_of

LAYERS_FOLDER = Path.home() / "cellcount_annotation"
"""Journals of layers that come from no file."""


class AnnotateWidget(QWidget):
    """Proposes, counts live, saves; mouse and keys work without it."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self.workspace: Workspace = workspace_of(napari_viewer)
        self.worker: Any = None
        self.progress, self.message = controls.wrapped(), controls.wrapped(HELP)
        self.method = controls.choice(proposing.METHODS)
        self.diameter = controls.decimal(0, 0, 1000, self._set_diameter, special="estimate")
        self.dark = controls.choice(("bright cells", "dark cells"))
        self.propose_button = controls.button("Propose dots", self.propose)
        self.format = controls.choice(FORMAT_NAMES)
        self.format.setCurrentText("csv")
        self.counts = controls.wrapped()
        self.volume = self._slice_controls()
        controls.column(
            self,
            self.progress,
            controls.row(
                controls.button("Open folder ...", self._ask_folder),
                controls.button("Annotate the selected layer", self.annotate_layer),
            ),
            "Proposals",
            controls.row(self.method, self.dark),
            controls.row("cell diameter (px)", self.diameter),
            self.propose_button,
            "Classes and counts",
            self._class_table(),
            self.counts,
            controls.button("Count in regions ...", self._ask_regions),
            self.volume,
            "Save",
            controls.row(controls.button("Undo", self._undo), controls.button("Redo", self._redo)),
            controls.button("Save dots (Ctrl+S)", self.save, tip="dots/ of the folder"),
            controls.button("Save and next image", self.save_and_next),
            controls.row("as", self.format, controls.button("Export ...", self._ask_export)),
            self.message,
        )
        self.workspace.on_change.append(self.update_progress)
        self.workspace.on_dots.append(self.update_counts)
        window = getattr(self.workspace.viewer.window, "_qt_window", None)
        self.keys = None if window is None else controls.OwnKeys(self, window, self._actions)
        self.update_progress()
        self.update_counts()

    def _slice_controls(self) -> QWidget:
        self.near = controls.number(2, 0, 50, self._set_near, tip="slices to both sides")
        self.checked = controls.slider(0, self._set_checked)
        self.checked_label = QLabel()
        self.in_3d = controls.button("3-D view / slices", self.toggle_3d)
        panel = QWidget()
        controls.column(
            panel,
            "Slices",
            controls.row("show dots of near slices", self.near),
            controls.row("checked up to", self.checked, self.checked_label),
            self.in_3d,
        )
        return panel

    def _class_table(self) -> QWidget:
        table = QWidget()
        grid = QGridLayout(table)
        grid.setContentsMargins(0, 0, 0, 0)
        self.names, self.numbers = [], []
        for i, key in enumerate(CLASS_KEYS):
            name, count = QLineEdit(), QLabel("0")
            name.editingFinished.connect(self._rename)
            grid.addWidget(controls.button(key, functools.partial(self._choose_class, i)), i, 0)
            grid.addWidget(name, i, 1)
            grid.addWidget(count, i, 2)
            self.names.append(name)
            self.numbers.append(count)
        return table

    # What the buttons do

    def propose(self) -> None:
        """Proposes dots by the chosen method, in the background."""
        workspace, method = self.workspace, self.method.currentText()
        image, scale = self._readable()
        if image is None:
            return
        diameter = self.diameter.value() or None
        dark = self.dark.currentText() == "dark cells"

        def work() -> proposing.Proposals:
            spacing = scale if len(set(scale)) > 1 or scale[0] != 1 else None
            if method == "model":
                return proposing.by_model(Counter.load(workspace.model), image, spacing=spacing)
            options = {"diameter": diameter, "dark": dark, "spacing": spacing}
            return proposing.classical(image, method=method, **options)

        self.propose_button.setEnabled(False)
        self.message.setText(f"proposing by {method} ...")
        self.worker = controls.run_in_background(work, on_done=self._proposed)
        self.worker.finished.connect(lambda: self.propose_button.setEnabled(True))

    def _proposed(self, proposals: proposing.Proposals) -> None:
        number = self.workspace.propose(proposals)
        self.message.setText(f"{number} proposals; n goes to the most doubtful one. {HELP}")

    def _readable(self) -> tuple[Any, tuple[float, ...]]:
        """The open image, or the layer that is annotated."""
        workspace = self.workspace
        if workspace.image is not None:
            return workspace.image, scale_of(workspace.image)
        if workspace.annotator is None:
            self.annotate_layer()
        if workspace.image is not None:
            return workspace.image, scale_of(workspace.image)
        layer = workspace.layer
        if layer is None:
            return None, ()
        axis = layer.ndim if layer.rgb else None
        return ArrayReader(layer.data, axis), tuple(float(s) for s in layer.scale)

    def annotate_layer(self) -> None:
        """Annotates the selected image layer: of its file, or else of the layer itself."""
        viewer = self.workspace.viewer
        images = images_to_annotate(viewer.layers)
        if not images:
            self.message.setText("open an image, or a folder of images, first")
            return
        path = path_of(images[0])
        if path is not None and path.exists():
            viewer.layers.remove(images[0])
            self.workspace.open_image(path)
        else:
            self.workspace.open_layer(images[0], LAYERS_FOLDER)

    def save(self) -> None:
        """Writes the dots into the folder."""
        target = self.workspace.save()
        if target is not None:
            self.message.setText(f"saved: {target}")

    def save_and_next(self) -> None:
        """Writes the dots and opens the next image of the queue."""
        if self.workspace.save() is None:
            return
        following = self.workspace.next_of_queue()
        if following is None:
            self.message.setText("every image of the folder has saved dots")
        else:
            self.workspace.open_image(following)

    def toggle_3d(self) -> None:
        """Shows the volume with its dots, or the slices."""
        viewer = self.workspace.viewer
        viewer.dims.ndisplay = 5 - viewer.dims.ndisplay
        for layer in viewer.layers:
            if isinstance(layer, Image) and viewer.dims.ndisplay == 3:
                layer.rendering = "mip"

    def _actions(self) -> dict[str, Any]:
        annotator = self.workspace.annotator
        if annotator is None:
            return {}
        return {**annotator.qt_keys(), "Ctrl+S": lambda _: self.save()}

    # What is shown

    def update_progress(self) -> None:
        """Saved images and dots of the folder."""
        session, project = self.workspace.session, self.workspace.project
        self.volume.setVisible(session is not None and len(session.shape) == 3)
        if project is not None:
            done, n, dots = folder.progress(project)
            self.progress.setText(f"{done} of {n} images, {dots:,} dots")

    def update_counts(self) -> None:
        """Live counts of classes, slice, regions and image."""
        workspace, session = self.workspace, self.workspace.session
        if session is None or workspace.annotator is None:
            self.counts.setText("")
            return
        numbers = tally.per_class(session)
        for i, (edit, label) in enumerate(zip(self.names, self.numbers, strict=True)):
            name = session.classes[i]
            if not edit.hasFocus():
                edit.setText(name)
            chosen = i == workspace.annotator.class_index
            label.setText(f"<b>{numbers.get(name, 0)}</b> (new dots)" if chosen else
                          str(numbers.get(name, 0)))  # fmt: skip
        self.counts.setText(self._count_text())
        if len(session.shape) == 3:
            self.checked.blockSignals(True)
            self.checked.setRange(0, session.shape[0])
            self.checked.setValue(session.checked)
            self.checked.blockSignals(False)
            self.checked_label.setText(f"{session.checked} of {session.shape[0]}")

    def _count_text(self) -> str:
        session, annotator = self.workspace.session, self.workspace.annotator
        assert session is not None and annotator is not None  # noqa: PT018
        states = tally.per_state(session)
        lines = [f"image: {int(session.is_counted().sum()):,} cells"]
        lines.append(
            f"of them {states['accepted'] + states['added']:,} by hand; {states['proposed']:,} "
            f"proposals not judged, {states['rejected']:,} marked as no cell"
        )
        at = annotator.layers.slice_index
        if at is not None:
            z = int(np.clip(round(at), 0, session.shape[0] - 1))
            known = " (checked)" if z < session.checked else ""
            lines.insert(1, f"slice {z}{known}: {tally.per_slice(session)[z]}")
        if self.workspace.regions:
            found = tally.per_region(session, self.workspace.regions)
            lines += [f"{name}: {count}" for name, count in found.items()]
        return "\n".join(lines)

    # Settings

    def _choose_class(self, index: int) -> None:
        if self.workspace.annotator is not None:
            self.workspace.annotator.set_class(index)

    def _rename(self) -> None:
        session, annotator = self.workspace.session, self.workspace.annotator
        names = [edit.text().strip() for edit in self.names]
        if session is None or annotator is None or names == session.classes[: len(names)]:
            return
        if not all(names) or len(set(names)) < len(names):
            self.message.setText("classes need names, each another one")
            return
        annotator.attempt(session.name_classes, names)
        self.update_counts()

    def _set_diameter(self, value: float) -> None:
        if self.workspace.annotator is not None and value >= 1:
            self.workspace.annotator.set_diameter(value)

    def _set_near(self, value: int) -> None:
        if self.workspace.annotator is not None:
            self.workspace.annotator.set_near(value)

    def _set_checked(self, value: int) -> None:
        session, annotator = self.workspace.session, self.workspace.annotator
        if session is not None and annotator is not None:
            annotator.attempt(session.set_checked, value)
            self.update_counts()

    def _undo(self) -> None:
        if self.workspace.annotator is not None:
            self.workspace.annotator.undo()

    def _redo(self) -> None:
        if self.workspace.annotator is not None:
            self.workspace.annotator.redo()

    def _ask_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Folder of images")
        if path:
            self.workspace.open_folder(Path(path))

    def _ask_regions(self) -> None:
        path = QFileDialog.getOpenFileName(self, "File of regions")[0]
        if path:
            self.workspace.set_regions(Path(path))

    def _ask_export(self) -> None:
        path = QFileDialog.getSaveFileName(self, "Export dots")[0]
        if path:
            self.workspace.save(path=Path(path), format=self.format.currentText())
