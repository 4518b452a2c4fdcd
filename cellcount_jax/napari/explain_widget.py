"""Why a counter of prototypes counts what it counts, as layers."""

from typing import Any

import numpy as np
from napari.components import ViewerModel
from qtpy.QtWidgets import QWidget

from cellcount_jax.explanation import prototypes as explaining
from cellcount_jax.inference.counter import Counter
from cellcount_jax.methods.base import Prototypes
from cellcount_jax.napari import controls
from cellcount_jax.napari.images import DRAWN
from cellcount_jax.napari.workspace import workspace_of
from cellcount_jax.reporting.prototype_figures import as_seen


class ExplainWidget(QWidget):
    """Adds the contribution map of each prototype, and the gallery of what it stands for."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self.workspace = workspace_of(napari_viewer)
        self.worker: Any = None
        self.layers: list[Any] = []
        self.table = controls.wrapped()
        self.explain_button = controls.button("Explain this count", self.explain)
        controls.column(
            self,
            controls.wrapped("For counters of prototypes, such as one of method countxplain."),
            self.explain_button,
            controls.button("Prototype gallery", self.show_gallery),
            controls.button("Remove these layers", self.clear),
            self.table,
        )

    def explain(self) -> None:
        """Counts the image and adds a layer per prototype: cells per position of the map."""
        image, model = self.workspace.image, self.workspace.model
        if image is None:
            self.table.setText("open an image of a folder first")
            return

        def work() -> tuple[explaining.Explanation, Prototypes]:
            counter = Counter.load(model)
            found = explaining.explain(counter, image.read(), spacing=image.spacing)
            return found, explaining.prototypes_of(counter)

        self.explain_button.setEnabled(False)
        self.worker = controls.run_in_background(work, on_done=self._explained)
        self.worker.finished.connect(lambda: self.explain_button.setEnabled(True))

    def _explained(self, result: tuple[explaining.Explanation, Prototypes]) -> None:
        found, prototypes = result
        image, annotator = self.workspace.image, self.workspace.annotator
        if image is None or annotator is None:
            return
        self.clear()
        maps = found.contribution
        pixels = np.array(image.space_shape) / maps.shape[:2]
        scale = np.array(annotator.scale) * pixels
        top = float(np.abs(maps).max()) or 1.0
        for k, name in enumerate(prototypes.names):
            layer = self.workspace.viewer.add_image(
                maps[..., k],
                name=f"{name}: {found.cells[k]:+.1f} cells",
                scale=scale,
                translate=(scale - annotator.scale) / 2,
                colormap="PiYG",
                contrast_limits=(-top, top),
                metadata=DRAWN,
                opacity=0.6,
                visible=k == int(np.abs(found.cells).argmax()),
            )
            self.layers.append(layer)
        rows = explaining.table(found, prototypes)
        self.table.setText("\n".join(f"{row['part']}: {row['cells']:+.2f} cells" for row in rows))

    def show_gallery(self) -> None:
        """Adds the training patches of each prototype, a row per prototype, best first."""
        try:
            counter = Counter.load(self.workspace.model)
            prototypes = explaining.prototypes_of(counter)
        except (ValueError, OSError, RuntimeError) as error:
            self.table.setText(str(error))
            return
        patches = as_seen(prototypes.provenance["top_patch"], counter.preprocessing)
        grid = np.concatenate([np.concatenate(list(row), axis=1) for row in patches], axis=0)
        layer = self.workspace.viewer.add_image(
            grid, name="prototype gallery", rgb=True, metadata=DRAWN
        )
        self.layers.append(layer)
        self.table.setText("rows, from above: " + ", ".join(prototypes.names))

    def clear(self) -> None:
        """Removes the layers that were added here."""
        for layer in self.layers:
            if layer in self.workspace.viewer.layers:
                self.workspace.viewer.layers.remove(layer)
        self.layers = []
