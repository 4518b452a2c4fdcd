"""One pass over the windows of images: read, predicted in batches, gathered into counts.

What becomes of the maps is up to the sink of an image: an image in memory keeps them
(`readout.StitchedMaps`), one that is larger keeps sums and points (`readout.RunningCount`).
"""

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np

from cellcount_jax.inference import tiling
from cellcount_jax.inference.batched_predict import BatchedPredictor, Maps, OutOfDeviceMemoryError
from cellcount_jax.inference.network_input import NetworkInput
from cellcount_jax.inference.readout import Count, OpenDensity, RunningCount, StitchedMaps

OnWindow = Callable[[int, int], None]
"""Called with the number of windows done and of all."""


class Sink(Protocol):
    """Gathers the maps of one image."""

    def add(self, window: tiling.Window, maps: Maps) -> None:
        """Takes the maps of a window; windows come in raster order."""
        ...

    def finish(self) -> Count:
        """The count, once all windows are in."""
        ...


def count_images(
    predictor: BatchedPredictor,
    images: Iterable[NetworkInput],
    *,
    offset: Sequence[int] | None = None,
) -> Iterator[Count]:
    """Counts of images, in order, with their maps; windows of several images share batches.

    Args:
      predictor: computes the maps.
      images: taken one after the other, as batches need more windows.
      offset: of the grid of windows per axis, see `tiling.spans`.

    Raises:
      OutOfDeviceMemoryError: the smallest window is too large for the device.
    """
    sink = functools.partial(StitchedMaps, predictor.stage.readout)
    return _pass(predictor, images, sink, offset=offset)


def count_windows(
    predictor: BatchedPredictor,
    image: NetworkInput,
    *,
    on_window: OnWindow | None = None,
    open_density: OpenDensity | None = None,
) -> Count:
    """Count of an image of any size, without its maps.

    Args:
      predictor: computes the maps.
      image: its windows are read in raster order.
      on_window: called after each window.
      open_density: makes what takes the density box by box, if a map sums to the count.

    Raises:
      OutOfDeviceMemoryError: the smallest window is too large for the device.
    """
    readout = predictor.stage.readout
    sink = functools.partial(RunningCount, readout, open_density=open_density)
    return next(_pass(predictor, [image], sink, on_window=on_window))


def _pass(
    predictor: BatchedPredictor,
    images: Iterable[NetworkInput],
    new_sink: Callable[[NetworkInput], Sink],
    *,
    offset: Sequence[int] | None = None,
    on_window: OnWindow | None = None,
) -> Iterator[Count]:
    """Counts of images, in order.

    When a window does not fit into the device's memory, the images at hand begin anew with
    smaller windows.
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
        new_sink: Callable[[NetworkInput], Sink],
        offset: Sequence[int] | None,
    ):
        self._image, self._predictor = image, predictor
        self._new_sink, self._offset = new_sink, offset
        self.begin()

    def begin(self) -> None:
        """Begins, or begins anew with windows as the predictor wants them now."""
        self._windows = self._predictor.cut(self._image.space, offset=self._offset)
        self._done = 0
        self.sink = self._new_sink(self._image)

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
