"""Images as a network takes them: resized, normalised and read by windows.

The brightness range is that of the whole image, so a window holds the values that it has in the
whole, and counting window by window gives what the whole image in memory would give.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from cellcount_jax.data.preprocess import (
    IntensityRange,
    Preprocessing,
    Readable,
    apply,
    intensity_range,
    preprocess,
)
from cellcount_jax.data.resize import Scale, resize_image, resize_part, resized_shape
from cellcount_jax.data.windows import Box, reflected_indices, unfold
from cellcount_jax.inference import tiling

PIXELS_IN_MEMORY = 2**25
"""Images of more pixels (without channels) are read and counted window by window."""

N_INTENSITY_WINDOWS = 24
"""Windows over which the brightness range of an image is measured that is resized on reading."""


@dataclasses.dataclass(frozen=True)
class NetworkInput:
    """An image as a network takes it.

    Attributes:
      space: shape without channels, after resizing.
      read: box within the image -> [*box, C] float32.
      scale: by which the image was resized.
      is_constant: whether all pixels of the image have one value.
    """

    space: tuple[int, ...]
    read: Callable[[Box], np.ndarray]
    scale: Scale = 1.0
    is_constant: bool = False

    def window(self, window: Box) -> np.ndarray:
        """[*window, C]; beyond its far ends the image continues as its mirror image."""
        at = [
            reflected_indices(n, b.start, b.stop - b.start)
            for n, b in zip(self.space, window, strict=True)
        ]
        box = tuple(slice(int(a.min()), int(a.max()) + 1) for a in at)
        return unfold(self.read(box), at)


def from_array(
    pixels: np.ndarray, preprocessing: Preprocessing, *, scale: Scale = 1.0
) -> NetworkInput:
    """An image in memory, resized and normalised as a whole.

    Args:
      pixels: [*space, C] as read from a file.
      preprocessing: of the network.
      scale: by which the image is resized.

    Raises:
      ValueError: pixels that the network cannot take.
    """
    prepared = preprocess(resize_image(pixels, scale), preprocessing)
    is_constant = bool(pixels.min() == pixels.max())
    return NetworkInput(prepared.shape[:-1], prepared.__getitem__, scale, is_constant)


def from_reader(
    image: Readable, preprocessing: Preprocessing, *, scale: Scale = 1.0
) -> NetworkInput:
    """An image of any size, resized and normalised window by window as it is read.

    Args:
      image: open, such as a `LazyImage`.
      preprocessing: of the network.
      scale: by which the image is resized.

    Raises:
      ValueError: the image is damaged, or its pixels are such that the network cannot take them.
    """
    stored = image.shape[:-1]
    space = resized_shape(stored, scale)

    def pixels(box: Box) -> np.ndarray:
        return resize_part(image.read, stored, space, box)

    if space == stored:
        range_ = intensity_range(image, preprocessing)
    else:
        range_ = _sampled_range(pixels, space, preprocessing)

    def read(box: Box) -> np.ndarray:
        return apply(pixels(box), preprocessing, range_)

    return NetworkInput(space, read, scale, _is_constant(image))


def _is_constant(image: Readable) -> bool:
    """Whether all pixels have one value; known from the first window of most images."""
    space = image.shape[:-1]
    sides = [min(n, tiling.MAX_WINDOW[len(space)]) for n in space]
    value = None
    for window in tiling.windows(space, sides, halo=0, stride=1):
        part = image.read(window.own)
        value = part.flat[0] if value is None else value
        if part.min() != value or part.max() != value:
            return False
    return True


def _sampled_range(
    pixels: Callable[[Box], np.ndarray], space: Sequence[int], preprocessing: Preprocessing
) -> IntensityRange:
    """Brightness range of a resized image, from windows spread over it."""
    ndim = len(space)
    sides = [min(n, tiling.MAX_WINDOW[ndim] // 2) for n in space]
    each = math.ceil(N_INTENSITY_WINDOWS ** (1 / ndim))
    starts = [
        np.unique(np.linspace(0, n - s, each).astype(int))
        for n, s in zip(space, sides, strict=True)
    ]
    corners = np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, ndim)
    boxes = [tuple(slice(a, a + s) for a, s in zip(c, sides, strict=True)) for c in corners]
    return intensity_range(np.stack([pixels(b) for b in boxes]), preprocessing)
