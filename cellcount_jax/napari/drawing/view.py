"""What a viewer shows, and text on its canvas, by the names of napari 0.9 and before."""

from typing import Any, NamedTuple

import numpy as np
from napari.components import ViewerModel
from napari.utils.notifications import show_error


class Box(NamedTuple):
    """A rectangle of the last two axes.

    Attributes:
      low: Its lower corner, [2] pixels.
      high: Its upper corner, [2] pixels.
    """

    low: np.ndarray
    high: np.ndarray

    def widened(self, share: float) -> "Box":
        """Larger by a share of its sides, to all of its sides."""
        more = share * (self.high - self.low)
        return Box(self.low - more, self.high + more)

    def holds(self, points: np.ndarray) -> np.ndarray:
        """[N] whether points [N, ndim] lie in it."""
        y, x = points[:, -2], points[:, -1]
        inside: np.ndarray = (y >= self.low[0]) & (y <= self.high[0])
        inside &= (x >= self.low[1]) & (x <= self.high[1])
        return inside


def camera(viewer: ViewerModel) -> Any:
    """The camera of a viewer."""
    return viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera


def canvas_size(viewer: ViewerModel) -> tuple[int, int]:
    """(height, width) of the canvas in pixels of the screen."""
    height, width = viewer.canvas.size if hasattr(viewer, "scene") else viewer._canvas_size
    return height, width


def text_overlay(viewer: ViewerModel) -> Any:
    """The text on the canvas."""
    return viewer.canvas.overlays["text"] if hasattr(viewer, "scene") else viewer.text_overlay


def shout(viewer: ViewerModel, text: str) -> None:
    """Shows a failure in red on the canvas until `hush`, and as a notification."""
    overlay = text_overlay(viewer)
    overlay.text, overlay.color, overlay.font_size = text, "red", 16
    overlay.visible = True
    show_error(text)


def hush(viewer: ViewerModel) -> None:
    """Removes the text."""
    text_overlay(viewer).visible = False


def shows_slices(viewer: ViewerModel) -> bool:
    """Whether the plane of the last two axes is shown: neither a 3-D view nor other axes."""
    last = {viewer.dims.ndim - 2, viewer.dims.ndim - 1}
    return viewer.dims.ndisplay == 2 and set(viewer.dims.displayed) == last


def in_view(viewer: ViewerModel, layer: Any) -> Box | None:
    """The pixels of a layer that the canvas shows; None where it shows no plane of the last axes.

    Args:
      viewer: The napari viewer.
      layer: A layer, scaled and shifted, not turned.
    """
    if not shows_slices(viewer):
        return None
    seen = camera(viewer)
    half = np.array(canvas_size(viewer)) / max(2 * seen.zoom, 1e-9)
    middle = np.array(seen.center[-2:], float)
    if viewer.dims.displayed[0] > viewer.dims.displayed[1]:  # the axes are swapped
        half, middle = half[::-1], middle[::-1]
    scale, shift = np.array(layer.scale[-2:]), np.array(layer.translate[-2:])
    return Box((middle - half - shift) / scale, (middle + half - shift) / scale)
