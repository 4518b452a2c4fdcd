"""What the widgets of one viewer share: the folder, the open image, and the counter."""

import contextlib
import logging
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from napari.components import ViewerModel
from napari.utils.notifications import show_warning

from cellcount_jax.annotation import folder, queue
from cellcount_jax.annotation.propose import Proposals
from cellcount_jax.annotation.session import Session
from cellcount_jax.inference.bundled import DEFAULT_MODEL
from cellcount_jax.io.images.image import LazyImage
from cellcount_jax.io.regions import Region, regions_of
from cellcount_jax.napari.annotator import Annotator
from cellcount_jax.napari.images import add_image, scale_of
from cellcount_jax.napari.mouse import Pointer

_OF_VIEWER: "weakref.WeakKeyDictionary[ViewerModel, Workspace]" = weakref.WeakKeyDictionary()


class Workspace:
    """State of one viewer.

    `on_dots` is called after every act, and when another slice is looked at; `on_change` when the
    folder or the image is another one, or dots were saved.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self.project: folder.Project | None = None
        self.image: LazyImage | None = None
        self.layer: Any = None
        self.annotator: Annotator | None = None
        self.pointer: Pointer | None = None
        self.model = DEFAULT_MODEL
        self.regions_place: Path | None = None
        self.regions: list[Region] = []
        self.proposals: Proposals | None = None
        self.order: list[Path] = []
        self.on_dots: list[Callable[[], None]] = []
        self.on_change: list[Callable[[], None]] = []
        self._open: contextlib.ExitStack | None = None
        self._image_layers: list[Any] = []

    @property
    def session(self) -> Session | None:
        """Session of the open image."""
        return None if self.annotator is None else self.annotator.session

    def open_folder(self, path: Path, *, observer: str | None = None) -> None:
        """Opens a folder, and the first image of its queue that has no saved dots.

        Raises:
          FolderError: No images.
        """
        self.close_image()
        self.project = folder.open_project(path, observer=observer)
        self.sort_queue()
        image = self.next_of_queue()
        self.open_image(self.order[0] if image is None else image)

    def sort_queue(self) -> None:
        """The order of `annotation/queue.csv`, then that of the names."""
        assert self.project is not None
        names = queue.read_queue(self.project.root / "annotation" / "queue.csv")
        place = {name: i for i, name in enumerate(names)}
        key = self.project.key
        self.order = sorted(self.project.images, key=lambda p: place.get(key(p), len(place)))

    def done(self) -> set[Path]:
        """Images with saved dots."""
        if self.project is None:
            return set()
        saved = {row["image"] for row in folder.annotated(self.project)}
        return {p for p in self.order if self.project.key(p) in saved or p in self.project.dots}

    def next_of_queue(self) -> Path | None:
        """The first image of the queue without saved dots, after the open one if there is one."""
        done = self.done()
        at = self.order.index(self.image.path) + 1 if self.image is not None else 0
        later = [p for p in self.order[at:] + self.order[:at] if p not in done]
        return later[0] if later else None

    def open_image(self, path: Path) -> None:
        """Shows an image with its dots; the one before is closed, its acts are in its journal.

        Raises:
          ValueError: It cannot be read.
          RuntimeError: Another program edits it, or its journal cannot be used.
        """
        if self.project is None or path not in self.project.images:
            self.project = folder.open_project(path.parent)
            self.sort_queue()
        self.close_image()
        with contextlib.ExitStack() as stack, _shown_warnings():
            image, session = stack.enter_context(folder.open_image(self.project, path))
            self._show(image, session)
            self._open = stack.pop_all()
        self.changed()

    def open_layer(self, layer: Any, place: Path) -> None:
        """Annotates a layer that comes from no file; its journal lies in `place`."""
        self.close_image()
        with contextlib.ExitStack() as stack:
            shape = layer.data.shape[: 2 if layer.rgb else layer.ndim]
            session = Session(place / f"{layer.name}.journal", shape, who=folder.login())
            stack.callback(session.close)
            self.layer, axes = layer, len(shape)
            self._connect(session, layer.scale[-axes:].tolist(), layer.translate[-axes:].tolist())
            self._open = stack.pop_all()
        self.changed()

    def _show(self, image: LazyImage, session: Session) -> None:
        self.image = image
        self._image_layers = add_image(self.viewer, image)
        self._connect(session, scale_of(image), (0.0,) * image.ndim)
        self.viewer.layers.selection.active = self._image_layers[0]
        self.viewer.reset_view()
        if self.regions_place is not None:
            self.regions = regions_of(self.regions_place, image.path, image.space_shape)

    def _connect(
        self, session: Session, scale: Sequence[float], translate: Sequence[float]
    ) -> None:
        self.annotator = Annotator(self.viewer, session, scale=scale, translate=translate)
        self.annotator.on_change.append(self.dots_changed)
        self.pointer = Pointer(self.annotator)

    def close_image(self) -> None:
        """Closes the open image, if there is one."""
        if self.pointer is not None:
            self.pointer.close()
        if self.annotator is not None:
            self.annotator.close()
        for layer in self._image_layers:
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)
        if self._open is not None:
            self._open.close()
        self._open = self.image = self.layer = None
        self.annotator = self.pointer = self.proposals = None
        self._image_layers, self.regions = [], []

    def set_regions(self, place: Path) -> None:
        """Counts in the regions of a file, or of the files of a folder."""
        if self.image is not None:
            self.regions = regions_of(place, self.image.path, self.image.space_shape)
        self.regions_place = place
        self.changed()

    def save(self, *, path: Path | None = None, format: str = "csv") -> Path | None:
        """Writes the dots; a failure is shouted. Returns the file."""
        if self.annotator is None:
            return None
        if self.image is None or self.project is None:
            self.viewer.status = "this layer comes from no file; export the dots to a file"
            return None
        project, image, session = self.project, self.image.path, self.annotator.session
        with _shown_warnings():
            target = self.annotator.attempt(
                lambda: folder.save(project, image, session, path=path, format=format)
            )
        if target is not None:
            self.viewer.status = f"saved {target}"
            self.changed()
        return target

    def propose(self, proposals: Proposals) -> int:
        """Shows proposals, and counts those from their threshold on. Returns their number."""
        annotator = self.annotator
        if annotator is None:
            return 0
        session = annotator.session
        n = annotator.attempt(lambda: session.propose(proposals.points, proposals.scores))
        if n is None:
            return 0
        self.proposals = proposals
        annotator.set_threshold(proposals.threshold)
        return n

    def dots_changed(self) -> None:
        """Tells the widgets of dots."""
        for function in list(self.on_dots):
            function()

    def changed(self) -> None:
        """Tells all widgets."""
        for function in list(self.on_change):
            function()
        self.dots_changed()


def workspace_of(viewer: ViewerModel) -> Workspace:
    """The one workspace of a viewer."""
    model = getattr(viewer, "__wrapped__", viewer)  # napari hands plugins a wrapped viewer
    if model not in _OF_VIEWER:
        _OF_VIEWER[model] = Workspace(model)
    return _OF_VIEWER[model]


class _ToViewer(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        show_warning(record.getMessage())


@contextlib.contextmanager
def _shown_warnings() -> Any:
    """Shows warnings of the package in the viewer while the block runs."""
    logger, handler = logging.getLogger("cellcount_jax"), _ToViewer(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
