"""All dots of a large image as coloured squares of an image layer, where points would be too many.

A hundred thousand points take a graphics card, and even more so a computer without one, long to
draw; an image of the size of the canvas does not, however many dots it shows.
"""

from collections.abc import Sequence

import numpy as np
from napari.components import ViewerModel

from cellcount_jax.napari.drawing.point_rows import QUICK
from cellcount_jax.napari.drawing.view import Box
from cellcount_jax.napari.images import DRAWN

NAME = "dots (overview)"

FULL = 0.25
"""Share of the picture that squares may cover."""


def stamp(at: np.ndarray, colours: np.ndarray, *, shape: tuple[int, int], side: int) -> np.ndarray:
    """Draws a square around each pixel; later ones cover those before.

    Args:
      at: Pixels of the result, [N, 2] integers; they may lie outside.
      colours: RGBA, [N, 4] uint8.
      shape: Shape of the result.
      side: Side of a square, an odd number of pixels.

    Returns:
      [*shape, 4] uint8, transparent where there is no square.
    """
    picture = np.zeros((*shape, 4), np.uint8)
    words = picture.view(np.uint32)[..., 0]
    values = np.ascontiguousarray(colours, np.uint8).view(np.uint32)[:, 0]
    order, reach = np.zeros(shape, np.int64), side // 2
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            y, x = at[:, 0] + dy, at[:, 1] + dx
            inside = np.flatnonzero((y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1]))
            y, x = y[inside], x[inside]
            top = inside + 1 > order[y, x]  # not yet covered by a later one
            y, x, inside = y[top], x[top], inside[top]
            words[y, x], order[y, x] = values[inside], inside + 1
    return picture


def square_side(n: int, shape: tuple[int, int], *, largest: float) -> int:
    """Odd side of the squares of n points: 3, or up to `largest`, unless they would cover it all.

    Args:
      n: Number of points.
      shape: Shape of the picture.
      largest: Largest side of a square, in pixels of the picture.
    """
    side = max(3, int(largest) // 2 * 2 + 1)
    while side > 1 and n * side**2 > FULL * shape[0] * shape[1]:
        side -= 2
    return side


class Overview:
    """The image layer of the overview; invisible until it is drawn."""

    def __init__(
        self, viewer: ViewerModel, *, scale: Sequence[float], translate: Sequence[float]
    ) -> None:
        """Adds the layer.

        Args:
          viewer: The napari viewer.
          scale: World units per pixel of the annotated image along its last two axes.
          translate: World position of its first pixel along them.
        """
        self.scale, self.translate = np.array(scale), np.array(translate)
        empty = np.zeros((2, 2, 4), np.uint8)
        self.layer = viewer.add_image(empty, name=NAME, rgb=True, metadata=DRAWN)
        self.layer.visible = False
        self._box: Box | None = None
        self._side = 1

    def draw(
        self,
        points: np.ndarray,
        colours: np.ndarray,
        box: Box,
        *,
        shape: tuple[int, int],
        side: int,
    ) -> None:
        """Draws a square for each point of a box, at the place of the box.

        Args:
          points: Pixels of the image, [N, 2]; those outside the box do not appear.
          colours: RGBA, [N, 4] uint8.
          box: Part of the image that is drawn.
          shape: Shape of the picture.
          side: Side of a square, an odd number of pixels of the picture.
        """
        self._box, self._side = box, side
        step = (box.high - box.low) / np.array(shape)
        self.layer.data = stamp(self._pixels(points, shape), colours, shape=shape, side=side)
        self.layer.scale = step * self.scale
        self.layer.translate = (box.low + step / 2) * self.scale + self.translate

    def around(self, place: np.ndarray) -> Box:
        """Where points lie whose squares may touch that of a point [2]."""
        assert self._box is not None
        step = (self._box.high - self._box.low) / np.array(self.layer.data.shape[:2])
        return Box(place - (self._side + 1) * step, place + (self._side + 1) * step)

    def patch(self, place: np.ndarray, points: np.ndarray, colours: np.ndarray) -> None:
        """Draws the square of one place [2] anew; `refresh` shows it.

        Args:
          place: Place of a point that is drawn, or was.
          points: All points `around` it, [N, 2], in the order of `draw`.
          colours: RGBA, [N, 4] uint8.
        """
        shape, reach = self.layer.data.shape[:2], self._side // 2
        middle = self._pixels(place[None], shape)[0]
        low, high = np.maximum(middle - reach, 0), np.minimum(middle + reach + 1, shape)
        if (high <= low).any():
            return
        at = self._pixels(points, shape) - low
        size = (int(high[0] - low[0]), int(high[1] - low[1]))
        square = stamp(at, colours, shape=size, side=self._side)
        self.layer.data[low[0] : high[0], low[1] : high[1]] = square

    def refresh(self) -> None:
        """Shows what was patched."""
        self.layer.refresh(**QUICK)

    def _pixels(self, points: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        assert self._box is not None
        per_pixel = np.array(shape[:2]) / (self._box.high - self._box.low)
        return np.floor((points - self._box.low) * per_pixel).astype(np.int64)
