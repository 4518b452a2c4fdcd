"""One pass over the windows of images: read, predicted in batches, gathered into counts.

An image in memory is resized and normalised as a whole (`from_array`) and its maps are kept
(`readout.StitchedMaps`). Windows of a larger image are read, resized and normalised one by one
(`from_reader`), and sums and points are kept (`readout.RunningCount`). The intensity range is that
of the whole image in both cases, so both give the same count.
"""

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from cellcount_jax.data.preprocess import (
    IntensityRange,
    Preprocessing,
    apply,
    intensity_range,
    preprocess,
)
from cellcount_jax.data.resize import (
    Box,
    Scale,
    reflected_indices,
    resize_image,
    resize_part,
    resized_shape,
    unfold,
)
from cellcount_jax.inference import tiling
from cellcount_jax.inference.batched_predict import BatchedPredictor, Maps, OutOfDeviceMemoryError
from cellcount_jax.inference.count import Count
from cellcount_jax.inference.readout import RunningCount, StitchedMaps
from cellcount_jax.io.images.readable import Readable
from cellcount_jax.methods.base import Readout

PIXELS_IN_MEMORY = 2**25
"""Images with more pixels (without channels) are read and counted window by window."""

N_INTENSITY_WINDOWS = 24
"""Number of windows sampled to estimate the intensity range of an image resized while reading."""

NewSink = Callable[[Readout, Sequence[int], Scale], StitchedMaps | RunningCount]
"""Arguments: readout, space shape of the resized image, factor by which it was resized."""

OnWindow = Callable[[int, int], None]
"""Called with the number of windows done and their total in the image."""


@dataclasses.dataclass(frozen=True)
class NetworkInput:
    """An image as the network takes it.

    Attributes:
      space: Shape of the resized image without channels.
      read: Reads a box within the image as [*box, C] float32.
      scale: Factor by which the image was resized.
      is_constant: Whether all pixels of the image have one value.
    """

    space: tuple[int, ...]
    read: Callable[[Box], np.ndarray]
    scale: Scale = 1.0
    is_constant: bool = False

    def window(self, window: Box) -> np.ndarray:
        """Reads a window [*window, C]; beyond its far ends the image is mirrored."""
        at = [
            reflected_indices(n, b.start, b.stop - b.start)
            for n, b in zip(self.space, window, strict=True)
        ]
        box = tuple(slice(int(a.min()), int(a.max()) + 1) for a in at)
        return unfold(self.read(box), at)


def fits_in_memory(image: Readable) -> bool:
    """Whether an image is small enough to hold it and its maps in memory."""
    return math.prod(image.shape[:-1]) <= PIXELS_IN_MEMORY


def from_array(
    pixels: np.ndarray, preprocessing: Preprocessing, *, scale: Scale = 1.0
) -> NetworkInput:
    """An image in memory, resized and normalised as a whole.

    Args:
      pixels: Image [*space, C] as read from a file.
      preprocessing: Preprocessing of the network.
      scale: Factor by which the image is resized.

    Raises:
      ValueError: The network cannot take these pixels.
    """
    prepared = preprocess(resize_image(pixels, scale), preprocessing)
    is_constant = bool(pixels.min() == pixels.max())
    return NetworkInput(prepared.shape[:-1], prepared.__getitem__, scale, is_constant)


def from_reader(
    image: Readable, preprocessing: Preprocessing, *, scale: Scale = 1.0
) -> NetworkInput:
    """An image of any size, resized and normalised window by window as it is read.

    Args:
      image: Open image, such as a `LazyImage`.
      preprocessing: Preprocessing of the network.
      scale: Factor by which the image is resized.

    Raises:
      ValueError: The image is damaged, or the network cannot take its pixels.
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
    """Whether all pixels have one value; for most images the first window decides."""
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
    """Intensity range of a resized image, from windows spread over it."""
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


def count_images(
    predictor: BatchedPredictor,
    images: Iterable[NetworkInput],
    *,
    new_sink: NewSink = StitchedMaps,
    offset: Sequence[int] | None = None,
    on_window: OnWindow | None = None,
) -> Iterator[Count]:
    """Counts of images, in order; windows of several images share batches.

    When a window does not fit into the device's memory, the images in progress restart with
    smaller windows.

    Args:
      predictor: Computes the maps.
      images: Images, consumed as batches need more windows.
      new_sink: Makes the object that collects the maps of an image.
      offset: Origin of the grid of windows per axis, see `tiling.spans`.
      on_window: Called after each window.

    Raises:
      OutOfDeviceMemoryError: The smallest window is too large for the device.
    """
    left = iter(images)
    waiting: deque[_Gathering] = deque()

    def begin(image: NetworkInput) -> _Gathering:
        sink = new_sink(predictor.stage.readout, image.space, image.scale)
        return _Gathering(image, predictor.cut(image.space, offset=offset), sink)

    def windows() -> Iterator[np.ndarray]:
        for gathering in tuple(waiting):
            yield from gathering.rest()
        for image in left:
            waiting.append(begin(image))
            yield from waiting[-1].rest()

    while True:
        try:
            for maps in predictor.maps(windows()):
                first = waiting[0]
                first.add(maps)
                if on_window is not None:
                    on_window(first.done, len(first.windows))
                if first.done == len(first.windows):
                    yield waiting.popleft().sink.finish()
            return
        except OutOfDeviceMemoryError as error:
            if not predictor.shrink(error.shape):
                raise
            waiting = deque(begin(gathering.image) for gathering in waiting)


@dataclasses.dataclass
class _Gathering:
    """An image in progress: `done` windows are in its sink."""

    image: NetworkInput
    windows: list[tiling.Window]
    sink: StitchedMaps | RunningCount
    done: int = 0

    def rest(self) -> Iterator[np.ndarray]:
        """The windows [*window, C] that are not done."""
        return (self.image.window(w.read) for w in self.windows[self.done :])

    def add(self, maps: Maps) -> None:
        """Adds the maps of the next window."""
        if self.image.is_constant:  # no cells, whatever the network predicts
            maps = {name: np.zeros_like(values) for name, values in maps.items()}
        self.sink.add(self.windows[self.done], maps)
        self.done += 1
