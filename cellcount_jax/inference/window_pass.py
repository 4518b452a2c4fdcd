"""One pass over the windows of images: read, predicted in batches, gathered into counts.

What becomes of the maps is up to the sink: that of an image in memory keeps them
(`readout.StitchedMaps`), that of a larger one keeps sums and points (`readout.RunningCount`).
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from cellcount_jax.inference.batched_predict import BatchedPredictor, Maps, OutOfDeviceMemoryError
from cellcount_jax.inference.count import Count
from cellcount_jax.inference.network_input import NetworkInput
from cellcount_jax.inference.readout import RunningCount, StitchedMaps
from cellcount_jax.methods.base import Readout

NewSink = Callable[[Readout, NetworkInput], StitchedMaps | RunningCount]

OnWindow = Callable[[int, int], None]
"""Called with the number of windows done and of all of the image."""


def count_images(
    predictor: BatchedPredictor,
    images: Iterable[NetworkInput],
    *,
    new_sink: NewSink = StitchedMaps,
    offset: Sequence[int] | None = None,
    on_window: OnWindow | None = None,
) -> Iterator[Count]:
    """Counts of images, in order; windows of several images share batches.

    When a window does not fit into the device's memory, the images at hand begin anew with
    smaller windows.

    Args:
      predictor: computes the maps.
      images: taken one after the other, as batches need more windows.
      new_sink: makes what gathers the maps of an image.
      offset: of the grid of windows per axis, see `tiling.spans`.
      on_window: called after each window.

    Raises:
      OutOfDeviceMemoryError: the smallest window is too large for the device.
    """
    waiting: deque[_Gathering] = deque()
    left = iter(images)

    def windows() -> Iterator[np.ndarray]:
        for gathering in tuple(waiting):
            yield from gathering.windows()
        for image in left:
            waiting.append(_Gathering(image, predictor, new_sink, offset))
            yield from waiting[-1].windows()

    while True:
        try:
            for maps in predictor.maps(windows()):
                done, total = waiting[0].add(maps)
                if on_window is not None:
                    on_window(done, total)
                if done == total:
                    yield waiting.popleft().sink.finish()
            return
        except OutOfDeviceMemoryError as error:
            if not predictor.shrink(error.shape):
                raise
            for gathering in waiting:
                gathering.begin()


class _Gathering:
    """An image whose windows are being computed."""

    def __init__(
        self,
        image: NetworkInput,
        predictor: BatchedPredictor,
        new_sink: NewSink,
        offset: Sequence[int] | None,
    ):
        self._image, self._predictor = image, predictor
        self._new_sink, self._offset = new_sink, offset
        self.begin()

    def begin(self) -> None:
        """Begins, or begins anew with windows as the predictor wants them now."""
        self._windows = self._predictor.cut(self._image.space, offset=self._offset)
        self._done = 0
        self.sink = self._new_sink(self._predictor.stage.readout, self._image)

    def windows(self) -> Iterator[np.ndarray]:
        """[*window, C] of the windows that are not done."""
        return (self._image.window(w.read) for w in self._windows[self._done :])

    def add(self, maps: Maps) -> tuple[int, int]:
        """Takes the maps of the next window; returns the number of windows done and of all."""
        if self._image.is_constant:  # it holds no cell, whatever a network makes of it
            maps = {name: np.zeros_like(values) for name, values in maps.items()}
        self.sink.add(self._windows[self._done], maps)
        self._done += 1
        return self._done, len(self._windows)
