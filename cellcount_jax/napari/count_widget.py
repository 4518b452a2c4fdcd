"""The panel for counting, correcting and training again."""

import math
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from napari.components import ViewerModel
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog, QWidget

from cellcount_jax.annotation import propose, retrain, tally
from cellcount_jax.inference.bundled import MODELS
from cellcount_jax.inference.counter import Counter
from cellcount_jax.napari import controls
from cellcount_jax.napari.workspace import workspace_of
from cellcount_jax.prediction import predict_files

LOOK_EVERY = 500
"""Milliseconds between looks at a training."""


class CountWidget(QWidget):
    """Counts by a model, with a threshold that acts at once; trains in the background."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self.workspace = workspace_of(napari_viewer)
        self.worker: Any = None
        self.process: subprocess.Popen[str] | None = None
        self.run_folder: Path | None = None
        self.model = controls.choice(MODELS, self._choose)
        self.count_button = controls.button("Count this image", self.count)
        self.folder_button = controls.button("Count the folder", self.count_folder)
        self.result = controls.wrapped()
        self.threshold = controls.slider(controls.SLIDER_STEPS, self._slide)
        self.threshold_label = controls.wrapped()
        self.steps = controls.number(0, 0, 100_000, lambda _: None, tip="0: the default")
        self.train_button = controls.button("Train on the corrected folder", self.train)
        self.cancel_button = controls.button("Cancel", self.cancel)
        self.cancel_button.setEnabled(False)
        self.errors = controls.wrapped()
        self.figure = Figure(figsize=(3, 2), layout="constrained")
        self.canvas = FigureCanvasQTAgg(self.figure)
        self.canvas.setMinimumHeight(180)
        self.timer = QTimer(self)
        self.timer.timeout.connect(self.look)
        controls.column(
            self,
            "Count",
            controls.row("model", self.model, controls.button("...", self._ask_model)),
            controls.row(self.count_button, self.folder_button),
            self.result,
            "Threshold",
            self.threshold,
            self.threshold_label,
            "Train again",
            controls.row("steps", self.steps),
            controls.row(self.train_button, self.cancel_button),
            self.canvas,
            self.errors,
        )
        self.workspace.on_change.append(self.update_models)
        self.workspace.on_dots.append(self._show_count)
        self.update_models()

    def update_models(self) -> None:
        """Lists the folder's runs, the last one first, and the bundled models."""
        project = self.workspace.project
        runs = [] if project is None else [str(p) for p in retrain.runs_of(project.folder)]
        items = [*runs, *MODELS]
        if self.workspace.model not in items:
            items.insert(0, self.workspace.model)
        if items != [self.model.itemText(i) for i in range(self.model.count())]:
            self.model.blockSignals(True)
            self.model.clear()
            self.model.addItems(items)
            self.model.setCurrentText(self.workspace.model)
            self.model.blockSignals(False)

    def _choose(self, name: str) -> None:
        if name:
            self.workspace.model = name

    def _ask_model(self) -> None:
        path = QFileDialog.getOpenFileName(self, "Model", filter="*.cellcount")[0]
        if path:
            self.use(path)

    def use(self, model: str) -> None:
        """Counts with this model from now on."""
        self.workspace.model = model
        self.update_models()
        self.model.setCurrentText(model)

    # Counting

    def count(self) -> None:
        """Counts the open image in the background; its points become proposals."""
        image, model = self.workspace.image, self.workspace.model
        if image is None:
            self.result.setText("open an image of a folder first")
            return

        def work() -> propose.Proposals:
            spacing = image.spacing if image.spacing else None
            return propose.by_model(Counter.load(model), image, spacing=spacing)

        self.count_button.setEnabled(False)
        self.result.setText(f"counting with {model} ...")
        self.worker = controls.run_in_background(work, on_done=self._counted)
        self.worker.finished.connect(lambda: self.count_button.setEnabled(True))

    def _counted(self, proposals: propose.Proposals) -> None:
        self.workspace.propose(proposals)
        self._place_slider(proposals)
        self._show_count()

    def _show_count(self) -> None:
        session, proposals = self.workspace.session, self.workspace.proposals
        if session is None or proposals is None or proposals.count is None:
            return
        dots = int(session.is_counted().sum())
        states = tally.per_state(session)
        self.result.setText(
            f"model: {proposals.count:.1f} cells; dots now: {dots:,} ({states['proposed']:,} "
            "proposals not judged)"
        )

    def count_folder(self) -> None:
        """Counts all images of the folder into `counts/counts.csv`, in the background."""
        project, model = self.workspace.project, self.workspace.model
        if project is None:
            self.result.setText("open a folder first")
            return
        out = project.folder / "counts"

        def work() -> list[dict[str, str]]:
            return predict_files.count_files(
                Counter.load(model), [str(p) for p in project.images], out, model=model
            )

        self.folder_button.setEnabled(False)
        self.result.setText(f"counting {len(project.images)} images ...")
        self.worker = controls.run_in_background(
            work, on_done=lambda rows: self.result.setText(_sum_text(rows, out))
        )
        self.worker.finished.connect(lambda: self.folder_button.setEnabled(True))

    # Threshold

    def _range(self) -> tuple[float, float]:
        proposals = self.workspace.proposals
        if proposals is None or not len(proposals.scores):
            return 0.0, 1.0
        return float(proposals.scores.min()), float(proposals.scores.max())

    def _place_slider(self, proposals: propose.Proposals) -> None:
        low, high = self._range()
        share = 0.0
        if math.isfinite(proposals.threshold) and high > low:
            share = float(np.clip((proposals.threshold - low) / (high - low), 0, 1))
        self.threshold.blockSignals(True)
        self.threshold.setValue(round(share * controls.SLIDER_STEPS))
        self.threshold.blockSignals(False)
        self.threshold_label.setText(f"score {proposals.threshold:.3g}")

    def _slide(self, value: int) -> None:
        if self.workspace.annotator is None or self.workspace.proposals is None:
            return
        low, high = self._range()
        # The lowest score as it was computed may exceed the lowest as it was stored.
        threshold = low + (high - low) * value / controls.SLIDER_STEPS if value else -math.inf
        self.workspace.annotator.set_threshold(threshold)
        shown = f"score {threshold:.3g}" if value else "all scores"
        self.threshold_label.setText(f"{shown}; dots made by hand always count")

    # Training

    def train(self) -> None:
        """Trains on the folder's saved dots, from the weights of the chosen model."""
        project = self.workspace.project
        if project is None or self.process is not None:
            self.errors.setText("open a folder first" if project is None else "already training")
            return
        self.workspace.save()
        self.run_folder = retrain.next_run(project.folder)
        self.process = retrain.start(
            project.folder,
            self.run_folder,
            start_from=self.workspace.model,
            steps=self.steps.value() or None,
        )
        self.train_button.setEnabled(False)
        self.cancel_button.setEnabled(True)
        self.errors.setText("training ...")
        self.timer.start(LOOK_EVERY)

    def look(self) -> None:
        """Draws the curve; when the training has ended, compares the new model with the old."""
        if self.process is None or self.run_folder is None:
            return
        self._draw_curve()
        code = self.process.poll()
        if code is None:
            self.errors.setText(retrain.last_line(self.run_folder)[-160:])
            return
        self._stopped()
        if code:
            self.errors.setText(f"not trained: {retrain.last_line(self.run_folder)}")
            return
        assert self.workspace.project is not None
        models = [self.workspace.model, str(self.run_folder)]
        self.errors.setText("comparing the old and the new model ...")
        self.worker = controls.run_in_background(
            retrain.compare, self.workspace.project.folder, models, on_done=self._compared
        )

    def _compared(self, rows: list[dict[str, Any]]) -> None:
        old, new = rows
        self.use(new["model"])
        about = " (some were trained on)" if new["trained_on"] else ""
        self.errors.setText(
            f"on {new['n_images']} images{about}: old {_errors(old)}; new {_errors(new)}. "
            "The new model is chosen now."
        )

    def cancel(self) -> None:
        """Ends the training; the old model stays."""
        if self.process is not None:
            retrain.cancel(self.process)
            self._stopped()
            self.errors.setText(f"cancelled; {self.workspace.model} stays")

    def _stopped(self) -> None:
        self.process = None
        self.timer.stop()
        self.train_button.setEnabled(True)
        self.cancel_button.setEnabled(False)

    def _draw_curve(self) -> None:
        assert self.run_folder is not None
        self.figure.clear()
        left = self.figure.subplots()
        right = left.twinx()
        for axes, (name, points), colour in zip(
            (left, right),
            retrain.curve(self.run_folder).items(),
            ("#118ab2", "#ef476f"),
            strict=True,
        ):
            if not points:  # such as errors, where there are too few images to validate on
                axes.yaxis.set_visible(False)
                continue
            axes.plot(*np.reshape(points, (-1, 2)).T, ".-", color=colour)
            axes.set_ylabel("loss" if name == "train" else "validation MAE", color=colour)
        left.set_xlabel("step")
        self.canvas.draw_idle()

    def closeEvent(self, event: Any) -> None:  # noqa: N802
        """A training does not outlive its panel."""
        self.cancel()
        super().closeEvent(event)


def _errors(row: dict[str, Any]) -> str:
    points = "" if row["f1"] is None else f", F1 {row['f1']:.3f}"
    return f"MAE {row['mae']:.2f}{points}"


def _sum_text(rows: list[dict[str, str]], out: Path) -> str:
    good = [row for row in rows if row["status"] == "ok"]
    total = sum(float(row["count"]) for row in good)
    failed = len(rows) - len(good)
    return f"{len(good)} images, {total:,.1f} cells, {failed} failed: {out / 'counts.csv'}"
